/** Events that crash their workers: found out one by one, with no harm to their neighbours. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Consumer, defineBatchConsumer, defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError } from '../../src/lib/errors.js';
import type { Keys } from '../../src/lib/keys.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { makeProviderLimits, PROVIDER_LIMITS } from '../../src/lib/provider-limits.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { type CrashBench, startCrashBench } from '../helpers/crash-bench.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, pendingCount, startTestWorker } from '../helpers/worker.js';

const test = suite('isolation of what crashes workers');

let bench: CrashBench;
let server: CrashBench['server'];
let redis: CrashBench['redis'];
let keys: Keys;

test.before(async () => {
  bench = await startCrashBench();
  ({ server, redis } = bench);
});
const startAnew = () => {
  bench.startAnew();
  keys = bench.keys();
};
test.before.each(startAnew);
test.after.each(() => bench.stopWorkers());
test.after(() => bench.stop());

const run: CrashBench['run'] = (options) => bench.run(options);
const add = (name: string) => bench.add(name);
const enriched = () => bench.enriched();
const failed = () => bench.failed();
const countStarts = (name: string) => bench.countStarts(name);
const namesOf = (entries: Awaited<ReturnType<typeof enriched>>) =>
  entries.map(({ fields }) => fields.key!.split(':')[2]);
const LONG_MS = 60_000;
const emitBooked = (at: string) => [
  { type: 'lead.enriched' as const, data: { kind: 'booked' as const, happenedAt: at, facts: {} } },
];
const enrichAtOnce = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  handle: async ({ data }) => emitBooked(data.created_at),
});

const startWorker = async (consumers: readonly Consumer[] = [enrichAtOnce], env: Record<string, string> = {}) =>
  bench.keep(await startTestWorker({ redisUrl: server.url, keyPrefix: keys.prefix, consumers, env }));

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
  // Of a worker that was heard of after it was handed the event, and has not kept it alive since, its reply seems lost: the
  // first death may go uncounted.
  const uncounted = (await countStarts('exit')) - failure!.data.attempts;
  assert.ok(uncounted === 0 || uncounted === 1, `${uncounted} starts were not counted`);
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

/** An entry that a worker died with some seconds ago, and what was known of it by then; `@` is the time of its start. */
async function addAbandoned(name: string, strikes: string, worker = 'dead'): Promise<string> {
  abandoned += 1;
  const id = `${Date.now()}-${abandoned}`;
  const stream = keys.stream('events:calendly');
  const ago = Date.now() - 5_000;
  // At once: a worker that runs must neither be the first to read it, nor find it without its strikes.
  await redis
    .multi()
    .xadd(stream, id, ...entryFields(name))
    .xreadgroup('GROUP', 'enrich', worker, 'COUNT', 1, 'STREAMS', stream, '>')
    .hset(keys.strikes('enrich'), `calendly-${id}`, strikes.replace('@', `@${ago}`))
    .hset(keys.alive('enrich'), worker, ago + 1_000)
    .exec();
  return `calendly-${id}`;
}
let abandoned = 0;

const control = async () => Number(await redis.hget(keys.alive('enrich'), '*control'));

test('the slot stays empty for longer the longer a suspect ran, and the more often it crashed in a row', async () => {
  const staysEmpty = async (ms: number, { alone, deaths = 0 }: { alone: string; deaths?: number }) => {
    startAnew();
    await makeGroup();
    const [inRow, longest] = alone.split('/');
    await addAbandoned('a', `4:${inRow}:0:alone:dead@~${longest}`);
    await redis.hset(keys.alive('enrich'), '*deaths', deaths);
    const before = Date.now();
    await startWorker([enrichAtOnce], { MAX_ATTEMPTS: '20' });
    const until = await waitFor('the control', control);
    assert.ok(before + ms <= until && until <= Date.now() + ms, `${alone}: ${until - before} instead of ${ms} ms`);
    // It may be over by now.
    for (const { id } of await enriched()) assert.ok(Number(id.split('-')[0]) >= until, 'the suspect has begun');
  };
  // For a run of a second and a visibility timeout of 0.4 s: that twice, four times, eight times.
  await staysEmpty(2_800, { alone: '0/0' });
  await staysEmpty(5_600, { alone: '1/1000' });
  await staysEmpty(43_200, { alone: '2/5000' });
  await staysEmpty(2_800, { alone: '2/5000', deaths: 1 });
  await staysEmpty(120_000, { alone: '2/60000' });
});

