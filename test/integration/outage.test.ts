import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import { type Context, defineBatchConsumer, defineConsumer, type Outcome } from '../../src/lib/consumer.js';
import { NotYetError, OutageError, TerminalError } from '../../src/lib/errors.js';
import { makeKeys } from '../../src/lib/keys.js';
import { readOverview } from '../../src/lib/overview.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeProviderHealth } from '../../src/lib/runtime/provider-health.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, readStream, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('outage of a provider');

let redis: Awaited<ReturnType<typeof startRedis>>;
let keyPrefix = '';
let tests = 0;
const workers: TestWorker[] = [];
/** No worker dies here: a machine that stands still for a while must not make one let go of what hangs, and do it again. */
const PATIENT = { VISIBILITY_TIMEOUT_MS: '20000' };

test.before(async () => {
  redis = await startRedis();
});
test.before.each(() => {
  tests += 1;
  keyPrefix = `t${tests}:`;
});
test.after.each(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});
test.after(async () => {
  await redis.stop();
});

/** Bookings need the model, cancellations don't. */
type Model = { call: (key: string, context: Context) => void | Promise<void> };
const enrichThrough = (gemini: Model) =>
  defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created', 'calendly.invitee.canceled'],
    emits: ['lead.enriched'],
    needs: ({ type }) => (type === 'calendly.invitee.created' ? ['gemini'] : []),
    async handle(event, context) {
      if (event.type === 'calendly.invitee.created') await gemini.call(event.key, context);
      return [
        {
          type: 'lead.enriched' as const,
          data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
        },
      ];
    },
  });

async function start(gemini: Model, env: Record<string, string> = {}, concurrency?: number): Promise<TestWorker> {
  const worker = await startTestWorker({
    ...{ redisUrl: redis.url, keyPrefix, consumers: [enrichThrough(gemini)], env: { ...PATIENT, ...env } },
    ...(concurrency === undefined ? {} : { concurrency }),
  });
  workers.push(worker);
  return worker;
}

const book = (worker: TestWorker, id: string) =>
  appendWebhook(worker, { type: 'calendly.invitee.created', key: `calendly:invitee.created:${id}`, body: booking(id) });
const cancel = (worker: TestWorker, id: string) =>
  appendWebhook(worker, {
    ...{ type: 'calendly.invitee.canceled', key: `calendly:invitee.canceled:${id}` },
    body: { ...booking(id), event: 'invitee.canceled' },
  });
const eventIdOf = async ({ redis: client, keys }: TestWorker, id: string) =>
  (await client.get(keys.idemSeen(`calendly:invitee.created:${id}`)))!;
const down = (kind: 'outage' | 'configuration' = 'outage', retryAfterMs?: number) =>
  new OutageError('Gemini answered 503', { code: 'gemini_503', provider: 'gemini', kind, retryAfterMs });
const health = (worker: TestWorker) => readStream(worker, 'events:health');
const told = async (worker: TestWorker) => (await health(worker)).map(({ fields }) => fields.type);
const failures = (worker: TestWorker) => readStream(worker, 'events:failed');
const pauseOf = (worker: TestWorker) => worker.keys.pause('gemini');
const probeAt = async (worker: TestWorker) => Number(await worker.redis.hget(pauseOf(worker), 'probeAt'));
const toWait = (worker: TestWorker, count: number) =>
  waitFor(
    `${count} to wait`,
    async () => (await worker.redis.zcard(worker.keys.waiting('enrich', 'gemini'))) === count,
  );

/** How often a provider that stays down may have been probed by then: seldomer and seldomer, but for the first two. */
function probesWithin(ms: number): number {
  let probes = 1;
  for (let [at, everyMs] = [200, 200]; at <= ms; everyMs *= 1.6, probes += 1) at += everyMs;
  return probes;
}

/** The first call fails at once, the others hang until they are told how they end. */
function hangingModel() {
  const hanging: { succeed: () => void; fail: (error: Error) => void }[] = [];
  let calls = 0;
  const call = () => {
    calls += 1;
    if (calls === 1) throw down();
    return new Promise<void>((succeed, fail) => hanging.push({ succeed, fail }));
  };
  return { hanging, call };
}

