/** Events that a dry run has ended: their leads are not in the CRM. */
import { compareStreamIds, parseEventId, streamIdTime } from './event-id.js';
import type { Keys } from './keys.js';
import { makeSkim } from './maintenance.js';
import type { RedisClient } from './redis.js';

const AT_ONCE = 1_000;

/**
 * `since`: the time, ISO 8601, from which crm-sync's entries hold all of them. All outcomes are looked at, however many there
 * are: one that is not counted never comes to the CRM. Of an event the newest one holds.
 */
export async function countDryRuns({
  redis,
  keys,
}: {
  redis: RedisClient;
  keys: Keys;
}): Promise<{ count: number; since: string }> {
  const skim = makeSkim({ redis, keys });
  const startedAt = new Map<string, number>();
  for await (const entries of skim('events:synced', { count: AT_ONCE, text: '"outcome":"dry_run"' })) {
    const progresses = await Promise.all(entries.map(({ fields }) => redis.hkeys(keys.progress(fields.key ?? ''))));
    entries.forEach(({ id, fields: { key = id, cause = '' } }, index) => {
      if (isNewestOutcome(id, progresses[index]!)) startedAt.set(key, streamIdTime(parseEventId(cause)?.id ?? id));
    });
  }
  let oldest = Number.POSITIVE_INFINITY;
  for (const ms of startedAt.values()) oldest = Math.min(oldest, ms);
  return { count: startedAt.size, since: startedAt.size === 0 ? '' : new Date(oldest).toISOString() };
}

function isNewestOutcome(id: string, progress: readonly string[]): boolean {
  return progress.every((field) => {
    const found = parseEventId(field);
    return found?.stream !== 'events:synced' || compareStreamIds(found.id, id) <= 0;
  });
}

/** The command that writes them to the CRM. */
export function dryRunsCommand(since: string): string {
  return `npm run -s gvi -- replay --group crm-sync --from ${since}`;
}
