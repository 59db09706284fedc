/** Who comes first: new events do not wait behind a long row of retries, replays or events that waited for a provider. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Consumer, defineBatchConsumer, defineConsumer } from '../../src/lib/consumer.js';
import type { StoredEvent } from '../../src/lib/events.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('fairness');
const BATCH_MAX = 5;
/** Longer than it takes until due entries are looked for again. */
const WORK_MS = 20;

let server: TestRedis;
let worker: TestWorker;
let prefixes = 0;
/** Keys in the order in which they were begun with. */
let begun: string[] = [];
/** What is begun with stays at work while one of these keys is among it. */
const held = new Set<string>();

test.before(async () => {
  server = await startRedis();
});
test.before.each(() => {
  prefixes += 1;
  begun = [];
});
test.after.each(async () => {
  held.clear();
  await worker.stop();
});
test.after(() => server.stop());

type Booking = StoredEvent<'calendly.invitee.created'>;

async function work(events: readonly Booking[]) {
  begun.push(...events.map(({ key }) => key));
  await waitFor('the gate', () => !events.some(({ key }) => held.has(key)), 30_000);
  await new Promise((resolve) => setTimeout(resolve, WORK_MS));
  return events.map((event) => {
    const data = { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} };
    return { events: [{ type: 'lead.enriched' as const, data }] };
  });
}

const common = { name: 'enrich', on: ['calendly.invitee.created'], emits: ['lead.enriched'] } as const;
const single = defineConsumer({ ...common, handle: async (event) => (await work([event]))[0]!.events });
const batch = defineBatchConsumer({
  ...{ ...common, batchMax: BATCH_MAX },
  handleBatch: (deliveries) => work(deliveries.map(({ event }) => event)),
});

/** A worker with one slot, which the first event holds. */
async function start(consumer: Consumer): Promise<void> {
  const keyPrefix = `{f${prefixes}}:`;
  const env = { VISIBILITY_TIMEOUT_MS: '5000' };
  worker = await startTestWorker({ redisUrl: server.url, keyPrefix, consumers: [consumer], concurrency: 1, env });
  held.add('first');
  await book('first');
  await waitFor('the slot to be taken', () => begun.length === 1);
}

const book = (id: string) => appendWebhook(worker, { type: 'calendly.invitee.created', key: id, body: booking(id) });

/** Entries that the group has had before and is to have again, put in `set` in this order. */
async function putOff(set: string, count: number, name: string): Promise<void> {
  const { redis, keys } = worker;
  const stream = keys.stream('events:calendly');
  for (let i = 0; i < count; i += 1) {
    const eventId = await book(`${name}${i}`);
    await redis.xreadgroup('GROUP', 'enrich', 'somebody', 'COUNT', 1, 'STREAMS', stream, '>');
    await redis.xack(stream, 'enrich', eventId.slice('calendly-'.length));
    await redis.zadd(set, i, eventId);
  }
}

/** Lets the slot go to `key`, which holds it while more comes. */
async function hold(key: string, meanwhile: () => Promise<unknown>): Promise<void> {
  held.add(key);
  held.delete('first');
  await waitFor(`${key} to have the slot`, () => begun.includes(key));
  await meanwhile();
}

async function runAll(count: number): Promise<void> {
  held.clear();
  await waitFor('all of them', () => begun.length === count);
}

const parked = () => worker.keys.parked('enrich');
const waiting = () => worker.keys.waiting('enrich', 'gemini');
const placeOf = (key: string) => begun.indexOf(key);

test('a new event does not wait behind due ones, though they could take every slot', async () => {
  await start(single);
  await putOff(parked(), 20, 'due');
  await hold('due0', () => book('new'));
  await runAll(22);
  assert.ok(placeOf('new') < 5, begun.join(' '));
});

test('the same in batches', async () => {
  await start(batch);
  await putOff(parked(), 10 * BATCH_MAX, 'due');
  await hold('due0', () => book('new'));
  await runAll(10 * BATCH_MAX + 2);
  assert.ok(placeOf('new') < 4 * BATCH_MAX, begun.join(' '));
});

test('due events do not wait behind new ones either', async () => {
  await start(single);
  await putOff(parked(), 3, 'due');
  await hold('due0', async () => {
    for (let i = 0; i < 20; i += 1) await book(`new${i}`);
  });
  await runAll(24);
  assert.ok(placeOf('due2') < 10, begun.join(' '));
});

test('when a provider is back, neither new events nor due ones wait behind what waited for it', async () => {
  await start(single);
  await putOff(waiting(), 30, 'waited');
  await putOff(parked(), 2, 'due');
  await hold('waited0', () => book('new'));
  await runAll(34);
  assert.ok(placeOf('new') < 5, begun.join(' '));
  assert.ok(placeOf('due1') < 15, begun.join(' '));
});

test.run();