test('one event alone in the night pauses the provider, for all workers, and it is done after the return', async () => {
  const gemini = { isDown: true, calls: 0, call: () => {} };
  gemini.call = () => {
    gemini.calls += 1;
    if (gemini.isDown) throw down();
  };
  const worker = await start(gemini);
  await start(gemini);
  const eventId = await book(worker, 'a');
  await waitFor('the pause', async () => (await health(worker)).length === 1);
  const chains = makeChains(worker);
  await waitFor('the event to wait', async () => (await chains.findChain(eventId))?.status === 'paused');
  assert.equal(
    (await readOverview(worker)).pauses.map(({ provider, kind, reason }) => [provider, kind, reason]),
    [['gemini', 'outage', 'gemini_503']],
  );
  gemini.isDown = false;
  const [entry] = await waitFor('the follow-on', async () => {
    const found = await readStream(worker, 'events:enriched');
    return found.length === 1 && found;
  });
  assert.is(entry!.fields.attempts, '1', 'an outage burns no attempt');
  await waitFor('the end of the pause', async () => (await health(worker)).length === 2);
  assert.equal(
    (await health(worker)).map(({ fields, data }) => [fields.type, data.provider, data.kind]),
    [
      ['provider.paused', 'gemini', 'outage'],
      ['provider.resumed', 'gemini', 'outage'],
    ],
  );
});

test('an event that is let through to find out whether the provider is back is told so', async () => {
  const probes: (boolean | undefined)[] = [];
  const worker = await start({
    call(_, { isProbe }) {
      probes.push(isProbe);
      if (probes.length < 3) throw down();
    },
  });
  await book(worker, 'a');
  await waitFor('the follow-on', async () => (await readStream(worker, 'events:enriched')).length === 1);
  assert.equal(probes, [false, true, true]);
});

test('work that does not need the provider goes on, and the probes are few', async () => {
  const gemini = {
    calls: 0,
    call: () => {
      gemini.calls += 1;
      throw down();
    },
  };
  const worker = await start(gemini);
  const startedAt = performance.now();
  await book(worker, 'a');
  await waitFor('the pause', async () => (await health(worker)).length === 1);
  for (let i = 0; i < 20; i += 1) await book(worker, `b${i}`);
  for (let i = 0; i < 5; i += 1) await cancel(worker, `c${i}`);
  await waitFor('the cancellations', async () => (await readStream(worker, 'events:enriched')).length === 5);
  await waitFor('the bookings to wait', async () => (await readOverview(worker)).groups.enrich!.parked >= 20);
  const mayBe = 1 + probesWithin(performance.now() - startedAt);
  assert.ok(gemini.calls <= mayBe, `${gemini.calls} calls where ${mayBe} may be`);
  assert.is((await readStream(worker, 'events:failed')).length, 0);
});

test('an event that fails while others succeed spends its own attempts and fails alone', async () => {
  const worker = await startTestWorker({
    redisUrl: redis.url,
    keyPrefix,
    env: PATIENT,
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        needs: () => ['gemini'],
        async handle(event) {
          if (event.key.endsWith(':bad')) throw down();
          return [
            {
              type: 'lead.enriched' as const,
              data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
            },
          ];
        },
      }),
    ],
  });
  workers.push(worker);
  await book(worker, 'bad');
  let good = 0;
  const [failure] = await waitFor('the failure', async () => {
    good += 1;
    await book(worker, `good${good}`);
    const found = await readStream(worker, 'events:failed');
    return found.length === 1 && found;
  });
  assert.is(failure!.data.key, 'calendly:invitee.created:bad');
  assert.is(failure!.data.error.code, 'gemini_503');
  await waitFor('every good one', async () => (await readStream(worker, 'events:enriched')).length === good);
});

test('a configuration error pauses at once and says so, and its end is noticed soon', async () => {
  const worker = await start({
    call: () => {
      throw down('configuration');
    },
  });
  await book(worker, 'a');
  const [paused] = await waitFor('the pause', async () => {
    const found = await health(worker);
    return found.length === 1 && found;
  });
  assert.is(paused!.data.kind, 'configuration');
  const probeMs = Number(await worker.redis.hget(pauseOf(worker), 'probeMs'));
  assert.ok(probeMs <= 10_000, `it is noticed only after ${probeMs} ms that it was mended`);
});

