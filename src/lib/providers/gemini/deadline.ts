/**
 * The SDK ignores a signal that is aborted already, never clears the timer of its own `timeout`, and so keeps a process
 * alive. Here the timer and the listener are ours, and both are gone when the call is over.
 */
import { timedOut } from './errors.js';

/** Runs one call. Throws `OutageError` after `timeoutMs`, and the reason of `signal` when that is aborted. */
export async function withDeadline<T>(
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const own = new AbortController();
  const abort = () => own.abort();
  const timer = setTimeout(abort, timeoutMs);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await run(own.signal);
  } catch (cause) {
    signal.throwIfAborted();
    // A body that stalls ends with the abort, too, but as a DOMException that the SDK does not wrap.
    if (own.signal.aborted) throw timedOut(timeoutMs);
    throw cause;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}
