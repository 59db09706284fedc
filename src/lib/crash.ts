/**
 * Ends a process by an error that nothing caught. Node itself would print whatever clients hang on their errors: the
 * arguments of a command, the headers of a request.
 */

/** `tell` says so, without these fields. The process then exits with 1, as it would by itself. */
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
