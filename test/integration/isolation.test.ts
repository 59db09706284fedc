/** Events that crash their workers: found out one by one, with no harm to their neighbours. */
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineBatchConsumer, defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError } from '../../src/lib/errors.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import {
  appendWebhook,
  booking,
  pendingCount,
  readStream,
  startTestWorker,
  type TestWorker,
} from '../helpers/worker.js';
import { startWorkerProcess, type WorkerProcess } from '../helpers/worker-process.js';

const test = suite('isolation of what crashes workers');

let server: Awaited<ReturnType<typeof startRedis>>;
let redis: RedisClient;
let keys: Keys;
let tests = 0;
const processes: WorkerProcess[] = [];
const workers: TestWorker[] = [];

test.before(async () => {
  server = await startRedis();
  redis = server.connect();
});
test.before.each(() => {
  tests += 1;
  keys = makeKeys(`t${tests}:`);
});
test.after.each(async () => {
  await Promise.all([...processes.splice(0), ...workers.splice(0)].map((worker) => worker.stop()));
});
test.after(() => server.stop());

const run = (options: { env?: Record<string, string>; isSupervised?: boolean } = {}) => {
  const started = startWorkerProcess({ redisUrl: server.url, keyPrefix: keys.prefix, ...options });
  processes.push(started);
  return started;
};
const add = (name: string) =>
  appendWebhook(
    { redis, keys },
    { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
  );
const enriched = () => readStream({ redis, keys }, 'events:enriched');
const failed = () => readStream({ redis, keys }, 'events:failed');
const namesOf = (entries: Awaited<ReturnType<typeof enriched>>) =>
  entries.map(({ fields }) => fields.key!.split(':')[2]);
const starts = () => redis.lrange(`${keys.prefix}starts`, 0, -1);
const countStarts = async (name: string) => (await starts()).filter((started) => started === name).length;
const LONG_MS = 60_000;
/** Longer than it takes to take over. */
const STORM_MS = 2_200;

const emitBooked = (at: string) => [
  { type: 'lead.enriched' as const, data: { kind: 'booked' as const, happenedAt: at, facts: {} } },
];
const enrichAtOnce = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  handle: async ({ data }) => emitBooked(data.created_at),
});

/** Entries are handed to a consumer that is then never heard of again. */
const readAndDie = (count: number, consumer = 'dead') =>
  redis.xreadgroup('GROUP', 'enrich', consumer, 'COUNT', count, 'STREAMS', keys.stream('events:calendly'), '>');
const makeGroup = () => redis.xgroup('CREATE', keys.stream('events:calendly'), 'enrich', '0', 'MKSTREAM');

test('one that ends its process fails alone; of thirty neighbours none does, and later ones go on meanwhile', async () => {
  const good = Array.from({ length: 30 }, (_, index) => `good${index}`);
  for (const name of good.slice(0, 15)) await add(name);
  const poison = await add('exit');
  for (const name of good.slice(15)) await add(name);
  run({ isSupervised: true });
  await waitFor('the poison to be started twice', async () => (await countStarts('exit')) >= 2, LONG_MS);
  const late = Array.from({ length: 10 }, (_, index) => `late${index}`);
  for (const name of late) await add(name);
  const [failure] = await waitFor('the failure', async () => (await failed()).length > 0 && failed(), LONG_MS);
  await waitFor('all others', async () => (await enriched()).length >= 40, LONG_MS);
  assert.is(failure!.data.eventId, poison);
  assert.is(failure!.data.error.code, 'worker_crashed');
  assert.is(failure!.data.attempts, await countStarts('exit'));
  assert.is((await failed()).length, 1);
  assert.equal(namesOf(await enriched()).sort(), [...good, ...late].sort());
  for (const { fields } of await enriched()) assert.is(fields.attempts, '1');
  const failedAt = failure!.id;
  assert.ok((await enriched()).filter(({ id }) => id < failedAt).length === 40, 'the others did not wait for its end');
  await waitFor(
    'nothing pending',
    async () => (await pendingCount({ redis, keys }, 'events:calendly', 'enrich')) === 0,
  );
  assert.is(await redis.hlen(keys.strikes('enrich')), 0);
});

