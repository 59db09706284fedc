/**
 * Entries that somebody deleted before their group was done with them: Redis passes them over, so they are looked for. What a
 * group holds, or has put off, it may find out itself. It is only looked where more was deleted than trimming has dropped.
 */
import type { Logger } from 'pino';
import { type GroupName, readersByStream, STREAMS } from './events.js';
import type { Keys } from './keys.js';
import { scanKeys } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type VanishedEntry = { eventId: string; group: GroupName };

/** Each becomes an `event.failed`, `entry_lost`. Asked again it costs one look, until more is deleted. */
export async function reportVanished(options: {
  redis: RedisClient;
  keys: Keys;
  log: Logger;
}): Promise<VanishedEntry[]> {
  const { redis, keys, log } = options;
  const count = loadScript(redis, 'count-deletions');
  const find = loadScript(redis, 'find-vanished');
  const now = (await count([keys.trimmed(), ...STREAMS.map((stream) => keys.stream(stream))], STREAMS)) as string;
  const seen = await redis.get(keys.deletionsSeen());
  const isSomeMissing = isMissing(parseCounts(seen ?? ''), parseCounts(now));
  if (!isSomeMissing) {
    if (now !== seen) await redis.set(keys.deletionsSeen(), now);
    return [];
  }
  const plan = [keys.prefix, JSON.stringify(readersByStream()), JSON.stringify(STREAMS)];
  const reported: VanishedEntry[] = [];
  let held = 0;
  for await (const found of scanKeys(redis, keys.progress(''))) {
    const [entries, stillHeld] = (await find(found, plan)) as [[string, GroupName][], number];
    held += stillHeld;
    for (const [eventId, group] of entries) {
      log.error({ group, event: eventId }, 'an entry was deleted before its group came to it');
      reported.push({ eventId, group });
    }
  }
  // What is deleted meanwhile, and what a group holds as yet, is looked for the next time.
  if (held === 0) await redis.set(keys.deletionsSeen(), now);
  return reported;
}

type Counts = { deleted: number; trimmed: number; first: string };

const NO_ENTRY = '0-0';

/** Of each stream, as `count-deletions.lua` writes them. */
function parseCounts(text: string): Counts[] {
  return STREAMS.map((_, index) => {
    const [deleted = '0', trimmed = '0', first = NO_ENTRY] = (text.split(',')[index] ?? '').split(':');
    return { deleted: Number(deleted), trimmed: Number(trimmed), first };
  });
}

/** Whether entries are gone since that no trim has dropped, one by one or with their stream. */
function isMissing(seen: readonly Counts[], now: readonly Counts[]): boolean {
  return now.some(({ deleted, trimmed, first }, index) => {
    const before = seen[index]!;
    const isMadeAnew = before.first !== NO_ENTRY && before.first !== first && before.trimmed === trimmed;
    return before.deleted !== deleted || isMadeAnew;
  });
}
