/** A worker in this process, on a Redis of the test's own, with short times. */
import { type Logger, pino } from 'pino';
import { parseConfig } from '../../src/lib/config.js';
import type { Consumer } from '../../src/lib/consumer.js';
import type { StreamName } from '../../src/lib/event-id.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import type { Projection } from '../../src/lib/projector.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { connectRedis } from '../../src/lib/redis.js';
import { toRecord } from '../../src/lib/runtime/entry.js';
import { startWorker, type WorkerOptions } from '../../src/lib/runtime/worker.js';

export const shortTimes = {
  VISIBILITY_TIMEOUT_MS: '400',
  RETRY_BASE_MS: '40',
  RETRY_MAX_MS: '200',
  MAX_ATTEMPTS: '3',
  SHUTDOWN_GRACE_MS: '300',
};

/**
 * No claim runs out while a test's process stands still: what is under way would be done again, as it should, and calls of it be more
 * than are counted.
 */
export const lastingClaims = { VISIBILITY_TIMEOUT_MS: '60000' };

export type TestWorker = Awaited<ReturnType<typeof startTestWorker>>;

export async function startTestWorker(options: {
  redisUrl: string;
  consumers: readonly Consumer[];
  projections?: readonly Projection[];
  concurrency?: number;
  keyPrefix?: string;
  env?: Record<string, string>;
  bounds?: WorkerOptions['bounds'];
  onDead?: () => void;
  log?: Logger;
}) {
  const config = parseConfig({
    REDIS_URL: options.redisUrl,
    KEY_PREFIX: options.keyPrefix ?? '',
    ...shortTimes,
    ...options.env,
  });
  const keys = makeKeys(config.keyPrefix);
  const redis = connectRedis({ url: config.redisUrl, role: 'worker' });
  const worker = await startWorker({
    ...{ config, redis, keys, consumers: options.consumers, projections: options.projections ?? [] },
    concurrency: options.concurrency,
    ...(options.bounds === undefined ? {} : { bounds: options.bounds }),
    ...(options.onDead === undefined ? {} : { onDead: options.onDead }),
    log: options.log ?? pino({ level: process.env.TEST_LOG ?? 'silent' }),
  });
  return {
    ...worker,
    redis,
    keys,
    async stop() {
      await worker.stop();
      redis.disconnect();
    },
  };
}

const APPEND = `
  local id = redis.call('XADD', KEYS[1], '*', 'type', ARGV[2], 'key', ARGV[3], 'at', ARGV[4], 'v', '1', 'data', ARGV[5])
  local event_id = ARGV[1] .. '-' .. id
  redis.call('SET', KEYS[2], event_id)
  redis.call('HSET', KEYS[3], 'id', event_id, event_id, '')
  return event_id
`;

/** Appends a webhook event the way ingest does: in one step, as a worker may be done with it at once. */
export async function appendWebhook(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  { stream = 'events:calendly', type, key, body }: { stream?: StreamName; type: string; key: string; body: unknown },
): Promise<string> {
  const at = new Date().toISOString();
  const places = [keys.stream(stream), keys.idemSeen(key), keys.progress(key)];
  const fields = [stream.slice('events:'.length), type, key, at, JSON.stringify(body)];
  return (await redis.eval(APPEND, places.length, ...places, ...fields)) as string;
}

export async function readStream({ redis, keys }: { redis: RedisClient; keys: Keys }, stream: StreamName) {
  const entries = await redis.xrange(keys.stream(stream), '-', '+');
  return entries.map(([id, flat]) => {
    const fields = toRecord(flat);
    return { id, eventId: `${stream.slice('events:'.length)}-${id}`, fields, data: JSON.parse(fields.data ?? 'null') };
  });
}

export async function pendingCount(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  stream: StreamName,
  group: string,
): Promise<number> {
  const [count] = (await redis.xpending(keys.stream(stream), group)) as [number];
  return count;
}

/** A booking as Calendly sends it, as small as it may be. */
export function booking(id: string, email = `${id}@brightwater.example`) {
  return {
    event: 'invitee.created',
    created_at: '2026-11-02T09:00:01.000000Z',
    payload: { uri: `https://api.calendly.com/scheduled_events/E/invitees/${id}`, email, name: 'Karen Liu' },
  };
}
