/** The log: JSON lines, readable ones in a terminal. No person's data and no secret is ever handed to it. */
import { type Logger, pino } from 'pino';

/** `readable` prints for people; it is meant for a terminal, never for production. */
export function makeLogger({ level, name, readable }: { level: string; name: string; readable: boolean }): Logger {
  return pino({
    level,
    name,
    serializers: { err: describeError },
    // What a dependency's error object may carry with it.
    redact: {
      paths: ['err.config', 'err.options', 'err.response', 'err.request', '*.authorization', '*.token'],
      remove: true,
    },
    ...(readable
      ? {
          transport: {
            target: 'pino-pretty',
            options: { ignore: 'pid,hostname', translateTime: 'HH:MM:ss.l', singleLine: true },
          },
        }
      : {}),
  });
}

/** Name, code and message; never the fields that clients hang on their errors, as they hold requests and bodies. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: 'not an error object' };
  const { code, stack } = error as Error & { code?: unknown };
  return { type: error.name, message: error.message, ...(typeof code === 'string' ? { code } : {}), stack };
}
