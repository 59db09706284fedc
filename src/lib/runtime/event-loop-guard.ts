/** Ends a process whose event loop hangs, as in an endless loop of a handler: nothing in that process could do so itself. */
import inspector from 'node:inspector';
import { Worker } from 'node:worker_threads';

const BOUND_MS_MIN = 30_000;
const BOUND_TIMEOUTS = 3;

/** How long an event loop may hang. */
export function eventLoopBoundMs(visibilityTimeoutMs: number): number {
  return Math.max(BOUND_MS_MIN, BOUND_TIMEOUTS * visibilityTimeoutMs);
}

/** Kills the process with SIGKILL when its event loop has not come round for `boundMs`; not while it is being debugged. */
export function guardEventLoop(boundMs: number): { stop: () => Promise<void> } {
  if (inspector.url() !== undefined) return { stop: async () => {} };
  const tickMs = Math.min(Math.max(Math.round(boundMs / 20), 20), 1_000);
  const beats = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const beat = new Int32Array(beats);
  const beating = setInterval(() => Atomics.add(beat, 0, 1), tickMs);
  beating.unref();
  const guard = new Worker(new URL('./event-loop-guard.mjs', import.meta.url), {
    workerData: { beats, boundMs, tickMs },
    execArgv: [],
  });
  guard.unref();
  return {
    async stop() {
      clearInterval(beating);
      await guard.terminate();
    },
  };
}
