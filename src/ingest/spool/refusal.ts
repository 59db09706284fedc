/** Tells a Redis that is away, full or broken from one that refuses this very webhook. */
import { StoreUnavailableError } from '../../lib/append.js';
import { judgeRedisError } from '../../lib/redis-errors.js';

/** False for what no waiting cures: a key of the wrong type, an error of the script, a bug of ours. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof StoreUnavailableError)) return false;
  const { cause } = error;
  const fault = judgeRedisError(cause);
  if (fault === undefined) return !(cause instanceof TypeError || cause instanceof RangeError);
  return fault.ingest === 'spool';
}

/** For the log: what the table calls it, as Redis' own words may quote what it was sent. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof StoreUnavailableError ? error.cause : error;
  const fault = judgeRedisError(cause);
  return fault?.code ?? (cause instanceof Error ? cause.message : 'unknown');
}