test('workers that are killed again and again, whatever they do, condemn nothing', async () => {
  const names = Array.from({ length: 6 }, (_, index) => `slow${index}`);
  for (const name of names) await add(name);
  const worker = run({ isSupervised: true, env: { SLOW_MS: '400' } });
  for (let kills = 1; kills <= 6; kills += 1) {
    const before = (await starts()).length;
    await waitFor('work to begin', async () => (await starts()).length > before, LONG_MS);
    worker.kill('SIGKILL');
    await waitFor('the death', () => worker.exits().length >= kills, LONG_MS);
  }
  await waitFor('all to be done', async () => (await enriched()).length >= 6, LONG_MS);
  assert.equal(namesOf(await enriched()).sort(), names);
  assert.equal(await failed(), []);
});

/**
 * Kills the worker again and again: each life ends so long after the slow event was started in it, and at the latest so long
 * after the worker was first heard of (ms).
 */
async function stormOn(
  worker: WorkerProcess,
  lives: readonly { startedMs?: number; heardMs: number }[],
): Promise<void> {
  const isHeard = async (pid: number) =>
    (await redis.hkeys(keys.alive('enrich'))).some((name) => name.includes(`-${pid}-`));
  for (const [killed, { startedMs, heardMs }] of lives.entries()) {
    await waitFor('the death', () => worker.exits().length === killed, LONG_MS);
    const pid = worker.pid();
    const before = await countStarts('slow');
    await waitFor('a heartbeat', () => isHeard(pid), LONG_MS);
    let isOver = false;
    const timesUp = sleep(heardMs, undefined, { ref: false }).then(() => {
      isOver = true;
    });
    const isStarted = async () => startedMs !== undefined && (await countStarts('slow')) > before;
    await waitFor('its end', async () => isOver || isStarted(), LONG_MS);
    if (startedMs !== undefined) await Promise.race([timesUp, sleep(startedMs)]);
    worker.kill('SIGKILL');
  }
  await waitFor('the last death', () => worker.exits().length === lives.length, LONG_MS);
  await worker.stop();
}

async function endsWell(): Promise<void> {
  run({ isSupervised: true, env: { SLOW_MS: '10' } });
  await waitFor('its end', async () => (await enriched()).length + (await failed()).length > 0, LONG_MS);
  assert.equal(await failed(), []);
}

test('a storm that kills every worker after a while condemns nothing, though an event takes longer than any lives', async () => {
  await add('slow');
  const worker = run({ isSupervised: true, env: { SLOW_MS: '20000', MAX_ATTEMPTS: '2' } });
  await stormOn(
    worker,
    Array.from({ length: 7 }, () => ({ heardMs: STORM_MS })),
  );
  assert.ok((await countStarts('slow')) >= 3, 'it was started in life after life');
  await endsWell();
});

test('nor does a storm that lets each worker live a little longer than the one before', async () => {
  await add('slow');
  const worker = run({ isSupervised: true, env: { SLOW_MS: '20000', MAX_ATTEMPTS: '2' } });
  // Twice as usual, then alone: for a moment, for a while, and once more if it begins before the last life ends.
  await stormOn(worker, [
    { startedMs: 0, heardMs: LONG_MS },
    { startedMs: 0, heardMs: LONG_MS },
    { startedMs: 100, heardMs: LONG_MS },
    { startedMs: 900, heardMs: LONG_MS },
    { startedMs: 0, heardMs: 4_000 },
  ]);
  await endsWell();
});