test('a configuration error that is found in an outage ends that, and is a pause of its own', async () => {
  let kind: 'outage' | 'configuration' | undefined = 'outage';
  const worker = await start({
    call: () => {
      if (kind !== undefined) throw down(kind);
    },
  });
  await book(worker, 'a');
  await waitFor('the pause', async () => (await health(worker)).length === 1);
  kind = 'configuration';
  await waitFor('the other pause', async () => (await health(worker)).length === 3);
  kind = undefined;
  await worker.redis.hset(pauseOf(worker), 'probeAt', 0);
  await waitFor('its end', async () => (await health(worker)).length === 4);
  const found = await health(worker);
  assert.equal(
    found.map(({ fields, data }) => [fields.type, data.kind]),
    [
      ['provider.paused', 'outage'],
      ['provider.resumed', 'outage'],
      ['provider.paused', 'configuration'],
      ['provider.resumed', 'configuration'],
    ],
  );
  const [first, firstEnd, second, secondEnd] = found.map(({ data }) => data.since);
  assert.equal([firstEnd, secondEnd], [first, second]);
});

test('while a provider hangs, what does not need it is done, before anybody knows of the outage and after', async () => {
  const gemini = hangingModel();
  gemini.call = () => new Promise<void>((succeed, fail) => gemini.hanging.push({ succeed, fail }));
  const worker = await start(gemini, {}, 4);
  for (let i = 0; i < 12; i += 1) await book(worker, `a${i}`);
  await waitFor('as many to hang as may', () => gemini.hanging.length === 3);
  await toWait(worker, 9);
  for (let i = 0; i < 3; i += 1) await cancel(worker, `c${i}`);
  const enriched = async () => (await readStream(worker, 'events:enriched')).length;
  await waitFor('the cancellations', async () => (await enriched()) === 3);
  assert.is((await makeChains(worker).findChain(await eventIdOf(worker, 'a11')))?.status, 'queued');
  for (const { fail } of gemini.hanging.splice(0)) fail(down());
  await waitFor('as many probes to hang as may', () => gemini.hanging.length === 3);
  await cancel(worker, 'c3');
  await waitFor('the cancellation', async () => (await enriched()) === 4);
  gemini.call = async () => {};
  for (const { succeed } of gemini.hanging.splice(0)) succeed();
  await waitFor('all', async () => (await enriched()) === 16);
  for (const { fields } of await readStream(worker, 'events:enriched')) assert.is(fields.attempts, '1');
});

test('what waited for a provider is done as slots fall free, in the order in which it came', async () => {
  const gemini = { order: [] as string[], call: (_key: string): void | Promise<void> => {} };
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  gemini.call = async (key) => {
    gemini.order.push(key.slice('calendly:invitee.created:'.length));
    await opened;
  };
  const worker = await start(gemini, {}, 2);
  const ids = Array.from({ length: 30 }, (_, index) => `a${index}`);
  for (const id of ids) await book(worker, id);
  await toWait(worker, 29);
  open();
  await waitFor('all', async () => (await readStream(worker, 'events:enriched')).length === 30);
  assert.equal(gemini.order, ids);
});

test('a probe that hangs keeps no other from beginning, and ends the pause whenever it succeeds', async () => {
  const gemini = hangingModel();
  const worker = await start(gemini);
  await book(worker, 'a');
  await waitFor('the pause', async () => (await health(worker)).length === 1);
  for (const id of ['b', 'c']) await book(worker, id);
  await waitFor('three at once', () => gemini.hanging.length === 3);
  gemini.hanging[0]!.succeed();
  await waitFor('the end of the pause', async () => (await health(worker)).length === 2);
  for (const { succeed } of gemini.hanging) succeed();
});

test('a probe that hangs and fails puts off the next only where the provider asks for it', async () => {
  const gemini = hangingModel();
  const worker = await start(gemini);
  await book(worker, 'a');
  await waitFor('the probe', () => gemini.hanging.length === 1);
  const due = (await probeAt(worker)) + 30_000;
  await worker.redis.hset(pauseOf(worker), 'probeAt', due);
  gemini.hanging[0]!.fail(down());
  await toWait(worker, 1);
  assert.is(await probeAt(worker), due);
  await worker.redis.hset(pauseOf(worker), 'probeAt', 0);
  await waitFor('the next probe', () => gemini.hanging.length === 2);
  gemini.hanging[1]!.fail(down('outage', 60_000));
  await toWait(worker, 1);
  assert.ok((await probeAt(worker)) > due, 'the wait that the provider names is kept');
});

