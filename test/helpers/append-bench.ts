/** The atomic append on a Redis of the test's own, and what it is given. */
import type { Redis } from 'ioredis';
import { type Append, makeAppend, type RejectedWebhook, shortHash, type WebhookEvent } from '../../src/lib/append.js';
import { startRedis, type TestRedis } from './redis-server.js';

export const TTL_S = 3_600;
export const PREFIX = '{gvi}:';
export const BOOKING_KEY = 'calendly:invitee.created:ADA-1';
export const MEETING_KEY = 'readai:meeting_completed:M1';

export type AppendBench = {
  server: TestRedis;
  redis: Redis;
  append: Append;
  /** An append over a client of its own. */
  appendOver: (client: Redis, timeoutMs?: number) => Append;
  entriesOf: (stream: string) => Promise<[id: string, fields: string[]][]>;
  progressOf: (key: string) => Promise<Record<string, string>>;
  seenOf: (key: string) => Promise<string | null>;
  /** As if the pipeline had given up on the current try. */
  fail: (key: string) => Promise<unknown>;
};

export async function startAppendBench(): Promise<AppendBench> {
  const server = await startRedis();
  const redis = server.connect();
  const appendOver = (client: Redis, timeoutMs = 5_000) =>
    makeAppend({ redis: client, keyPrefix: PREFIX, idempotencyTtlS: TTL_S, timeoutMs });
  return {
    server,
    redis,
    append: appendOver(redis),
    appendOver,
    entriesOf: (stream) => redis.xrange(`${PREFIX}events:${stream}`, '-', '+'),
    progressOf: (key) => redis.hgetall(`${PREFIX}progress:${key}`),
    seenOf: (key) => redis.get(`${PREFIX}idem:seen:${key}`),
    fail: (key) => redis.hset(`${PREFIX}progress:${key}`, 'state', 'failed'),
  };
}

/** A booking; other `content` is other content. */
export function booked(content = 'first', key = BOOKING_KEY): WebhookEvent {
  return {
    kind: 'event',
    source: 'calendly',
    type: 'calendly.invitee.created',
    key,
    contentHash: shortHash(content),
    otherContent: 'kept',
    requestId: undefined,
    data: Buffer.from(`{ "content":\t"${content}" }\n`),
  };
}

/** The report of a meeting. */
export function reported(content: string, requestId?: string): WebhookEvent {
  return {
    kind: 'event',
    source: 'readai',
    type: 'readai.meeting_completed',
    key: MEETING_KEY,
    contentHash: shortHash(content),
    otherContent: 'revision',
    requestId,
    data: Buffer.from(JSON.stringify({ content, request_id: requestId })),
  };
}

export function unusable(body: Buffer | string, reason: RejectedWebhook['reason'] = 'invalid_json'): RejectedWebhook {
  return { kind: 'rejected', source: 'readai', reason, body: Buffer.from(body) };
}

/** An entry's flat fields by name. */
export function fieldsOf([, flat]: [id: string, fields: string[]]): Record<string, string> {
  const names = flat.filter((_, index) => index % 2 === 0);
  return Object.fromEntries(names.map((name, index) => [name, flat[index * 2 + 1] ?? '']));
}
