/**
 * The slot for what is suspected to crash its worker: one for all groups of a process, so that a crash has one suspect. It
 * comes on top of the usual slots, which go on meanwhile.
 */
export type Isolation = {
  isFree: () => boolean;
  /** True when the slot is the caller's, until `leave`. */
  enter: () => boolean;
  leave: () => void;
  onFree: (listener: () => void) => void;
};

export function makeIsolation(): Isolation {
  const listeners: (() => void)[] = [];
  let isTaken = false;
  return {
    isFree: () => !isTaken,
    enter() {
      if (isTaken) return false;
      isTaken = true;
      return true;
    },
    leave() {
      isTaken = false;
      for (const listener of listeners) listener();
    },
    onFree: (listener) => listeners.push(listener),
  };
}