test('a crash of another suspect does not shorten the time that the slot stays empty', async () => {
  await makeGroup();
  await addAbandoned('a', '4:2:0:alone:dead1@~5000', 'dead1');
  await startWorker([enrichAtOnce], { MAX_ATTEMPTS: '20' });
  const until = await waitFor('the control', control);
  const other = await addAbandoned('b', '2:0:0:alone:dead2@', 'dead2');
  await waitFor('the other crash', async () =>
    (await redis.hget(keys.strikes('enrich'), other))?.startsWith('3:1:0:wait:'),
  );
  assert.is(await control(), until);
});

test('a worker that dies without it ends the time that the slot stays empty: that was what it was for', async () => {
  await makeGroup();
  await addAbandoned('a', '4:2:0:alone:dead@~5000');
  await startWorker([enrichAtOnce], { MAX_ATTEMPTS: '20' });
  const until = await waitFor('the control', control);
  assert.ok(until > Date.now() + 10_000, 'it would wait long');
  await redis.hset(keys.alive('enrich'), { another: Date.now() - 5_000 });
  await waitFor('the suspect to be done', async () => (await enriched()).length === 1);
});

test('a death after a crash alone speaks for the suspect, also where it is taken over much later', async () => {
  await makeGroup();
  const id = await addAbandoned('a', '3:0:0:alone:dead@');
  // One with fewer crashes has the slot, and waits in it.
  await addAbandoned('b', '2:0:0:wait:', 'dead before');
  await redis.hset(keys.alive('enrich'), { 'dead before': 'dead', '*control': Date.now() + LONG_MS });
  const strikes: (string | null)[] = [];
  const handle: (typeof enrichAtOnce)['handle'] = async (event) => {
    if (event.id === id) strikes.push(await redis.hget(keys.strikes('enrich'), id));
    return emitBooked(event.data.created_at);
  };
  await startWorker([defineConsumer({ ...enrichAtOnce, handle })]);
  await waitFor('the crash', async () => (await redis.hget(keys.strikes('enrich'), id))?.startsWith('4:1:0:'));
  await redis.hset(keys.alive('enrich'), { another: Date.now() - 5_000 });
  await waitFor('its death', async () => (await redis.hget(keys.alive('enrich'), '*deaths')) === '1');
  await waitFor('both', async () => (await enriched()).length === 2);
  // It is soon done with, and nothing is left of them then: as they stood when it was tried.
  assert.match(strikes[0] ?? '', /^4:1:0:.*~1000$/);
});

test('who is not heard of any more in one group and works on in another has not crashed', async () => {
  await makeGroup();
  const id = await add('a');
  await readAndDie(1, 'w1');
  const strikes = `2:0:0:alone:w1@${Date.now() - 5_000}`;
  await redis.hset(keys.strikes('enrich'), id, strikes);
  await redis.hset(keys.alive('enrich'), 'w1', Date.now());
  await redis.hset(keys.alive('summarize'), 'w1', Date.now() - 100_000);
  const idle = defineConsumer({
    name: 'summarize',
    on: ['readai.meeting_completed'],
    emits: ['meeting.summarized'],
    handle: async () => [],
  });
  await startWorker([enrichAtOnce, idle], { VISIBILITY_TIMEOUT_MS: '60000' });
  await waitFor('the other group to see it', async () => (await redis.hget(keys.alive('summarize'), 'w1')) === 'dead');
  assert.is(await redis.hget(keys.strikes('enrich'), id), strikes);
});