test('a pause that was begun before the clock of Redis went back is probed all the same', async () => {
  const gemini = { isDown: true, call: () => {} };
  gemini.call = () => {
    if (gemini.isDown) throw down('configuration');
  };
  const worker = await start(gemini);
  await book(worker, 'a');
  await toWait(worker, 1);
  gemini.isDown = false;
  await worker.redis.hset(pauseOf(worker), 'probeAt', Date.now() + 3_600_000);
  await waitFor('the end of the pause', async () => (await health(worker)).length === 2);
});

test('the next outage is probed as soon as the last one was at first, whichever worker has ended that', async () => {
  const client = redis.connect() as unknown as RedisClient;
  const keys = makeKeys(keyPrefix);
  const make = () => makeProviderHealth({ redis: client, keys, probeBaseMs: 100, log: pino({ level: 'silent' }) });
  const [one, other] = [make(), make()];
  const pause = (isProbe: boolean) =>
    one.pause({ provider: 'gemini', kind: 'outage', reason: 'x', retryAfterMs: undefined, isProbe });
  const probeMs = async () => Number(await client.hget(keys.pause('gemini'), 'probeMs'));
  await pause(false);
  for (let probes = 0; probes < 3; probes += 1) await pause(true);
  assert.ok((await probeMs()) > 300, 'the longer it lasts, the fewer probes');
  await other.refresh(0);
  await other.succeeded('gemini', { now: Date.now(), isProbe: true });
  await one.refresh(0);
  await pause(false);
  assert.is(await probeMs(), 100);
});

for (const provider of ['gemini', undefined] as const) {
  test(`a probe that fails for good ${provider ? 'by the answer of the provider ends' : 'by a fault of ours does not end'} the pause`, async () => {
    const outcomes: Error[] = [down(), new TerminalError('no', { code: 'no', ...(provider && { provider }) })];
    const worker = await start({
      call: () => {
        const error = outcomes.shift();
        if (error !== undefined) throw error;
      },
    });
    await book(worker, 'a');
    await waitFor('the failure', async () => (await failures(worker)).length === 1);
    assert.equal(await told(worker), ['provider.paused', ...(provider ? ['provider.resumed'] : [])]);
    // Nothing waits that could be let through as a probe: the next event that comes is.
    await book(worker, 'b');
    await waitFor('the next event', async () => (await readStream(worker, 'events:enriched')).length === 1);
    assert.equal(await told(worker), ['provider.paused', 'provider.resumed']);
  });
}

test('an event that is refused like a fault of the settings while others succeed fails alone', async () => {
  const worker = await start({
    call: (key) => {
      if (key.endsWith(':bad')) throw down('configuration');
    },
  });
  await book(worker, 'good');
  await waitFor('a success', async () => (await readStream(worker, 'events:enriched')).length === 1);
  await book(worker, 'bad');
  let good = 1;
  const [failure] = await waitFor(
    'the failure',
    async () => {
      good += 1;
      await book(worker, `good${good}`);
      const found = await failures(worker);
      return found.length === 1 && found;
    },
    30_000,
  );
  assert.is(failure!.data.key, 'calendly:invitee.created:bad');
  await waitFor('every good one', async () => (await readStream(worker, 'events:enriched')).length === good);
});

/** A batch consumer, as the one that writes to the CRM. */
async function startBatches(
  handleBatch: (
    count: number,
    probes: number,
    keys: readonly string[],
  ) => Outcome<'lead.enriched'> | Promise<Outcome<'lead.enriched'>>,
) {
  const worker = await startTestWorker({
    ...{ redisUrl: redis.url, keyPrefix, env: PATIENT, concurrency: 2 },
    consumers: [
      defineBatchConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        needs: () => ['gemini'],
        batchMax: 100,
        retriesApart: true,
        async handleBatch(deliveries) {
          const probes = deliveries.filter(({ isProbe }) => isProbe).length;
          const outcome = await handleBatch(
            deliveries.length,
            probes,
            deliveries.map(({ event }) => event.key),
          );
          return deliveries.map(() => outcome);
        },
      }),
    ],
  });
  workers.push(worker);
  return worker;
}

