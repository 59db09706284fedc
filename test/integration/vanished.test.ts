/** Entries that somebody deletes from under a group: told, and taken in again where the sender sends again. */

import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeAppend } from '../../src/lib/append.js';
import { makeChains } from '../../src/lib/chain.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { makeKeys } from '../../src/lib/keys.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { replay } from '../../src/lib/replay.js';
import { startRetention } from '../../src/lib/retention.js';
import { trim } from '../../src/lib/trim.js';
import { reportVanished } from '../../src/lib/vanished.js';
import { projections } from '../../src/projections/index.js';
import { bookingEvent, type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { startTestWorker } from '../helpers/worker.js';

const test = suite('entries deleted from under a group');
const log = pino({ level: 'silent' });

let server: TestRedis;
let redis: RedisClient;
let keyPrefix: string;
let prefixes = 0;
const histories: History[] = [];

test.before(async () => {
  server = await startRedis();
  redis = server.connect();
});
test.before.each(() => {
  prefixes += 1;
  keyPrefix = `v${prefixes}:`;
});
test.after.each(async () => {
  await Promise.all(histories.splice(0).map((history) => history.stop()));
});
test.after(() => server.stop());

async function start(): Promise<History> {
  const history = await startHistory({ redisUrl: server.url, keyPrefix });
  histories.push(history);
  return history;
}
const keys = () => makeKeys(keyPrefix);
const append = (id: string) =>
  makeAppend({ redis, keyPrefix, idempotencyTtlS: 3_600, timeoutMs: 5_000 })(bookingEvent(id, ''), randomUUID());
const report = () => reportVanished({ redis, keys: keys(), log });
const idOf = (eventId: string) => eventId.slice(eventId.indexOf('-') + 1);

test('one that no group has read is reported once, and a delivery after that is a new try', async () => {
  const { eventId } = await append('a');
  await append('b');
  assert.equal(await report(), []);
  await redis.xdel(keys().stream('events:calendly'), idOf(eventId!));
  assert.equal(await report(), [{ eventId, group: 'enrich' }]);
  assert.equal(await report(), []);
  const [failure] = await readOpenFailures({ redis, keys: keys() });
  assert.equal([failure!.eventId, failure!.error.code], [eventId, 'entry_lost']);
  const again = await append('a');
  assert.is(again.status, 'accepted');
  assert.is.not(again.eventId, eventId);
  assert.equal([(await append('a')).status, (await append('a')).eventId], ['duplicate', again.eventId]);
  const history = await start();
  await history.ended(again.eventId!);
});

test('one that is delivered again before anybody has looked is told, once, beside its new try', async () => {
  const { eventId } = await append('a');
  const stream = keys().stream('events:calendly');
  await redis.xgroup('CREATE', stream, 'enrich', '0');
  await redis.xreadgroup('GROUP', 'enrich', 'w1', 'COUNT', 1, 'STREAMS', stream, '>');
  await redis.xdel(stream, idOf(eventId!));
  const again = await append('a');
  assert.equal([again.status, (await append('a')).status], ['accepted', 'duplicate']);
  const history = await start();
  await history.ended(again.eventId!);
  // Whoever finds it in what is pending tells nothing twice.
  await waitFor('nothing to be pending', async () => (await redis.xpending(stream, 'enrich'))[0] === 0);
  const failures = await readOpenFailures({ redis, keys: keys() });
  assert.equal(
    failures.map((failure) => [failure.eventId, failure.group, failure.error.code]),
    [[eventId, 'enrich', 'entry_lost']],
  );
  assert.is(await redis.xlen(keys().stream('events:failed')), 1);
  assert.is(await history.statusOf(again.eventId!), 'processed');
});

test('one that is delivered again within the same millisecond has one new try', async () => {
  const stream = keys().stream('events:calendly');
  // Ids follow the last one where that is ahead of the clock.
  await redis.xadd(stream, `${Date.now() + 60_000}-0`, 'type', 'filler');
  const { eventId } = await append('a');
  await redis.xdel(stream, idOf(eventId!));
  const again = await append('a');
  assert.is(again.eventId!.split('-')[1], eventId!.split('-')[1]);
  assert.equal([again.status, (await append('a')).status], ['accepted', 'duplicate']);
});

test('what goes with its whole stream is told as well, also where the stream was made anew and filled again', async () => {
  const ids = [(await append('a')).eventId!, (await append('b')).eventId!];
  assert.equal(await report(), []);
  const stream = keys().stream('events:calendly');
  await redis.del(stream);
  await redis.xgroup('CREATE', stream, 'enrich', '0', 'MKSTREAM');
  for (const id of ['c', 'd', 'e']) await append(id);
  const told = await report();
  assert.equal(told.map(({ eventId }) => eventId).sort(), ids.sort());
  assert.equal(await report(), []);
});

test('one that a worker holds is told when that has lost it without a word', async () => {
  const { eventId } = await append('a');
  const stream = keys().stream('events:calendly');
  await redis.xgroup('CREATE', stream, 'enrich', '0');
  await redis.xreadgroup('GROUP', 'enrich', 'w1', 'COUNT', 1, 'STREAMS', stream, '>');
  await redis.xdel(stream, idOf(eventId!));
  assert.equal(await report(), []);
  // As each heartbeat does: Redis then takes what is deleted out of the pending list.
  await redis.xclaim(stream, 'enrich', 'w1', 0, idOf(eventId!), 'JUSTID');
  assert.equal(await report(), [{ eventId, group: 'enrich' }]);
  assert.equal(await report(), []);
});

test('of one that a later stage had still to read it is told as well; what was done is not missed', async () => {
  const history = await start();
  const done = await history.book('done');
  await history.ended(done);
  await history.stop();
  histories.pop();
  await append('a');
  const streams = [keys().stream('events:calendly'), keys().stream('events:enriched')] as const;
  // As enrich leaves it: read, answered with a follow-on that nobody has read yet.
  const [[, [[id]]]] = (await redis.xreadgroup('GROUP', 'enrich', 'w', 'STREAMS', streams[0], '>')) as [
    [string, [[string, string[]]]],
  ];
  const enriched = await redis.xadd(streams[1], '*', 'type', 'lead.enriched', 'key', 'k', 'cause', `calendly-${id}`);
  await redis.hset(keys().progress('calendly:invitee.created:a'), `enriched-${enriched}`, '');
  await redis.xack(streams[0], 'enrich', id);
  await redis.xdel(streams[0], idOf(done), id);
  assert.equal(await report(), []);
  await redis.xdel(streams[1], enriched!);
  assert.equal(await report(), [{ eventId: `enriched-${enriched}`, group: 'crm-sync' }]);
});

test('a failure that is deleted while its alert is put off is told of in the log', async () => {
  const id = await redis.xadd(keys().stream('events:failed'), '*', 'type', 'event.failed', 'key', 'k');
  await redis.zadd(keys().parked('alert'), 0, `failed-${id}`);
  await redis.xdel(keys().stream('events:failed'), id!);
  const lines: Record<string, unknown>[] = [];
  const told = pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const alert = defineConsumer({ name: 'alert', on: ['event.failed'], emits: ['alert.sent'], handle: async () => [] });
  const worker = await startTestWorker({ redisUrl: server.url, keyPrefix, consumers: [alert], log: told });
  try {
    await waitFor('the log line', () => lines.length > 0);
  } finally {
    await worker.stop();
  }
  assert.equal(
    lines.map(({ msg, id: entry }) => [msg, entry]),
    [['an entry vanished from under the group', id]],
  );
});

test('a chain whose later step was deleted is lost, until the stage before it has done it again', async () => {
  const { eventId } = await append('a');
  const chains = makeChains({ redis, keys: keys() });
  const [webhooks, follow] = [keys().stream('events:calendly'), keys().stream('events:enriched')];
  await redis.xgroup('CREATE', webhooks, 'enrich', '$');
  const enrich = async () => {
    const id = await redis.xadd(follow, '*', 'type', 'lead.enriched', 'key', 'k', 'cause', eventId!);
    await redis.hset(keys().progress('calendly:invitee.created:a'), `enriched-${id}`, '');
    return id!;
  };
  await redis.xdel(follow, await enrich());
  assert.is((await report()).length, 1);
  const chain = await chains.findChain(eventId!);
  assert.equal([chain?.status, chain?.failure?.error.code, chain?.failure?.isOpen], ['lost', 'entry_lost', true]);
  assert.equal(
    chain?.trail.map(({ type }) => type),
    ['calendly.invitee.created', 'event.failed'],
  );
  await enrich();
  assert.is((await chains.findChain(eventId!))?.status, 'queued');
});

for (const how of ['a delivery', 'a replay'] as const) {
  test(`where a later step was deleted before it was handed out, ${how} brings the event to its end`, async () => {
    const { eventId } = await append('a');
    const [webhooks, follow] = [keys().stream('events:calendly'), keys().stream('events:enriched')];
    for (const [stream, group] of [
      [webhooks, 'enrich'],
      [follow, 'crm-sync'],
    ] as const) {
      await redis.xgroup('CREATE', stream, group, '0', 'MKSTREAM');
    }
    // As enrich leaves it.
    await redis.xreadgroup('GROUP', 'enrich', 'w', 'STREAMS', webhooks, '>');
    await redis.xack(webhooks, 'enrich', idOf(eventId!));
    const enriched = await redis.xadd(follow, '*', 'type', 'lead.enriched', 'key', 'k', 'cause', eventId!);
    await redis.hset(keys().progress('calendly:invitee.created:a'), `enriched-${enriched}`, '');
    await redis.xdel(follow, enriched!);
    assert.equal(await report(), [{ eventId: `enriched-${enriched}`, group: 'crm-sync' }]);
    let current = eventId!;
    if (how === 'a delivery') {
      const again = await append('a');
      assert.is(again.status, 'accepted');
      assert.equal([(await append('a')).status, (await append('a')).eventId], ['duplicate', again.eventId]);
      current = again.eventId!;
    } else {
      const range = { group: 'enrich' as const, from: '-', to: '+', isForced: false, takesDryRuns: false };
      const counts = await replay({ redis, keys: keys() }, { ...range, replayId: 'r1' }, { isDryRun: false });
      assert.equal(counts, { run: 1 });
    }
    const history = await start();
    await history.ended(current);
  });
}

test('what trimming drops is no reason to look', async () => {
  const history = await start();
  await history.ended(await history.book('a'));
  await history.projected();
  await report();
  const options = { redis, keys: keys(), projections, retentionMs: 1_000, now: Date.now() + 60_000 };
  assert.is((await trim(options, { isDryRun: false })).dropped, 3);
  // Whoever looks finds this one.
  const gone = `calendly-${Date.now()}-9`;
  await redis.hset(keys().progress('gone'), 'id', gone, gone, '');
  assert.equal(await report(), []);
  await redis.xdel(keys().stream('events:calendly'), idOf((await append('b')).eventId!));
  assert.ok((await report()).some(({ eventId }) => eventId === gone));
});

test('a worker looks by itself', async () => {
  const { eventId } = await append('a');
  await redis.xdel(keys().stream('events:calendly'), idOf(eventId!));
  const history = await start();
  const retention = startRetention({ redis, keys: keys(), projections, retentionMs: 1e9, log, askMs: 20 });
  try {
    await waitFor('the alert', async () => (await redis.xlen(keys().stream('events:alerted'))) === 1);
    assert.is(await history.statusOf(eventId!), 'lost');
  } finally {
    await retention.stop();
  }
});

test.run();
