/** How a process ends that has not come to its own end: by an error that nothing caught, or by a signal while it starts. */

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Ends it at once when told to: while it starts it has nothing to hand back. The first process of a container would be deaf
 * otherwise, as the system lets a signal that nobody listens to pass it by. Returns a function that ends this.
 */
export function endOnSignal(): () => void {
  const end = () => process.exit(0);
  for (const signal of SIGNALS) process.on(signal, end);
  return () => {
    for (const signal of SIGNALS) process.off(signal, end);
  };
}

/**
 * `tell` says so without what clients hang on their errors and Node itself would print: the arguments of a command, the headers
 * of a request. The process then exits with 1, as it would by itself.
 */
export function endOnCrash(tell: (error: unknown) => void): void {
  const end = (error: unknown) => {
    try {
      tell(error);
    } finally {
      process.exit(1);
    }
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}
