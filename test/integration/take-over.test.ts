/** What is taken before new entries, step by step: the read loop's own part, with a Redis and no worker around it. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineBatchConsumer, defineConsumer } from '../../src/lib/consumer.js';
import { NotYetError } from '../../src/lib/errors.js';
import { makeKeys } from '../../src/lib/keys.js';
import { makeWorkerMetrics } from '../../src/lib/metrics.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeDeliverer } from '../../src/lib/runtime/deliverer.js';
import { type Entry, toEntry } from '../../src/lib/runtime/entry.js';
import { type GroupStore, makeGroupStore, type Room } from '../../src/lib/runtime/group-store.js';
import { makeGroupUpkeep } from '../../src/lib/runtime/group-upkeep.js';
import { makeIsolation } from '../../src/lib/runtime/isolation.js';
import { makeProviderHealth } from '../../src/lib/runtime/provider-health.js';
import { makeTakeOver } from '../../src/lib/runtime/take-over.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking } from '../helpers/worker.js';

const test = suite('what is taken before new entries');
const log = pino({ level: 'silent' });
/** Longer than any test takes: what a test itself has taken over does not come again. */
const VISIBILITY_MS = 600_000;

const keys = makeKeys('t:');
let redis: RedisClient;
shareRedis(test, (shared) => {
  redis = shared.redis;
});

function makeStore(group: 'enrich' | 'crm-sync', consumer: string): GroupStore {
  const now = () => Date.now();
  return makeGroupStore({ redis, keys, group, consumer, now, visibilityTimeoutMs: VISIBILITY_MS, crashesMax: 5 });
}

async function setUp(group: 'enrich' | 'crm-sync') {
  await makeGroupUpkeep({ redis, keys, group, consumer: 'me' }).ensureGroups();
  const room: Room = { free: 10, alone: 1 };
  const held = () => [];
  const deliverer = { room: () => ({ ...room }), roomFor: () => ({ usual: 10, mayProbe: true }), held };
  const store = makeStore(group, 'me');
  const takeOver = makeTakeOver({ store, deliverer: deliverer as never, log, onTime: () => {} });
  const next = async () => (await takeOver.next()).map(({ eventId }) => eventId);
  return { room, store, next };
}

/** So many that a worker, which holds a slot's worth at most, does not leave them: somebody read them by hand. */
async function leaveManyBehind(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n += 500) {
    ids.push(...(await Promise.all(Array.from({ length: 500 }, (_, index) => book(`${n + index}`)))));
  }
  await leaveBehind('events:calendly', 'enrich', count);
  return ids;
}

const book = (id: string) =>
  appendWebhook({ redis, keys }, { type: 'calendly.invitee.created', key: `k${id}`, body: booking(id) });

/** A worker that has read it and has said no more for long. */
async function leaveBehind(stream: 'events:calendly' | 'events:enriched', group: string, count = 10): Promise<void> {
  const key = keys.stream(stream);
  await redis.xreadgroup('GROUP', group, 'dead', 'COUNT', count, 'STREAMS', key, '>');
  const pending = (await redis.xpending(key, group, '-', '+', count)) as [string][];
  const ids = pending.map(([id]) => id);
  await redis.call('XCLAIM', key, group, 'dead', 0, ...ids, 'IDLE', 2 * VISIBILITY_MS, 'JUSTID');
}

async function ownersOf(group: string): Promise<unknown[]> {
  const pending = (await redis.xpending(keys.stream('events:calendly'), group, '-', '+', 10)) as unknown[][];
  return pending.map(([, owner]) => owner);
}

test('what a dead worker left comes before new entries when a slot falls free, however seldom that is', async () => {
  const { room, next } = await setUp('enrich');
  const left = await book('a');
  await leaveBehind('events:calendly', 'enrich');
  Object.assign(room, { free: 0, alone: 0 });
  assert.equal(await next(), []);
  // So soon after it was looked for.
  Object.assign(room, { free: 1 });
  assert.equal(await next(), [left]);
});

