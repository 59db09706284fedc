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
  /** When it last handed something over, ms since 1970 by Redis' clock. */
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

export async function rememberReplay(
  { redis, keys }: Store,
  { replayId, ...replay }: Omit<UnfinishedReplay, 'movedAt'>,
): Promise<void> {
  const record: z.infer<typeof schema> = { ...replay, movedAt: await readRedisTime(redis) };
  await redis.hset(keys.replays(), replayId, JSON.stringify(record));
}

/** Also those that nobody went on with in time. */
export async function forgetReplay({ redis, keys }: Store, replayId: string): Promise<void> {
  await loadScript(redis, 'forget-replay')([keys.replays()], [replayId, REMEMBERED_MS]);
}
