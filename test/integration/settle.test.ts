/** What a settlement is told whose entry went to another worker meanwhile, or which the client sent twice. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeFollowOn } from '../../src/lib/codec.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { type Entry, toEntry } from '../../src/lib/runtime/entry.js';
import { makeSettler, type Settlement } from '../../src/lib/runtime/settler.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { appendWebhook, booking, pendingCount, readStream } from '../helpers/worker.js';

const test = suite('settlements that come late or twice');

const GROUP = 'enrich' as const;
const STREAM = 'events:calendly';
const KEY = 'calendly:invitee.created:a';
const log = pino({ level: 'silent' });

let redis: RedisClient;
let keys: Keys;
shareRedis(test, (shared) => {
  redis = shared.redis;
  keys = makeKeys('s:');
});

const KINDS = ['done', 'fail', 'park', 'wait', 'ack'] as const;
type Kind = (typeof KINDS)[number];

/** Pending to a consumer, from whom others may claim it. */
async function hold(consumer: string): Promise<Entry> {
  await redis.xgroup('CREATE', keys.stream(STREAM), GROUP, '0', 'MKSTREAM').catch(() => {});
  await appendWebhook({ redis, keys }, { type: 'calendly.invitee.created', key: KEY, body: booking('a') });
  const reply = await redis.xreadgroup('GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', keys.stream(STREAM), '>');
  const [[, [[id, flat]]]] = reply as [[string, [[string, string[]]]]];
  return toEntry(STREAM, [id, flat, 0], Date.now());
}

function settle(consumer: string, entry: Entry, settlement: Settlement): Promise<boolean> {
  const { signal } = new AbortController();
  const settler = makeSettler({ redis, keys, group: GROUP, consumer, log, repair: async () => {}, signal });
  return settler.settle(entry, settlement);
}

function claim(consumer: string, { id }: Entry): Promise<unknown> {
  return redis.xclaim(keys.stream(STREAM), GROUP, consumer, 0, id, 'JUSTID');
}

function settlementOf(kind: Kind, entry: Entry): Settlement {
  const record = { spent: 1, firstFailureAt: 1, waitedMs: 0, parkedAt: 1, code: 'refused', message: 'No.' };
  const provenance = { key: KEY, cause: entry.eventId, attempts: 1, ms: 0, waitedMs: 0, replay: undefined };
  switch (kind) {
    case 'done': {
      const data = { kind: 'booked' as const, happenedAt: '2026-11-02T09:00:00Z', facts: {} };
      return {
        kind,
        events: [{ stream: 'events:enriched', fields: encodeFollowOn({ type: 'lead.enriched', data }, provenance) }],
      };
    }
    case 'fail': {
      const error = { code: 'refused', message: 'No.' };
      const data = { eventId: entry.eventId, stream: STREAM, group: GROUP, key: KEY, attempts: 1, error };
      return { kind, stream: 'events:failed', fields: encodeFollowOn({ type: 'event.failed', data }, provenance) };
    }
    case 'park':
      return { kind, set: keys.parked(GROUP), delayMs: 60_000, record };
    case 'wait':
      return { kind, set: keys.waiting(GROUP, 'gemini'), delayMs: 60_000, record };
    case 'ack':
      return { kind };
  }
}

async function countAll(): Promise<number[]> {
  const follow = await readStream({ redis, keys }, 'events:enriched');
  const failed = await readStream({ redis, keys }, 'events:failed');
  const putOff = [await redis.zcard(keys.parked(GROUP)), await redis.zcard(keys.waiting(GROUP, 'gemini'))];
  return [follow.length, failed.length, ...putOff, await pendingCount({ redis, keys }, STREAM, GROUP)];
}

for (const kind of KINDS) {
  test(`${kind}, sent twice, is settled both times, and written once`, async () => {
    const entry = await hold('a');
    assert.is(await settle('a', entry, settlementOf(kind, entry)), true);
    const before = await countAll();
    assert.is(await settle('a', entry, settlementOf(kind, entry)), true);
    assert.equal(await countAll(), before);
  });
}

for (const [theirs, ours, isSettled] of [
  ['park', 'done', false],
  ['wait', 'done', false],
  ['fail', 'done', false],
  ['done', 'done', true],
  ['done', 'fail', false],
  ['done', 'park', false],
  ['fail', 'park', false],
  ['park', 'fail', false],
] as const) {
  const told = isSettled ? 'stands' : 'is lost';
  test(`${ours}, after another has taken the entry over and settled it as ${theirs}, ${told} and writes nothing`, async () => {
    const entry = await hold('a');
    await claim('b', entry);
    assert.is(await settle('b', entry, settlementOf(theirs, entry)), true);
    const before = await countAll();
    assert.is(await settle('a', entry, settlementOf(ours, entry)), isSettled);
    assert.equal(await countAll(), before);
  });
}

test.run();
