/**
 * Bounds the memory that bodies under way take together. What exceeds it costs the oldest of them: many slow senders of
 * large bodies would otherwise take all there is, and a fast one is done long before it is the oldest.
 */

export type BodyShare = {
  /** May end the oldest share, this one included, through its `onEvicted`. */
  take: (bytes: number) => void;
  close: () => void;
};

export type BodyBudget = { open: (onEvicted: () => void) => BodyShare };

export function makeBodyBudget(bytesMax: number): BodyBudget {
  /** The oldest first. */
  const shares = new Map<BodyShare, { bytes: number; onEvicted: () => void }>();
  let total = 0;

  function close(share: BodyShare): void {
    total -= shares.get(share)?.bytes ?? 0;
    shares.delete(share);
  }

  return {
    open(onEvicted) {
      const held = { bytes: 0, onEvicted };
      const share: BodyShare = {
        take(bytes) {
          if (!shares.has(share)) return;
          held.bytes += bytes;
          total += bytes;
          for (const [oldest, { onEvicted: evict }] of shares) {
            if (total <= bytesMax) return;
            close(oldest);
            evict();
          }
        },
        close: () => close(share),
      };
      shares.set(share, held);
      return share;
    },
  };
}
