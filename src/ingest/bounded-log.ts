/**
 * Log lines that a stranger can cause: at most so many of a kind in a second, then one that counts the rest. A flood of
 * wrong signatures must not become a flood of lines.
 */
import type { Logger } from 'pino';

type Level = 'info' | 'warn' | 'error';

/** `kind` is what lines are counted by; there must be few of them. */
export type LogBounded = (level: Level, kind: string, fields: object, message: string) => void;

const LINES_MAX = 10;
const WINDOW_MS = 1_000;

export function makeBoundedLog(log: Pick<Logger, Level>): LogBounded {
  const counts = new Map<string, number>();
  return (level, kind, fields, message) => {
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    if (count <= LINES_MAX) log[level](fields, message);
    if (count > 1) return;
    const close = () => {
      const left = counts.get(kind)! - LINES_MAX;
      counts.delete(kind);
      if (left > 0) log[level]({ kind, count: left }, 'more of the same kind within a second');
    };
    setTimeout(close, WINDOW_MS).unref();
  };
}