test('the slot stays empty for longer the longer a suspect ran, and the more often it crashed in a row', async () => {
  const staysEmpty = async (ms: number, { alone, deaths = 0 }: { alone: string; deaths?: number }) => {
    tests += 1;
    keys = makeKeys(`t${tests}:`);
    await makeGroup();
    const id = await add('a');
    await readAndDie(1);
    const ago = Date.now() - 5_000;
    await redis.hset(keys.strikes('enrich'), id, `4:${alone}:0:alone:dead@${ago}`);
    await redis.hset(keys.alive('enrich'), { dead: ago + 1_000, '*deaths': deaths });
    const env = { MAX_ATTEMPTS: '20' };
    const before = Date.now();
    workers.push(
      await startTestWorker({ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [enrichAtOnce], env }),
    );
    const until = Number(await waitFor('the control', () => redis.hget(keys.alive('enrich'), '*control')));
    assert.ok(before + ms <= until && until <= Date.now() + ms, `${alone}: ${until - before} instead of ${ms} ms`);
    assert.equal(await enriched(), []);
  };
  // For a run of a second and a visibility timeout of 0.4 s: that twice, four times, eight times.
  await staysEmpty(2_800, { alone: '0/0' });
  await staysEmpty(5_600, { alone: '1/1000' });
  await staysEmpty(43_200, { alone: '2/5000' });
  await staysEmpty(2_800, { alone: '2/5000', deaths: 1 });
  await staysEmpty(120_000, { alone: '2/60000' });
});

test('a reply that was lost is no crash: no strike, and the delivery count stays', async () => {
  await makeGroup();
  const worker = await startTestWorker({ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [enrichAtOnce] });
  workers.push(worker);
  const stream = keys.stream('events:calendly');
  await redis
    .multi()
    .xadd(stream, '*', ...entryFields('a'))
    .xreadgroup('GROUP', 'enrich', worker.name, 'COUNT', 1, 'STREAMS', stream, '>')
    .exec();
  const strikes: number[] = [];
  const counts: number[] = [];
  await waitFor('the follow-on', async () => {
    const [pending] = (await redis.xpending(stream, 'enrich', '-', '+', 1)) as [string, string, number, number][];
    if (pending !== undefined) counts.push(pending[3]);
    strikes.push(await redis.hlen(keys.strikes('enrich')));
    return (await enriched()).length === 1;
  });
  assert.is(Math.max(...strikes), 0);
  assert.is(Math.max(...counts), 1);
});

test('after a connection was cut, what its lost reply handed out is taken in at once', async () => {
  await makeGroup();
  const worker = await startTestWorker({
    ...{ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [enrichAtOnce] },
    env: { VISIBILITY_TIMEOUT_MS: '600000' },
  });
  workers.push(worker);
  const stream = keys.stream('events:calendly');
  await redis
    .multi()
    .xadd(stream, '*', ...entryFields('a'))
    .xreadgroup('GROUP', 'enrich', worker.name, 'COUNT', 1, 'STREAMS', stream, '>')
    .exec();
  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
});

test('what was handed back is no crash', async () => {
  await makeGroup();
  let began = false;
  const held = await startTestWorker({
    ...{ redisUrl: server.url, keyPrefix: keys.prefix },
    consumers: [
      defineConsumer({
        ...enrichAtOnce,
        handle: (_, { signal }) => {
          began = true;
          return new Promise((_resolve, reject) =>
            signal.addEventListener('abort', () => reject(new Error('aborted'))),
          );
        },
      }),
    ],
  });
  await add('a');
  await waitFor('the start', () => began);
  await held.stop();
  const [pending] = (await redis.xpending(keys.stream('events:calendly'), 'enrich', '-', '+', 1)) as [
    string,
    string,
    number,
    number,
  ][];
  assert.is(pending![3], 1, 'the delivery count stays as it was');
  const strikes: number[] = [];
  workers.push(
    await startTestWorker({
      ...{ redisUrl: server.url, keyPrefix: keys.prefix },
      consumers: [
        defineConsumer({
          ...enrichAtOnce,
          async handle({ data }) {
            strikes.push(await redis.hlen(keys.strikes('enrich')));
            return emitBooked(data.created_at);
          },
        }),
      ],
    }),
  );
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  assert.equal(strikes, [0]);
});

