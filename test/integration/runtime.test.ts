import { type Logger, pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError, TerminalError } from '../../src/lib/errors.js';
import type { StoredEvent } from '../../src/lib/events.js';
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

const test = suite('runtime');

type Handle = (event: StoredEvent<'calendly.invitee.created'>, signal: AbortSignal) => Promise<void>;

/** Enriches with nothing but the email, after `work`. */
const enrichWith = (work: Handle) =>
  defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    async handle(event, { signal }) {
      await work(event, signal);
      const { email } = event.data.payload;
      return [
        {
          type: 'lead.enriched' as const,
          data: { kind: 'booked' as const, happenedAt: event.data.created_at, email, facts: {} },
        },
      ];
    },
  });

let redis: Awaited<ReturnType<typeof startRedis>>;
const workers: TestWorker[] = [];
let prefixes = 0;
let keyPrefix = '';

test.before(async () => {
  redis = await startRedis();
});
test.before.each(() => {
  prefixes += 1;
  keyPrefix = `t${prefixes}:`;
});
test.after.each(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});
test.after(async () => {
  await redis.stop();
});

async function start(
  work: Handle,
  options: { concurrency?: number; env?: Record<string, string>; log?: Logger } = {},
): Promise<TestWorker> {
  const worker = await startTestWorker({ redisUrl: redis.url, keyPrefix, consumers: [enrichWith(work)], ...options });
  workers.push(worker);
  return worker;
}

const add = (worker: TestWorker, id: string) =>
  appendWebhook(worker, { type: 'calendly.invitee.created', key: `calendly:invitee.created:${id}`, body: booking(id) });

const enriched = (worker: TestWorker) => readStream(worker, 'events:enriched');

test('a handled event is acknowledged, and its follow-on names key, cause, attempts and time', async () => {
  const worker = await start(async () => {});
  const eventId = await add(worker, 'a');
  const [entry] = await waitFor('the follow-on', async () => {
    const entries = await enriched(worker);
    return entries.length === 1 && entries;
  });
  assert.is(entry!.fields.key, 'calendly:invitee.created:a');
  assert.is(entry!.fields.cause, eventId);
  assert.is(entry!.fields.attempts, '1');
  assert.match(entry!.fields.at!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.is(await pendingCount(worker, 'events:calendly', 'enrich'), 0);
});

test('an event whose processing is marked is acknowledged and emits nothing', async () => {
  let calls = 0;
  const worker = await start(async () => {
    calls += 1;
  });
  await worker.redis.set(worker.keys.idemProcessed('calendly:invitee.created:a'), '1');
  await add(worker, 'a');
  await add(worker, 'b');
  await waitFor('the second event', async () => (await enriched(worker)).length === 1);
  await waitFor('both acknowledged', async () => (await pendingCount(worker, 'events:calendly', 'enrich')) === 0);
  assert.is(calls, 1);
});

test('a retryable failure is tried again, and the neighbours do not wait', async () => {
  let failures = 0;
  const worker = await start(
    async (event) => {
      if (event.key.endsWith(':bad') && failures < 2) {
        failures += 1;
        throw new RetryableError('not now', { code: 'busy' });
      }
    },
    { concurrency: 1 },
  );
  await add(worker, 'bad');
  await add(worker, 'good');
  const entries = await waitFor('both', async () => {
    const found = await enriched(worker);
    return found.length === 2 && found;
  });
  assert.equal(
    entries.map(({ fields }) => [fields.key!.split(':')[2], fields.attempts]),
    [
      ['good', '1'],
      ['bad', '3'],
    ],
  );
});

test('an event that keeps failing ends in events:failed with its code, after MAX_ATTEMPTS', async () => {
  let calls = 0;
  const worker = await start(async () => {
    calls += 1;
    throw new RetryableError('not now', { code: 'busy' });
  });
  const eventId = await add(worker, 'a');
  const [failure] = await waitFor('the failure', async () => {
    const found = await readStream(worker, 'events:failed');
    return found.length === 1 && found;
  });
  assert.is(calls, 3);
  assert.equal(failure!.data, {
    eventId,
    stream: 'events:calendly',
    group: 'enrich',
    key: 'calendly:invitee.created:a',
    attempts: 3,
    error: { code: 'busy', message: 'not now' },
  });
  const chain = await makeChains(worker).findChain(eventId);
  assert.is(chain?.status, 'failed');
  assert.is(chain?.failure?.error.code, 'busy');
});

test('a terminal failure is not tried again', async () => {
  let calls = 0;
  const worker = await start(async () => {
    calls += 1;
    throw new TerminalError('refused', { code: 'refused' });
  });
  await add(worker, 'a');
  await waitFor('the failure', async () => (await readStream(worker, 'events:failed')).length === 1);
  assert.is(calls, 1);
});

test('an entry that fits no schema fails at once, and the next is handled', async () => {
  const worker = await start(async () => {});
  await worker.redis.xadd(
    worker.keys.stream('events:calendly'),
    '*',
    'type',
    'calendly.invitee.created',
    'key',
    'k',
    'v',
    '1',
    'data',
    '{broken',
  );
  await add(worker, 'b');
  await waitFor('the good one', async () => (await enriched(worker)).length === 1);
  const [failure] = await waitFor('the failure', async () => {
    const found = await readStream(worker, 'events:failed');
    return found.length === 1 && found;
  });
  assert.is(failure!.data.error.code, 'malformed_entry');
});

test("a dead worker's entries are taken over, all of them", async () => {
  const worker = await start(async () => {});
  await waitFor(
    'the group',
    async () => ((await worker.redis.xinfo('GROUPS', worker.keys.stream('events:calendly'))) as unknown[]).length === 1,
  );
  await worker.stop();
  workers.length = 0;
  const client = redis.connect();
  const probe = { redis: client, keys: worker.keys };
  for (const id of ['a', 'b', 'c', 'd', 'e'])
    await appendWebhook(probe, {
      type: 'calendly.invitee.created',
      key: `calendly:invitee.created:${id}`,
      body: booking(id),
    });
  await client.xreadgroup('GROUP', 'enrich', 'dead', 'COUNT', 5, 'STREAMS', worker.keys.stream('events:calendly'), '>');
  const rescuer = await start(async () => {});
  await waitFor('five follow-ons', async () => (await enriched(rescuer)).length === 5);
  assert.is(await pendingCount(rescuer, 'events:calendly', 'enrich'), 0);
});

test('a long handler keeps its entry as long as its worker lives', async () => {
  let calls = 0;
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const work: Handle = async () => {
    calls += 1;
    await released;
  };
  // With no slot free it takes over nothing, and so nothing but its heartbeat keeps the entry.
  const first = await start(work, { concurrency: 1 });
  await start(work, { concurrency: 1 });
  await add(first, 'slow');
  await waitFor('the call', async () => calls === 1);
  const redisMs = async () => Number((await first.redis.time())[0]) * 1_000;
  const calledAt = await redisMs();
  await waitFor('several visibility timeouts to pass', async () => (await redisMs()) >= calledAt + 3_000);
  release();
  await waitFor('the follow-on', async () => (await enriched(first)).length === 1);
  assert.is(calls, 1);
});

test('no more entries are held than there are slots', async () => {
  let running = 0;
  let most = 0;
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const worker = await start(
    async () => {
      running += 1;
      most = Math.max(most, running);
      await released;
      running -= 1;
    },
    { concurrency: 2 },
  );
  for (let i = 0; i < 10; i += 1) await add(worker, `n${i}`);
  await waitFor('two to run', async () => running === 2);
  assert.is(await pendingCount(worker, 'events:calendly', 'enrich'), 2);
  release();
  await waitFor('all', async () => (await enriched(worker)).length === 10);
  assert.is(most, 2);
});

test('a worker that wakes after its claim was taken changes nothing', async () => {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let calls = 0;
  const lines: string[] = [];
  const worker = await start(
    async () => {
      calls += 1;
      if (calls === 1) await released;
    },
    {
      // The rescuer beats no heart: it must hold its claim for as long as the test looks.
      env: { VISIBILITY_TIMEOUT_MS: '60000' },
      log: pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) }),
    },
  );
  await add(worker, 'a');
  await waitFor('the call', async () => calls === 1);
  const stream = worker.keys.stream('events:calendly');
  const [pending] = (await worker.redis.xpending(stream, 'enrich', '-', '+', 1)) as [string, string, number, number][];
  await worker.redis.xclaim(stream, 'enrich', 'rescuer', 0, pending![0]);
  release();
  await waitFor('it to find that out', () => lines.some((line) => line.includes('claim lost')));
  assert.is(calls, 1);
  const owner = ((await worker.redis.xpending(stream, 'enrich', '-', '+', 1)) as [string, string][])[0]![1];
  assert.is(owner, 'rescuer');
  assert.is((await enriched(worker)).length, 0);
});