test('a worker that died with the last crash, or after it, without the suspect speaks for that', async () => {
  await makeGroup();
  const id = await add('a');
  await readAndDie(1);
  await redis.hset(keys.strikes('enrich'), id, '5:3:0:wait:dead');
  await redis.hset(keys.alive('enrich'), { dead: 'dead', '*deaths': 1 });
  await startWorker();
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  assert.equal(await failed(), []);
});

test('what ends a worker before its handler begins is found out as well', async () => {
  const poison = await add('asked');
  await add('good');
  run({ isSupervised: true });
  const [failure] = await waitFor('the failure', async () => (await failed()).length > 0 && failed(), LONG_MS);
  assert.equal([failure!.data.eventId, failure!.data.error.code], [poison, 'worker_crashed']);
  await waitFor('the neighbour', async () => (await enriched()).length === 1, LONG_MS);
});

test('what is condemned begins no more, however long its end takes', async () => {
  await makeGroup();
  const id = await addAbandoned('a', '5:3:0:condemned:dead@');
  await redis.set(keys.stream('events:failed'), 'in the way');
  const worker = await startWorker();
  await waitFor('it to be taken over', async () => {
    const [pending] = (await redis.xpending(keys.stream('events:calendly'), 'enrich', '-', '+', 1)) as [
      string,
      string,
    ][];
    return pending?.[1] === worker.name;
  });
  await waitFor('a try to end it', () => countRefusals('WRONGTYPE'));
  assert.match((await redis.hget(keys.strikes('enrich'), id)) ?? '', /:condemned:/);
  await redis.del(keys.stream('events:failed'));
  await waitFor('its end', async () => (await failed()).length === 1);
  assert.equal(await enriched(), []);
});

test('strikes that nobody can read count for nothing and hold nobody up', async () => {
  await makeGroup();
  const ids = [await add('a'), await add('b'), await add('c')];
  await readAndDie(3);
  await redis.hset(keys.strikes('enrich'), ids[1]!, 'what is this');
  await startWorker();
  await waitFor('all three', async () => (await enriched()).length === 3);
});

test('after Redis’ clock went back by an hour nothing waits for an hour', async () => {
  await makeGroup();
  await addAbandoned('usual', '1:0:0:begun:dead@');
  await addAbandoned('suspect', '2:0:0:wait:');
  const anHour = Date.now() + 3_600_000;
  const noted = { '*last': anHour, '*quiet': anHour, '*control': anHour, dead: anHour, former: anHour };
  await redis.hset(keys.alive('enrich'), noted);
  await startWorker();
  await waitFor('both', async () => (await enriched()).length === 2);
});

test('nor does what was delivered in a future that the clock has left again', async () => {
  await makeGroup();
  await add('a');
  await add('b');
  await readAndDie(2);
  const stream = keys.stream('events:calendly');
  const pending = (await redis.xpending(stream, 'enrich', '-', '+', 2)) as [string, string][];
  // A time that stands in the dump as no other does.
  const at = Date.now() - 123_456;
  for (const [id] of pending) await redis.xclaim(stream, 'enrich', 'dead', 0, id, 'TIME', at, 'JUSTID');
  const dump = (await redis.dumpBuffer(stream))!;
  const bytesOf = (ms: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(ms));
    return bytes;
  };
  const anHour = 3_600_000;
  for (let place = dump.indexOf(bytesOf(at)); place >= 0; place = dump.indexOf(bytesOf(at))) {
    bytesOf(Date.now() + anHour).copy(dump, place);
  }
  await redis.call('DEBUG', 'SET-SKIP-CHECKSUM-VALIDATION', 1);
  await redis.restore(stream, 0, dump, 'REPLACE');
  const idle = async () => ((await redis.xpending(stream, 'enrich', '-', '+', 2)) as unknown[][]).map(([, , ms]) => ms);
  assert.equal(await idle(), [0, 0]);
  await redis.hset(keys.alive('enrich'), 'dead', Date.now() + anHour);
  await startWorker();
  await waitFor('both', async () => (await enriched()).length === 2);
});