test('suspects of a batch consumer run as batches of one, beside the usual ones', async () => {
  await makeGroup();
  const ids = [await add('a'), await add('b'), await add('c')];
  await readAndDie(3);
  // They were started in one crash before.
  for (const id of ids) await redis.hset(keys.strikes('enrich'), id, '1:0:0:begun:dead');
  const batches: string[][] = [];
  workers.push(
    await startTestWorker({
      ...{ redisUrl: server.url, keyPrefix: keys.prefix },
      consumers: [
        defineBatchConsumer({
          name: 'enrich',
          on: ['calendly.invitee.created'],
          emits: ['lead.enriched'],
          batchMax: 10,
          async handleBatch(deliveries) {
            batches.push(deliveries.map(({ event }) => event.key.split(':')[2]!));
            return deliveries.map(({ event }) => ({ events: emitBooked(event.data.created_at) }));
          },
        }),
      ],
    }),
  );
  await waitFor('all three', async () => (await enriched()).length === 3);
  assert.equal(batches.sort(), [['a'], ['b'], ['c']]);
});

test('a suspect that is parked and comes back is still a suspect, and one slot is for all of them', async () => {
  await makeGroup();
  const ids = [await add('a'), await add('b'), await add('c')];
  await readAndDie(3);
  for (const id of ids) await redis.hset(keys.strikes('enrich'), id, '1:0:0:begun:dead');
  let running = 0;
  let most = 0;
  const states: (string | null)[] = [];
  const tried = new Set<string>();
  workers.push(
    await startTestWorker({
      ...{ redisUrl: server.url, keyPrefix: keys.prefix },
      consumers: [
        defineConsumer({
          ...enrichAtOnce,
          async handle(event) {
            running += 1;
            most = Math.max(most, running);
            states.push(await redis.hget(keys.strikes('enrich'), event.id));
            running -= 1;
            if (!tried.has(event.id)) {
              tried.add(event.id);
              throw new RetryableError('not now', { code: 'busy' });
            }
            return emitBooked(event.data.created_at);
          },
        }),
      ],
    }),
  );
  await waitFor('all three', async () => (await enriched()).length === 3);
  assert.is(most, 1);
  assert.is(states.length, 6);
  for (const state of states) assert.match(state ?? '', /^2:0\/0:0:alone:/);
  await waitFor('clean strikes', async () => (await redis.hlen(keys.strikes('enrich'))) === 0);
});

test('one that was condemned and is redriven starts with a clean record', async () => {
  await makeGroup();
  const id = await add('a');
  await readAndDie(1);
  // It crashed its worker alone twice in a row before.
  await redis.hset(keys.strikes('enrich'), id, '4:2:0:alone:dead');
  const worker = await startTestWorker({ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [enrichAtOnce] });
  workers.push(worker);
  await waitFor('the failure', async () => (await failed()).length === 1);
  assert.equal((await enriched()).length, 0);
  const [failure] = await readOpenFailures({ redis, keys });
  assert.is(failure!.attempts, 5);
  assert.is(await redis.hlen(keys.strikes('enrich')), 0);
  assert.is(await makeRedrive({ redis, keys })(failure!), 'redriven');
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
});

test('deaths while no suspect ran alone speak for the suspect', async () => {
  await makeGroup();
  const id = await add('a');
  await readAndDie(1);
  await redis.hset(keys.strikes('enrich'), id, '4:2:0:alone:dead');
  await redis.hset(keys.alive('enrich'), '*deaths', '1');
  workers.push(await startTestWorker({ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [enrichAtOnce] }));
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  assert.equal(await failed(), []);
});

function entryFields(name: string): string[] {
  const key = `calendly:invitee.created:${name}`;
  const at = new Date().toISOString();
  return ['type', 'calendly.invitee.created', 'key', key, 'at', at, 'v', '1', 'data', JSON.stringify(booking(name))];
}

test.run();
