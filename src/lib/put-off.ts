/** What a group has put off: acknowledged, and kept in sorted sets until its next attempt, or until a provider answers again. */
import { PROVIDERS } from './errors.js';
import { parseEventId, type StreamName, streamIdTime } from './event-id.js';
import type { GroupName } from './events.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';

export type PutOff = {
  count: number;
  /** When the oldest of them was appended, of one stream or of all; `undefined` where there is none. */
  oldestAt: (stream?: StreamName) => number | undefined;
};

/** A set is in the order in which its entries are tried: the oldest has been tried last, or has been waiting for it for longest. */
const LOOKED_AT = 100;

export async function readPutOff(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  group: GroupName,
): Promise<PutOff> {
  const sets = [keys.parked(group), ...PROVIDERS.map((provider) => keys.waiting(group, provider))];
  const perSet = await Promise.all(
    sets.map((set) =>
      Promise.all([
        redis.zcard(set),
        redis.zrange(set, '0', String(LOOKED_AT - 1)),
        redis.zrange(set, String(-LOOKED_AT), '-1'),
      ]),
    ),
  );
  const refs = perSet.flatMap(([, first, last]) => [...first, ...last]).map((eventId) => parseEventId(eventId));
  return {
    count: perSet.reduce((sum, [count]) => sum + count, 0),
    oldestAt(stream) {
      const times = refs.flatMap((ref) =>
        ref === undefined || (stream !== undefined && ref.stream !== stream) ? [] : [streamIdTime(ref.id)],
      );
      return times.length === 0 ? undefined : Math.min(...times);
    },
  };
}
