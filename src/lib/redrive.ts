/** Hands what failed for good to its group again. */
import { randomBytes } from 'node:crypto';
import { progressKeyOf } from './chain-facts.js';
import { parseEventId } from './event-id.js';
import type { Keys } from './keys.js';
import type { OpenFailure } from './open-failures.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

/**
 * `not_failed`: redriven, delivered again or processed meanwhile. `gone`: its entry is not in the stream any more. `lost`:
 * that is why it failed.
 */
export type RedriveAnswer = 'redriven' | 'not_failed' | 'gone' | 'lost';

export type Redrive = (failure: Pick<OpenFailure, 'eventId' | 'group' | 'key' | 'replay'>) => Promise<RedriveAnswer>;

/** With `isDryRun` it answers as if, and changes nothing. */
export function makeRedrive(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  { isDryRun = false }: { isDryRun?: boolean } = {},
): Redrive {
  const script = loadScript(redis, 'redrive');
  return async (failure) => {
    const { eventId, group, replay = '' } = failure;
    const ref = parseEventId(eventId);
    if (ref === undefined) return 'gone';
    const { progress, parked, attempts, replay: replayIds, stream } = keys;
    return (await script(
      [
        ...[progress(progressKeyOf(failure)), parked(group), attempts(group), replayIds(group), stream(ref.stream)],
        keys.redriven(randomBytes(8).toString('hex')),
      ],
      [eventId, ref.id, replay, isDryRun ? 1 : 0],
    )) as RedriveAnswer;
  };
}