test('a reply that was lost is no crash: no strike, and the delivery count stays', async () => {
  await makeGroup();
  const worker = await startWorker();
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
  const worker = await startWorker([enrichAtOnce], { VISIBILITY_TIMEOUT_MS: '600000' });
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
  const held = await startWorker([
    defineConsumer({
      ...enrichAtOnce,
      handle: (_, { signal }) => {
        began = true;
        return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
      },
    }),
  ]);
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
  await startWorker([
    defineConsumer({
      ...enrichAtOnce,
      async handle({ data }) {
        strikes.push(await redis.hlen(keys.strikes('enrich')));
        return emitBooked(data.created_at);
      },
    }),
  ]);
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
  await startWorker([
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
  ]);
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
  await startWorker([
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
  ]);
  await waitFor('all three', async () => (await enriched()).length === 3);
  assert.is(most, 1);
  assert.is(states.length, 6);
  for (const state of states) assert.match(state ?? '', /^2:0:0:alone:/);
  await waitFor('clean strikes', async () => (await redis.hlen(keys.strikes('enrich'))) === 0);
});

test('at the gate of a provider a suspect goes first: those that wait for its slot do not wait for all others', async () => {
  await makeGroup();
  const suspect = await add('suspect');
  await readAndDie(1);
  await redis.hset(keys.strikes('enrich'), suspect, '1:0:0:begun:dead');
  const limits = { ...PROVIDER_LIMITS, gemini: { running: 1, perSecond: 1_000, perSecondMin: 1 } };
  const { gates } = makeProviderLimits({ redis, keys, owner: 'w', limits });
  const asking: string[] = [];
  const asked: string[] = [];
  let answer = () => {};
  const untilAnswered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const handle: (typeof enrichAtOnce)['handle'] = async ({ key, data }, { signal }) => {
    const name = key.split(':')[2]!;
    asking.push(name);
    const call = async () => {
      asked.push(name);
      await untilAnswered;
    };
    await gates.gemini.pass(call, { signal });
    return emitBooked(data.created_at);
  };
  for (const name of ['a', 'b', 'c', 'd']) await add(name);
  await startWorker([defineConsumer({ ...enrichAtOnce, handle })], { VISIBILITY_TIMEOUT_MS: '60000' });
  await waitFor('the others to ask', () => new Set(asking).size === 4);
  // Nobody has kept it alive for long.
  const [stream, id] = [keys.stream('events:calendly'), suspect.slice('calendly-'.length)];
  await redis.xclaim(stream, 'enrich', 'dead', 0, id, 'IDLE', 120_000, 'JUSTID');
  await waitFor('the suspect to ask, behind others', () => asking.includes('suspect'));
  answer();
  await waitFor('all', async () => (await enriched()).length === 5);
  assert.is(asked[1], 'suspect', `asked in the order ${asked.join(' ')}`);
});

test('one that was condemned and is redriven starts with a clean record', async () => {
  await makeGroup();
  const id = await add('a');
  await readAndDie(1);
  // It crashed its worker alone twice in a row before.
  await redis.hset(keys.strikes('enrich'), id, '4:2:0:alone:dead');
  await startWorker();
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
  await startWorker();
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  assert.equal(await failed(), []);
});

/** How often the server has refused a command in this way. */
async function countRefusals(code: string): Promise<number> {
  const told = await redis.info('errorstats');
  return Number(new RegExp(`errorstat_${code}:count=(\\d+)`).exec(told)?.[1] ?? 0);
}

function entryFields(name: string): string[] {
  const key = `calendly:invitee.created:${name}`;
  const at = new Date().toISOString();
  return ['type', 'calendly.invitee.created', 'key', key, 'at', at, 'v', '1', 'data', JSON.stringify(booking(name))];
}

test.run();
