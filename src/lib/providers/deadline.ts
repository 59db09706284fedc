/**
 * A deadline of our own for what a client asks by `fetch`. A client's own may hang on a signal that Node.js forgets when garbage
 * is collected (nodejs/node#57736), and `fetch` may lose sight of any signal while it reads a body; Gemini's client ignores one
 * that is aborted already, and never clears its timer. So the wait ends here, whatever becomes of the call.
 */

/** `timeoutMs` are over. */
export class DeadlineError extends Error {
  override readonly name = 'TimeoutError';
  readonly timeoutMs: number;

  constructor(timeoutMs: number) {
    super(`There was no answer within ${timeoutMs} ms`);
    this.timeoutMs = timeoutMs;
  }
}

/** Runs one call, and aborts the signal it gives to it. Throws `DeadlineError`, and the reason of `signal` when that is aborted. */
export async function withDeadline<T>(
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const own = new AbortController();
  let end: () => void = () => {};
  const ended = new Promise<never>((_, reject) => {
    end = () => {
      // Before the call hears of it, which would tell of it in its own words.
      reject(signal.aborted ? signal.reason : new DeadlineError(timeoutMs));
      own.abort();
    };
  });
  const timer = setTimeout(end, timeoutMs);
  signal.addEventListener('abort', end, { once: true });
  try {
    return await Promise.race([ended, run(own.signal)]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
  }
}
