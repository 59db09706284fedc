import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { NotYetError, OutageError } from '../../src/lib/errors.js';
import { readOverview } from '../../src/lib/overview.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, readStream, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('outage of a provider');

let redis: Awaited<ReturnType<typeof startRedis>>;
let keyPrefix = '';
let tests = 0;
const workers: TestWorker[] = [];

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
const enrichThrough = (gemini: { call: () => void }) =>
  defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created', 'calendly.invitee.canceled'],
    emits: ['lead.enriched'],
    needs: ({ type }) => (type === 'calendly.invitee.created' ? ['gemini'] : []),
    async handle(event) {
      if (event.type === 'calendly.invitee.created') gemini.call();
      return [
        {
          type: 'lead.enriched' as const,
          data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
        },
      ];
    },
  });

async function start(gemini: { call: () => void }, env: Record<string, string> = {}): Promise<TestWorker> {
  const worker = await startTestWorker({ redisUrl: redis.url, keyPrefix, consumers: [enrichThrough(gemini)], env });
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
const down = (kind: 'outage' | 'configuration' = 'outage') =>
  new OutageError('Gemini answered 503', { code: 'gemini_503', provider: 'gemini', kind });
const health = (worker: TestWorker) => readStream(worker, 'events:health');

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

test('work that does not need the provider goes on, and the probes are few', async () => {
  const gemini = {
    calls: 0,
    call: () => {
      gemini.calls += 1;
      throw down();
    },
  };
  const worker = await start(gemini);
  await book(worker, 'a');
  await waitFor('the pause', async () => (await health(worker)).length === 1);
  for (let i = 0; i < 20; i += 1) await book(worker, `b${i}`);
  const before = gemini.calls;
  for (let i = 0; i < 5; i += 1) await cancel(worker, `c${i}`);
  await waitFor('the cancellations', async () => (await readStream(worker, 'events:enriched')).length === 5);
  await waitFor('the bookings to wait', async () => (await readOverview(worker)).groups.enrich!.parked >= 20);
  assert.ok(gemini.calls - before <= 3, `${gemini.calls - before} calls while paused`);
  assert.is((await readStream(worker, 'events:failed')).length, 0);
});

test('an event that fails while others succeed spends its own attempts and fails alone', async () => {
  const worker = await startTestWorker({
    redisUrl: redis.url,
    keyPrefix,
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

test('a configuration error pauses at once and says so', async () => {
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
