/** Events that a dry run has ended: their leads are not in the CRM. */
import { parseEventId, streamIdTime } from './event-id.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';

const CHUNK = 500;
const ENTRIES_MAX = 20_000;

/** `since`: the time, ISO 8601, from which crm-sync's entries hold all of them. `isMore`: not all could be looked at. */
export async function countDryRuns({
  redis,
  keys,
}: {
  redis: RedisClient;
  keys: Keys;
}): Promise<{ count: number; since: string; isMore: boolean }> {
  const decided = new Set<string>();
  let count = 0;
  let oldestMs = Number.POSITIVE_INFINITY;
  let end = '+';
  for (let seen = 0; seen < ENTRIES_MAX; seen += CHUNK) {
    const entries = await redis.xrevrange(keys.stream('events:synced'), end, '-', 'COUNT', CHUNK);
    for (const [id, flat] of entries) {
      const { key = id, cause, data } = toRecord(flat);
      // The newest outcome of an event is the one that holds.
      if (decided.has(key)) continue;
      decided.add(key);
      if (!isDryRun(data)) continue;
      count += 1;
      oldestMs = Math.min(oldestMs, streamIdTime(parseEventId(cause ?? '')?.id ?? id));
    }
    const last = entries.at(-1)?.[0];
    if (last === undefined || entries.length < CHUNK) return { count, since: toIso(oldestMs), isMore: false };
    end = `(${last}`;
  }
  return { count, since: toIso(oldestMs), isMore: true };
}

/** The command that writes them to the CRM. */
export function dryRunsCommand(since: string): string {
  return `npm run -s gvi -- replay --group crm-sync --from ${since}`;
}

function isDryRun(data: string | undefined): boolean {
  return /"outcome":"dry_run"/.test(data ?? '');
}

function toIso(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : '';
}