const enriched = {
  events: [{ type: 'lead.enriched' as const, data: { kind: 'booked' as const, happenedAt: '2026-11-02', facts: {} } }],
};

test('what waited for a provider is done by the batch, not one by one', async () => {
  let isDown = true;
  const calls: number[] = [];
  const worker = await startBatches(async (count) => {
    if (isDown) throw down();
    calls.push(count);
    return enriched;
  });
  const count = 300;
  for (let id = 0; id < count; id += 1) await book(worker, `a${id}`);
  await toWait(worker, count);
  isDown = false;
  await waitFor('all to be done', async () => (await readStream(worker, 'events:enriched')).length === count);
  assert.ok(calls.length <= 12, `${calls.length} calls: ${calls.join(' ')}`);
});

for (const [what, errorOf] of [
  ['looks like an outage', () => down()],
  ['nobody foresaw', () => new TypeError('of one event')],
] as const) {
  test(`what one event makes its batch fail of, and ${what}, costs its neighbours no attempt`, async () => {
    const worker = await startBatches(async (_count, _probes, batch) => {
      // So long that what is due meanwhile goes into one batch again.
      await sleep(300);
      if (batch.includes('calendly:invitee.created:bad')) throw errorOf();
      return enriched;
    });
    for (let id = 0; id < 40; id += 1) await book(worker, id === 20 ? 'bad' : `a${id}`);
    let more = 0;
    const failed = await waitFor(
      'the failure',
      async () => {
        more += 1;
        await book(worker, `more${more}`);
        const found = await failures(worker);
        return found.length > 0 && found;
      },
      30_000,
    );
    assert.equal(
      failed.map(({ data }) => data.key),
      ['calendly:invitee.created:bad'],
    );
    const done = await waitFor('all others', async () => {
      const found = await readStream(worker, 'events:enriched');
      return found.length === 39 + more && found;
    });
    assert.equal([...new Set(done.map(({ fields }) => fields.attempts))], ['1']);
  });
}

test('a consumer is told what probes, and what it does without the provider says nothing of its return', async () => {
  let isAnswering = false;
  const probes: number[] = [];
  const worker = await startBatches(async (count, probing) => {
    if (probing === 0 && !isAnswering) throw down();
    if (probing > 0) probes.push(count);
    return isAnswering ? enriched : { ...enriched, isWithoutProvider: true };
  });
  for (const id of ['a', 'b', 'c']) await book(worker, id);
  await waitFor('one to be done', async () => (await readStream(worker, 'events:enriched')).length >= 1);
  assert.equal(await told(worker), ['provider.paused']);
  isAnswering = true;
  // The others may have been let through as well by now.
  await book(worker, 'd');
  await waitFor('the end of the pause', async () => (await told(worker)).includes('provider.resumed'));
  assert.ok(probes.every((count) => count === 1));
});

test('an event is given up on after OUTAGE_GIVE_UP_HOURS', async () => {
  const worker = await start(
    {
      call: () => {
        throw down();
      },
    },
    { OUTAGE_GIVE_UP_HOURS: '0.0001' },
  );
  await book(worker, 'a');
  const [failure] = await waitFor('the failure', async () => {
    const found = await readStream(worker, 'events:failed');
    return found.length === 1 && found;
  });
  assert.is(failure!.data.error.code, 'gemini_503');
});

test('what is not to be done yet waits without a slot and costs no attempt', async () => {
  let calls = 0;
  const worker = await startTestWorker({
    redisUrl: redis.url,
    keyPrefix,
    env: PATIENT,
    concurrency: 1,
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        async handle(event) {
          calls += 1;
          if (calls <= 5) throw new NotYetError('later', { delayMs: 20 });
          return [
            {
              type: 'lead.enriched' as const,
              data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
            },
          ];
        },
      }),
    ],
  });
  workers.push(worker);
  await book(worker, 'a');
  const [entry] = await waitFor('the follow-on', async () => {
    const found = await readStream(worker, 'events:enriched');
    return found.length === 1 && found;
  });
  assert.is(entry!.fields.attempts, '1');
  assert.ok(Number(entry!.fields.waited) >= 100);
});

test.run();
