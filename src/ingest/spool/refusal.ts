/** Tells a Redis that is away, full or broken from one that refuses this very webhook. */
import { StoreUnavailableError } from '../../lib/append.js';

/** What Redis says in words of its own, within a script's error too, when it takes nothing from anybody. */
const AWAY = /\b(OOM|MISCONF|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|TRYAGAIN|BUSY)\b|max number of clients/;

/** False for what no waiting cures: a key of the wrong type, an error of the script, a bug of ours. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof StoreUnavailableError)) return false;
  const { cause } = error;
  if (!(cause instanceof Error)) return true;
  if (cause.name !== 'ReplyError') return !(cause instanceof TypeError || cause instanceof RangeError);
  return AWAY.test(cause.message) || !/^(ERR|WRONGTYPE)\b/.test(cause.message);
}

/** For the log: Redis' own words, which hold no webhook. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof StoreUnavailableError ? error.cause : error;
  return cause instanceof Error ? cause.message : 'unknown';
}
