/** How far the projections are behind their streams. */
import { streamIdTime } from './event-id.js';
import type { Keys } from './keys.js';
import { readRedisTime } from './maintenance.js';
import { type Projection, readPositions } from './projector.js';
import type { RedisClient } from './redis.js';

export type ProjectionLag = {
  /** Entries that are not folded yet; of a stream at most 1,000 are counted. */
  lag: number;
  /** Age of the oldest of them, 0 where there is none. */
  lagMs: number;
};

const COUNT_MAX = 1_000;

/** By the projections' names. */
export async function readProjectionLags({
  redis,
  keys,
  projections,
}: {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
}): Promise<Record<string, ProjectionLag>> {
  const now = await readRedisTime(redis);
  const lags = await Promise.all(projections.map((projection) => readLag(projection)));
  return Object.fromEntries(projections.map(({ name }, index) => [name, lags[index]!]));

  async function readLag(projection: Projection): Promise<ProjectionLag> {
    const positions = await readPositions(redis, keys, projection);
    const tails = await Promise.all(
      [...positions].map(([stream, id]) => redis.xrange(keys.stream(stream), `(${id}`, '+', 'COUNT', COUNT_MAX)),
    );
    const oldest = tails.flatMap(([first]) => (first === undefined ? [] : [streamIdTime(first[0])]));
    return {
      lag: tails.reduce((total, tail) => total + tail.length, 0),
      lagMs: oldest.length === 0 ? 0 : Math.max(0, now - Math.min(...oldest)),
    };
  }
}
