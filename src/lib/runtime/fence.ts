/** The signal that a consumer gets: aborted when it must let go, and sure to be so before the next outside call. */
export type Fence = {
  signal: AbortSignal;
  abort: () => void;
};

/**
 * A process that was stopped and goes on handles what has arrived meanwhile before its timers, so no timer can abort in
 * time. The signal is therefore asked itself: whoever begins a call looks at `aborted`, and that looks at the heartbeat.
 */
export function makeFence(isFresh: () => boolean): Fence {
  const controller = new AbortController();
  const { signal } = controller;
  const isAborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')!.get!;
  Object.defineProperty(signal, 'aborted', {
    get: () => {
      if (!isAborted.call(signal) && !isFresh()) controller.abort();
      return isAborted.call(signal) as boolean;
    },
  });
  Object.defineProperty(signal, 'throwIfAborted', {
    value: () => {
      if (signal.aborted) throw signal.reason;
    },
  });
  return { signal, abort: () => controller.abort() };
}
