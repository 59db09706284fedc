/**
 * What a group has still to be handed. Redis' own `lag` is not relied on where the entries can be counted: before 7.4 it is too
 * high from a restart on, or where a replica took over, as a claim in the AOF moves a group's cursor and not the count that the
 * lag follows from; and after a deletion in the middle there is none.
 */
import type { StreamName } from './event-id.js';
import type { Keys } from './keys.js';
import { makeSkim } from './maintenance.js';
import type { RedisClient } from './redis.js';

/** `first`: the id of the next one, where there is any. */
export type Unread = { count: number; first: string | undefined };

/** So many are counted, or some megabytes of them; of more it is told what Redis says, and that there are so many at least. */
const COUNT_MAX = 1_000;

/** `delivered`: the group's cursor; `lag`: what Redis says, `undefined` where it does not know. */
export async function readUnread(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  stream: StreamName,
  { delivered, lag = 0 }: { delivered: string; lag: number | undefined },
): Promise<Unread> {
  for await (const entries of makeSkim({ redis, keys })(stream, { from: `(${delivered}`, count: COUNT_MAX })) {
    const [more, length] = await Promise.all([
      redis.xrange(keys.stream(stream), `(${entries.at(-1)!.id}`, '+', 'COUNT', 1),
      redis.xlen(keys.stream(stream)),
    ]);
    const count = more.length === 0 ? entries.length : Math.max(entries.length + 1, Math.min(lag, length));
    return { count, first: entries[0]!.id };
  }
  return { count: 0, first: undefined };
}

/** `undefined` where Redis does not know it. */
export function parseLag(text: string | undefined): number | undefined {
  const known = Number(text);
  return text !== undefined && Number.isInteger(known) ? known : undefined;
}
