/** Who did what to how many events: `events:operations`. */
import { randomBytes } from 'node:crypto';
import { catalogue } from './events.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type Operation = {
  /** The command's name. */
  operation: string;
  by: string;
  /** What it was done to. */
  details?: Record<string, string>;
} & ({ eventIds: readonly string[] } | { count: number });

/** Writes `operation.done`. */
export async function recordOperation(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  operation: Operation,
): Promise<void> {
  const { version, stream } = catalogue['operation.done'];
  const key = `operation:${operation.operation}:${Date.now()}-${randomBytes(4).toString('hex')}`;
  const record = loadScript(redis, 'record-operation');
  await record([keys.stream(stream)], [key, version, JSON.stringify(toData(operation))]);
}

function toData({ operation, by, details, ...told }: Operation) {
  return {
    ...{ operation, by },
    ...('eventIds' in told ? { count: told.eventIds.length, eventIds: told.eventIds } : { count: told.count }),
    ...(details === undefined ? {} : { details }),
  };
}