test('one look for what dead workers left ends where there is no room, however much there is', async () => {
  const { room, store, next } = await setUp('enrich');
  const left = await leaveManyBehind(5_000);
  let looks = 0;
  const { reclaim } = store;
  store.reclaim = (...args) => {
    looks += 1;
    return reclaim(...args);
  };
  Object.assign(room, { free: 2, alone: 1 });
  const taken = [...(await next()), ...(await next())];
  assert.equal(taken.length, 4);
  assert.is(new Set(taken).size, 4);
  assert.is(looks, 2, 'the whole list was walked although no slot was free');
  const suspect = left.at(-1)!;
  await redis.hset(keys.strikes('enrich'), suspect, '2:0:0:wait:dead');
  Object.assign(room, { free: 0, alone: 1 });
  const isFound = async () => (await next()).includes(suspect);
  await waitFor('the suspect at its end to be found all the same', isFound, 30_000);
});

test('of entries that are megabytes each no more are read at once than a worker can well hold', async () => {
  const { store } = await setUp('enrich');
  const data = 'x'.repeat(2_000_000);
  for (let n = 0; n < 12; n += 1) {
    const fields = { type: 'calendly.invitee.created', key: `k${n}`, v: '1', data };
    await redis.xadd(keys.stream('events:calendly'), '*', ...Object.entries(fields).flat());
  }
  const counts: number[] = [];
  for (let left = 12; left > 0; left -= counts.at(-1)!) {
    const { entries } = await store.takeNew({ free: 12, alone: 1 });
    assert.ok(entries.length > 0);
    counts.push(entries.length);
  }
  assert.equal(counts, [4, 4, 4]);
});

test('what was taken over in one stream is not forgotten where another one fails', async () => {
  const { next } = await setUp('crm-sync');
  const id = await redis.xadd(keys.stream('events:enriched'), '*', 'type', 'lead.enriched', 'key', 'k', 'data', '{}');
  await leaveBehind('events:enriched', 'crm-sync');
  await redis.xgroup('DESTROY', keys.stream('events:summarized'), 'crm-sync');
  const failure = await next().then(
    () => undefined,
    (error: Error) => error,
  );
  assert.match(failure?.message ?? '', 'NOGROUP');
  await makeGroupUpkeep({ redis, keys, group: 'crm-sync', consumer: 'me' }).ensureGroups();
  assert.equal(await next(), [`enriched-${id}`]);
});

test('the turn to probe a provider is left to others where nothing can take it', async () => {
  const { room, store } = await setUp('enrich');
  const suspect = await book('a');
  await redis.zadd(keys.waiting('enrich', 'gemini'), 0, suspect);
  await redis.hset(keys.strikes('enrich'), suspect, '2:0:0:wait:dead');
  await redis.hset(keys.pause('gemini'), { since: new Date().toISOString(), probeMs: 5_000, probeAt: 1 });
  Object.assign(room, { alone: 0 });
  const roomFor = () => ({ usual: 10, mayProbe: true });
  assert.equal((await store.takeDue(room, roomFor)).entries, []);
  assert.is(await redis.hget(keys.pause('gemini'), 'probeAt'), '1');
  const probe = (await store.takeDue({ free: 1, alone: 1 }, roomFor)).entries;
  assert.equal([probe.length, probe[0]?.probes], [1, 'gemini']);
  assert.ok(Number(await redis.hget(keys.pause('gemini'), 'probeAt')) > Date.now());
});

test('how far a group is goes on being remembered where the clock went back', async () => {
  const upkeep = makeGroupUpkeep({ redis, keys, group: 'enrich', consumer: 'me' });
  await upkeep.ensureGroups();
  const read = await book('a');
  await redis.xreadgroup('GROUP', 'enrich', 'me', 'COUNT', 1, 'STREAMS', keys.stream('events:calendly'), '>');
  await redis.hset(keys.cursors('enrich'), 'at', Date.now() + 3_600_000);
  await upkeep.saveCursors(0);
  assert.is(await redis.hget(keys.cursors('enrich'), 'high:events:calendly'), read.slice('calendly-'.length));
});

test('what waits for its call and is lost meanwhile does not run here', async () => {
  const ran: string[] = [];
  let end = () => {};
  const consumer = defineBatchConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    batchMax: 10,
    retriesApart: true,
    async handleBatch(deliveries) {
      ran.push(...deliveries.map(({ event }) => event.id));
      await new Promise<void>((resolve) => (end = resolve));
      return deliveries.map(() => ({ error: new NotYetError('later', { delayMs: 1 }) }));
    },
  });
  const settler = { settle: async () => true };
  const deliverer = makeDeliverer({
    ...{ consumer, parallelMax: 2, store: {} as never, settler: settler as never, isolation: makeIsolation() },
    ...outsideOf(),
  });
  const record = JSON.stringify({
    spent: 0,
    firstFailureAt: 1,
    batchMax: 1,
    waitedMs: 0,
    parkedAt: 1,
    code: 'x',
    message: 'x',
  });
  const entries = ['1-0', '2-0', '3-0'].map((id) => toEntry('events:calendly', [id, flat, 0, record, ''], 0));
  deliverer.deliver(entries);
  await waitFor('the first to run', () => ran.length === 1);
  deliverer.drop('calendly-2-0');
  end();
  await waitFor('the next to run', () => ran.length === 2);
  end();
  await deliverer.idle();
  assert.equal(ran, ['calendly-1-0', 'calendly-3-0']);
});

