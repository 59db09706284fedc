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

/**
 * Name, code, message and where it was thrown; never the fields that clients hang on their errors, as they hold requests
 * and bodies.
 */
export function describeError(error: unknown): { type?: string; message: string; code?: string; stack: string } {
  if (!(error instanceof Error)) return { message: 'not an error object', stack: 'not an error object' };
  const { name, code, stack = '' } = error as Error & { code?: unknown };
  const message = describeMessage(error);
  const frames = stack.split('\n').filter((line) => /^ +at /.test(line));
  return {
    ...{ type: name, message, ...(typeof code === 'string' ? { code } : {}) },
    stack: [`${name}: ${message}`, ...frames].join('\n'),
  };
}

const HARMLESS = /^(Maximum call stack size exceeded|Invalid (array|string) length|Invalid time value)$/;

/**
 * The message without what it quotes. `JSON.parse`, dates, time zones and the like put the text they were given into it;
 * Redis names the arguments of a command it does not know, a password among them.
 */
function describeMessage(error: Error): string {
  const { message } = error;
  const quotes = [SyntaxError, RangeError, URIError].some((type) => error instanceof type);
  if (quotes && !HARMLESS.test(message)) return 'withheld, as it may quote what was read';
  return message
    .replace(/(with args beginning with|Received)\b.*$/s, '$1 …')
    .replace(/"[^"]*"/g, '"…"')
    .replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, ' ');
}