test('at a stop what runs too long is aborted and handed back, its delivery count unchanged', async () => {
  const started: string[] = [];
  const worker = await start(async (event, signal) => {
    started.push(event.key);
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
  });
  await add(worker, 'a');
  await waitFor('the call', async () => started.length === 1);
  await worker.stop();
  workers.length = 0;
  const deliveries: number[] = [];
  const successor = await startTestWorker({
    redisUrl: redis.url,
    keyPrefix,
    consumers: [
      enrichWith(async () => {
        const probe = redis.connect();
        const [pending] = (await probe.xpending(worker.keys.stream('events:calendly'), 'enrich', '-', '+', 1)) as [
          string,
          string,
          number,
          number,
        ][];
        deliveries.push(pending![3]);
      }),
    ],
    env: { VISIBILITY_TIMEOUT_MS: '60000' },
  });
  workers.push(successor);
  await waitFor('the follow-on', async () => (await enriched(successor)).length === 1);
  assert.equal(deliveries, [1]);
});

test('a stopped worker leaves no consumer behind', async () => {
  const worker = await start(async () => {});
  await add(worker, 'a');
  await waitFor('the follow-on', async () => (await enriched(worker)).length === 1);
  await worker.stop();
  workers.length = 0;
  const consumers = await redis.connect().xinfo('CONSUMERS', worker.keys.stream('events:calendly'), 'enrich');
  assert.equal(consumers, []);
});

test('a group that is gone is made again, and nothing is missed', async () => {
  const worker = await start(async () => {});
  await add(worker, 'a');
  await waitFor('the first', async () => (await enriched(worker)).length === 1);
  await worker.redis.del(worker.keys.stream('events:calendly'));
  await add(worker, 'b');
  await waitFor('the second', async () => (await enriched(worker)).length === 2);
});

test.run();