test('a suspect that is handed back while its start is on its way does not run here', async () => {
  let ran = 0;
  const consumer = defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    async handle() {
      ran += 1;
      return [];
    },
  });
  let answer: ((noted: 'noted') => void) | undefined;
  const store = { noteStart: () => new Promise<'noted'>((resolve) => (answer = resolve)) };
  const deliverer = makeDeliverer({
    ...{ consumer, parallelMax: 1, store: store as never, settler: {} as never, isolation: makeIsolation() },
    ...outsideOf(),
  });
  deliverer.deliver([toEntry('events:calendly', ['1-0', flat, 0, '', '2:alone'], 0)]);
  await waitFor('it to stand at the door', () => answer !== undefined);
  assert.is(deliverer.close().length, 1);
  answer!('noted');
  await deliverer.idle();
  assert.is(ran, 0);
});

test('a suspect that was let go is noted as stopped before its slot is another’s, who alone is blamed for what follows', async () => {
  const isolation = makeIsolation();
  const noted: string[] = [];
  let isFresh = true;
  const consumer = defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    handle: (_, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  let isAway = true;
  const store = {
    async noteStart({ eventId }: Entry) {
      noted.push(`${eventId} begins`);
      return 'noted';
    },
    async noteStopped({ eventId }: Entry) {
      if (isAway) throw new Error('Redis is away');
      noted.push(`${eventId} stopped`);
      return true;
    },
  };
  const deliverer = makeDeliverer({
    ...{ consumer, parallelMax: 1, store: store as never, settler: {} as never, isolation },
    ...{ ...outsideOf(), isFresh: () => isFresh },
  });
  deliverer.deliver([toEntry('events:calendly', ['1-0', flat, 0, '', '2:alone'], 0)]);
  await waitFor('it to run', () => noted.length === 1);
  isolation.onFree(() => noted.push('the slot is free'));
  isFresh = false;
  deliverer.fenceOff();
  await waitFor('it to be let go', () => deliverer.held().length === 0);
  assert.not(isolation.isFree());
  isAway = false;
  await deliverer.idle();
  assert.equal(noted, ['calendly-1-0 begins', 'calendly-1-0 stopped', 'the slot is free']);
});

test('what is noted as stopped is a suspect still, and no death of its worker is held against it', async () => {
  const { store } = await setUp('enrich');
  const eventId = await book('a');
  await redis.hset(keys.strikes('enrich'), eventId, '2:1:0:wait:');
  const { entries } = await store.takeNew({ free: 1, alone: 1 });
  assert.is(await store.noteStart(entries[0]!, 'alone'), 'noted');
  assert.match((await redis.hget(keys.strikes('enrich'), eventId))!, /^2:1:0:alone:me@/);
  await store.noteStopped(entries[0]!);
  assert.is(await redis.hget(keys.strikes('enrich'), eventId), '2:1:0:wait:');
});

test('a suspect whose claim went with its consumer, removed by hand, begins all the same', async () => {
  const { store } = await setUp('enrich');
  const eventId = await book('a');
  await redis.hset(keys.strikes('enrich'), eventId, '2:0:0:wait:');
  const { entries } = await store.takeNew({ free: 1, alone: 1 });
  await redis.xgroup('DELCONSUMER', keys.stream('events:calendly'), 'enrich', 'me');
  assert.is(await store.noteStart(entries[0]!, 'alone'), 'noted');
  assert.equal(await ownersOf('enrich'), ['me']);
  const other = makeStore('enrich', 'other');
  await redis.xclaim(keys.stream('events:calendly'), 'enrich', 'other', 0, entries[0]!.id, 'JUSTID');
  assert.is(await store.noteStart(entries[0]!, 'alone'), 'lost', 'another has it');
  assert.is(await other.noteStart(entries[0]!, 'alone'), 'noted');
});

test('claims that are asked for twice, as the first answer was lost, are there both times', async () => {
  const { store } = await setUp('enrich');
  const eventId = await book('a');
  await store.takeNew({ free: 1, alone: 1 });
  await redis.xgroup('DELCONSUMER', keys.stream('events:calendly'), 'enrich', 'me');
  assert.equal(await store.restoreClaims([eventId]), []);
  assert.equal(await store.restoreClaims([eventId]), []);
  assert.equal(await makeStore('enrich', 'other').restoreClaims([eventId]), [eventId]);
});

test('what does not run any more is noted so as it is taken in anew or handed back: no death is held against it', async () => {
  const { store } = await setUp('enrich');
  const [usual, suspect] = [await book('a'), await book('b')];
  const { entries } = await store.takeNew({ free: 2, alone: 1 });
  const strikes = keys.strikes('enrich');
  await redis.hset(strikes, { [usual]: '1:0:0:run:', [suspect]: '2:1:0:wait:' });
  await store.noteStart(entries[0]!, 'begun');
  await store.noteStart(entries[1]!, 'alone');
  const adopted = await store.adopt('events:calendly', [], { free: 1, alone: 0 });
  assert.equal([adopted.entries.map(({ eventId }) => eventId), adopted.left], [[usual], 1]);
  const noted = { [usual]: '1:0:0:run:', [suspect]: '2:1:0:wait:' };
  assert.equal({ ...(await redis.hgetall(strikes)) }, noted);
  await store.noteStart(entries[1]!, 'alone');
  assert.is(await store.handBack('events:calendly', [entries[1]!.id]), 1);
  assert.equal({ ...(await redis.hgetall(strikes)) }, noted);
});

test('entries of a megabyte are taken over, adopted and taken back some at a time', async () => {
  const { store } = await setUp('enrich');
  const COUNT = 10;
  const stream = keys.stream('events:calendly');
  const data = JSON.stringify({ padding: 'x'.repeat(1_000_000) });
  for (let n = 0; n < COUNT; n += 1) {
    await redis.xadd(stream, '*', 'type', 'calendly.invitee.created', 'key', `k${n}`, 'v', '1', 'at', '', 'data', data);
  }
  await leaveBehind('events:calendly', 'enrich');
  await redis.hset(keys.alive('enrich'), 'dead', Date.now() - 2 * VISIBILITY_MS);
  const room = { free: 100, alone: 1 };
  const taken = await store.reclaim('events:calendly', '0-0', room);
  assert.is(taken.isBehind, true);
  assert.ok(taken.entries.length > 0 && taken.entries.length < COUNT, `${taken.entries.length} taken over`);
  const rest = await store.reclaim('events:calendly', '0-0', room);
  assert.ok(rest.entries.length > 0);
  while ((await store.reclaim('events:calendly', '0-0', room)).entries.length > 0);
  const adopted = await store.adopt('events:calendly', [], room);
  assert.is(adopted.entries.length + adopted.left, COUNT);
  assert.ok(adopted.left > 0);
  const ids = (await redis.xrange(stream, '-', '+')).map(([id]) => id);
  await redis.xack(stream, 'enrich', ...ids);
  await redis.zadd(keys.parked('enrich'), ...ids.flatMap((id) => [1, `calendly-${id}`]));
  const due = await store.takeDue(room, () => ({ usual: 100, mayProbe: true }));
  assert.ok(due.entries.length > 0 && due.entries.length < COUNT, `${due.entries.length} taken back`);
  assert.ok(due.nextDueAt !== undefined && due.nextDueAt <= due.now, 'the others are due');
});

/** What a deliverer needs beside its own part. */
function outsideOf() {
  const health = makeProviderHealth({ redis, keys, probeBaseMs: 100, log });
  const policy = { attemptsMax: 3, retryBaseMs: 10, retryMaxMs: 100, outageGiveUpMs: 1_000, idempotencyTtlS: 10 };
  return {
    ...{
      policy: { ...policy, visibilityTimeoutMs: 100, shutdownGraceMs: 100 },
      isFresh: () => true,
      health,
      keys,
      log,
    },
    ...{ metrics: makeWorkerMetrics(), now: Date.now, onFree() {}, onParked() {}, onStray() {} },
  };
}

const flat = ['type', 'calendly.invitee.created', 'key', 'k', 'v', '1', 'at', '', 'data', JSON.stringify(booking('a'))];

test.run();
