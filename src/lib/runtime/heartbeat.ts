/**
 * The heartbeat of one group in one worker, and how far it can be relied on. Others may take over what is held once the last
 * good one is older than the visibility timeout, whether Redis, the link or this process stood still: from then on nothing
 * may be done outside for what is held.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export type Heartbeat = {
  /** Asked right before an outside call: not trusted to a timer, as a process that was stopped runs on before those do. */
  isFresh: () => boolean;
  /** Resolves after the next good heartbeat; at once a new one is tried. */
  start: () => Promise<void>;
  stop: () => void;
};

const EVERY_MS_MAX = 1_000;
const RETRY_MS = 100;

export function makeHeartbeat(options: {
  visibilityTimeoutMs: number;
  beat: () => Promise<void>;
  /** The last good heartbeat is too old. */
  onStale: () => void;
  onError: (error: unknown) => void;
}): Heartbeat {
  const { visibilityTimeoutMs, beat, onStale, onError } = options;
  const stopping = new AbortController();
  const everyMs = Math.min(visibilityTimeoutMs / 3, EVERY_MS_MAX);
  let goodAt = clocks();
  let isTold = false;
  let watch: NodeJS.Timeout | undefined;

  return {
    isFresh,
    async start() {
      await beatOnce();
      void run();
    },
    stop() {
      stopping.abort();
      clearTimeout(watch);
    },
  };

  function isFresh(): boolean {
    const now = clocks();
    // The one clock stands still while a laptop sleeps, the other may be set.
    const ageMs = Math.max(now.monotonic - goodAt.monotonic, now.wall - goodAt.wall);
    if (ageMs < visibilityTimeoutMs) return true;
    if (!isTold) {
      isTold = true;
      onStale();
    }
    return false;
  }

  async function run(): Promise<void> {
    let waitMs = everyMs;
    while (!stopping.signal.aborted) {
      await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      try {
        isFresh();
        await beatOnce();
        // One that Redis heard late, after it was away, says nothing of now.
        waitMs = isFresh() ? everyMs : 0;
      } catch (error) {
        onError(error);
        waitMs = Math.min(RETRY_MS, everyMs);
      }
    }
  }

  async function beatOnce(): Promise<void> {
    // It counts from when it was sent: nobody knows when Redis heard it.
    const sentAt = clocks();
    await beat();
    goodAt = sentAt;
    isTold = false;
    clearTimeout(watch);
    if (!stopping.signal.aborted) watch = setTimeout(isFresh, visibilityTimeoutMs);
  }
}

function clocks(): { monotonic: number; wall: number } {
  return { monotonic: performance.now(), wall: Date.now() };
}
