/** Replays that have not come to the end of their range: running, or killed and to be gone on with. */
import { z } from 'zod';
import { GROUPS } from './events.js';
import type { Keys } from './keys.js';
import { readRedisTime } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

const schema = z.object({
  group: z.enum(GROUPS),
  /** Redis ids, both included. */
  from: z.string(),
  to: z.string(),
  isForced: z.boolean(),
  /** Entries so far, over all runs of it. */
  handedOver: z.number().default(0),
  /** When it was last at work, ms since 1970 by Redis' clock. */
  movedAt: z.number(),
});

export type UnfinishedReplay = z.infer<typeof schema> & { replayId: string };

/** So long an unfinished replay keeps its range from being trimmed. */
export const REMEMBERED_MS = 3 * 86_400_000;

type Store = { redis: RedisClient; keys: Keys };

/** The latest first. */
export async function readUnfinishedReplays({ redis, keys }: Store): Promise<UnfinishedReplay[]> {
  const [all, now] = await Promise.all([redis.hgetall(keys.replays()), readRedisTime(redis)]);
  return Object.entries(all)
    .map(([replayId, json]) => ({ replayId, ...schema.parse(JSON.parse(json)) }))
    .filter(({ movedAt }) => movedAt > now - REMEMBERED_MS)
    .sort((a, b) => b.movedAt - a.movedAt);
}

/** How many entries it has handed over so far; 0 for one that is not known. */
export async function readHandedOver({ redis, keys }: Store, replayId: string): Promise<number> {
  const json = await redis.hget(keys.replays(), replayId);
  return json === null ? 0 : schema.parse(JSON.parse(json)).handedOver;
}

/** As it begins, and from time to time; `scripts/replay.lua` counts what it hands over. */
export async function rememberReplay(
  { redis, keys }: Store,
  { replayId, ...replay }: Omit<UnfinishedReplay, 'movedAt' | 'handedOver'>,
): Promise<void> {
  const names = [keys.replays(), keys.stream('events:synced')];
  await loadScript(redis, 'remember-replay')(names, [replayId, JSON.stringify(replay)]);
}

/** One that came to its end, or was given up; also those that nobody went on with in time. */
export async function forgetReplay({ redis, keys }: Store, replayId: string): Promise<void> {
  await loadScript(redis, 'forget-replay')([keys.replays()], [replayId, REMEMBERED_MS]);
}
