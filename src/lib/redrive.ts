/** Hands what failed for good to its group again. */
import { parseEventId } from './event-id.js';
import type { EventFailed } from './events.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

/** `not_failed`: redriven, delivered again or processed meanwhile. `gone`: its entry is not in the stream any more. */
export type RedriveAnswer = 'redriven' | 'not_failed' | 'gone';

export function makeRedrive({
  redis,
  keys,
}: {
  redis: RedisClient;
  keys: Keys;
}): (failure: EventFailed) => Promise<RedriveAnswer> {
  const script = loadScript(redis, 'redrive');
  return async ({ eventId, group, key }) => {
    const ref = parseEventId(eventId);
    if (ref === undefined) return 'gone';
    const keyList = [keys.progress(key), keys.parked(group), keys.attempts(group), keys.stream(ref.stream)];
    return (await script(keyList, [eventId, ref.id])) as RedriveAnswer;
  };
}

/** Records who did what to how many events: `events:operations`. Of many events only the count is told. */
export async function recordOperation(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  operation: { operation: string; by: string } & ({ eventIds: readonly string[] } | { count: number }),
): Promise<void> {
  const count = 'count' in operation ? operation.count : operation.eventIds.length;
  const data = JSON.stringify({ ...operation, count });
  const at = new Date().toISOString();
  const key = `operation:${operation.operation}:${at}`;
  await redis.xadd(
    keys.stream('events:operations'),
    '*',
    'type',
    'operation.done',
    'key',
    key,
    'at',
    at,
    'v',
    '1',
    'data',
    data,
  );
}
