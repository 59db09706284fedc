/** The signals that tell a process to end, told apart from an echo of one. */

/** What `npm run` has started hears a Ctrl-C twice: from the terminal, and from npm, which hands its own on. */
const ECHO_MS = 200;

/** `count` is 1 for the first. A SIGINT upon another one counts as the same. */
export function onEndSignals(
  tell: (signal: string, count: number) => void,
  signals: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT'],
): void {
  let count = 0;
  let interruptedAt = Number.NEGATIVE_INFINITY;
  const hear = (signal: string) => {
    if (signal === 'SIGINT') {
      if (performance.now() - interruptedAt < ECHO_MS) return;
      interruptedAt = performance.now();
    }
    count += 1;
    tell(signal, count);
  };
  for (const signal of signals) process.on(signal, hear);
}
