/** Workers that are ready and dead, hung, or stopped for a while and then go on. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineConsumer } from '../../src/lib/consumer.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeFence } from '../../src/lib/runtime/fence.js';
import { watchLoops } from '../../src/lib/runtime/loop-watchdog.js';
import { serveWorker } from '../../src/lib/worker-http.js';
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

const test = suite('watchdogs');
const log = pino({ level: 'silent' });
const LONG_MS = 60_000;

let server: Awaited<ReturnType<typeof startRedis>>;
let redis: RedisClient;
let keys: Keys;
let tests = 0;
const ends: (() => unknown)[] = [];

test.before(async () => {
  server = await startRedis();
  redis = server.connect();
});
test.before.each(() => {
  tests += 1;
  keys = makeKeys(`t${tests}:`);
});
test.after.each(async () => {
  for (const end of ends.splice(0)) await end();
});
test.after(() => server.stop());

const run = (env: Record<string, string> = {}, isSupervised = false): WorkerProcess => {
  const worker = startWorkerProcess({ redisUrl: server.url, keyPrefix: keys.prefix, env, isSupervised });
  ends.push(() => worker.stop());
  return worker;
};
const add = (name: string) =>
  appendWebhook(
    { redis, keys },
    { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
  );
const enriched = () => readStream({ redis, keys }, 'events:enriched');
const starts = () => redis.lrange(`${keys.prefix}starts`, 0, -1);

test('a process whose event loop hangs is ended, and what it held is done elsewhere', async () => {
  for (const name of ['good1', 'loop', 'good2']) await add(name);
  const worker = run({ GUARD_MS: '1500' }, true);
  const failures = await waitFor(
    'the failure',
    async () => {
      const found = await readStream({ redis, keys }, 'events:failed');
      return found.length > 0 && found;
    },
    LONG_MS,
  );
  assert.equal(
    failures.map(({ fields, data }) => [fields.key, data.error.code]),
    [['calendly:invitee.created:loop', 'worker_crashed']],
  );
  await waitFor('the others', async () => (await enriched()).length === 2);
  assert.ok(worker.exits().length >= 3);
  assert.equal([...new Set(worker.exits())], ['SIGKILL']);
});

test('a process that was stopped longer than its event loop may hang lives on', async () => {
  const worker = run({ GUARD_MS: '1500' });
  await add('before');
  await waitFor('the first', async () => (await enriched()).length === 1, LONG_MS);
  worker.kill('SIGSTOP');
  const stoppedAt = performance.now();
  await waitFor('longer than the bound', () => performance.now() - stoppedAt > 3_000);
  worker.kill('SIGCONT');
  await add('after');
  await waitFor('the second', async () => (await enriched()).length === 2);
  assert.equal(worker.exits(), []);
});

test('a worker that was stopped past its claim makes no further call for what another has taken over', async () => {
  const outside = await startOutside();
  // Long, so that a worker that is slow for a moment is not taken for one that was stopped.
  const env = { OUTSIDE_URL: outside.url, VISIBILITY_TIMEOUT_MS: '4000' };
  const stopped = run(env);
  await add('calls');
  await waitFor('the first call', () => outside.calls.length === 1, LONG_MS);
  stopped.kill('SIGSTOP');
  const other = run(env);
  await waitFor('the other to take over', () => outside.calls.includes(`/first/${other.pid()}`), LONG_MS);
  // The answer is there when it wakes: it comes before any timer does.
  outside.answerAll();
  stopped.kill('SIGCONT');
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  await add('later1');
  await add('later2');
  await waitFor('the stopped one to work again', async () => (await starts()).length >= 4);
  await waitFor('all', async () => (await enriched()).length === 3);
  assert.equal(outside.calls.slice(1), [`/first/${other.pid()}`, `/second/${other.pid()}`]);
  await waitFor(
    'nothing pending',
    async () => (await pendingCount({ redis, keys }, 'events:calendly', 'enrich')) === 0,
  );
});

test('a signal is aborted before the next call when the claims can no longer be relied on', async () => {
  const outside = await startOutside();
  let isFresh = true;
  const { signal } = makeFence(() => isFresh);
  assert.is(signal.aborted, false);
  isFresh = false;
  await fetch(outside.url, { signal }).then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.name, 'AbortError'),
  );
  assert.throws(() => signal.throwIfAborted());
  assert.is(outside.calls.length, 0);
});

test('what runs while Redis is away for long is told to stop, and done once Redis is back', async () => {
  const own = await startRedis();
  ends.push(() => own.stop());
  let isAway = false;
  let told = 0;
  const worker = await startTestWorker({
    redisUrl: own.url,
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        async handle({ data }, { signal }) {
          if (told === 0) {
            await new Promise((_, reject) =>
              signal.addEventListener('abort', () => {
                // A Redis that is slow for a moment is away as well: then it runs again.
                if (isAway) told += 1;
                reject(new Error('aborted'));
              }),
            );
          }
          return [
            {
              type: 'lead.enriched' as const,
              data: { kind: 'booked' as const, happenedAt: data.created_at, facts: {} },
            },
          ];
        },
      }),
    ],
  });
  ends.push(() => worker.stop());
  await appendWebhook(worker, {
    type: 'calendly.invitee.created',
    key: 'calendly:invitee.created:a',
    body: booking('a'),
  });
  await waitFor('it to be held', async () => (await pendingCount(worker, 'events:calendly', 'enrich')) === 1);
  isAway = true;
  own.kill('SIGSTOP');
  await waitFor('the signal', () => told === 1);
  own.kill('SIGCONT');
  const [entry] = await waitFor('the follow-on', async () => {
    const found = await readStream(worker, 'events:enriched');
    return found.length === 1 && found;
  });
  assert.is(entry!.fields.attempts, '1', 'it has not failed of its own');
  assert.is(await worker.redis.hlen(worker.keys.strikes('enrich')), 0);
});

test('workers that were cut off from Redis together take nothing from each other when it is back', async () => {
  const own = await startRedis();
  ends.push(() => own.stop());
  const calls: string[] = [];
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const consumer = defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    async handle(event) {
      calls.push(event.key);
      await released;
      return [
        {
          type: 'lead.enriched' as const,
          data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
        },
      ];
    },
  });
  const started: TestWorker[] = [];
  for (let i = 0; i < 3; i += 1) {
    const worker = await startTestWorker({ redisUrl: own.url, consumers: [consumer], concurrency: 4 });
    ends.push(() => worker.stop());
    started.push(worker);
  }
  const [first] = started;
  for (let i = 0; i < 9; i += 1) {
    const key = `calendly:invitee.created:n${i}`;
    await appendWebhook(first!, { type: 'calendly.invitee.created', key, body: booking(`n${i}`) });
  }
  await waitFor('all to be held', () => calls.length === 9);
  own.kill('SIGSTOP');
  const stoppedAt = performance.now();
  await waitFor('longer than the claims last', () => performance.now() - stoppedAt > 1_000);
  own.kill('SIGCONT');
  const reclaims: number[] = [];
  await waitFor('some rounds', async () => {
    reclaims.push(calls.length);
    return reclaims.length > 100;
  });
  release();
  await waitFor('all', async () => (await readStream(first!, 'events:enriched')).length === 9);
  assert.is(calls.length, 9);
});

test('a read loop that stands still although Redis answers: new connections, and then the end', async () => {
  const seen: string[] = [];
  const watchdog = watchLoops({
    lastLoopAt: () => [1],
    probe: async () => {},
    reconnect: () => seen.push('reconnect'),
    onDead: () => seen.push('dead'),
    bounds: { reconnectMs: 500, deadMs: 1_000, endMs: 1_500 },
    log,
  });
  ends.push(() => watchdog.stop());
  assert.ok(watchdog.isAlive());
  await waitFor('it to count as dead', () => !watchdog.isAlive());
  await waitFor('the end', () => seen.includes('dead'));
  assert.equal(seen.slice(0, 2), ['reconnect', 'dead']);
  assert.ok(watchdog.stalledMs() >= 1_500);
});

test('while Redis is away nothing ends, and the worker counts as alive', async () => {
  const seen: string[] = [];
  let probes = 0;
  const watchdog = watchLoops({
    lastLoopAt: () => [1],
    async probe() {
      probes += 1;
      throw new Error('no answer');
    },
    reconnect: () => seen.push('reconnect'),
    onDead: () => seen.push('dead'),
    bounds: { reconnectMs: 500, deadMs: 1_000, endMs: 1_000 },
    log,
  });
  ends.push(() => watchdog.stop());
  await waitFor('several looks', () => probes >= 5 && watchdog.stalledMs() > 1_500);
  assert.equal(seen, []);
  assert.ok(watchdog.isAlive());
});

test('a read loop that comes round soon after Redis has come back stood still for its sake', async () => {
  const seen: string[] = [];
  let rounds = 1;
  const watchdog = watchLoops({
    lastLoopAt: () => [rounds],
    async probe() {
      if (watchdog.stalledMs() < 5_000) throw new Error('no answer');
      rounds += 1;
    },
    reconnect: () => seen.push('reconnect'),
    onDead: () => seen.push('dead'),
    // The one look that finds it back counts as a second of answers, where it comes late, and is no reason for anything.
    bounds: { reconnectMs: 4_000, deadMs: 60_000, endMs: 60_000 },
    log,
  });
  ends.push(() => watchdog.stop());
  await waitFor('the outage', () => watchdog.stalledMs() >= 4_000);
  await waitFor('the loop to go on', () => watchdog.stalledMs() === 0);
  assert.equal(seen, []);
});

test('a worker answers its health check while Redis is frozen', async () => {
  const own = await startRedis();
  ends.push(() => own.stop());
  const worker = await startTestWorker({
    ...{ redisUrl: own.url, bounds: { reconnectMs: 500, deadMs: 1_000 } },
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        handle: async () => [],
      }),
    ],
  });
  ends.push(() => worker.stop());
  const served = await serveWorker(Promise.resolve(worker), 0);
  ends.push(() => served.stop());
  const healthz = () => fetch(`http://127.0.0.1:${served.port}/healthz`);
  own.kill('SIGSTOP');
  const stoppedAt = performance.now();
  await waitFor('longer than a loop may stand', () => performance.now() - stoppedAt > 3_000);
  assert.is((await healthz()).status, 200);
  own.kill('SIGCONT');
});

test('a worker that is stopped while Redis is frozen ends within a second of its grace, whatever runs', async () => {
  const own = await startRedis();
  ends.push(() => own.stop());
  let isRunning = false;
  const worker = await startTestWorker({
    redisUrl: own.url,
    env: { SHUTDOWN_GRACE_MS: '200' },
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        handle() {
          isRunning = true;
          return new Promise(() => {});
        },
      }),
    ],
  });
  const key = 'calendly:invitee.created:a';
  await appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking('a') });
  await waitFor('it to run', () => isRunning);
  own.kill('SIGSTOP');
  const frozenAt = performance.now();
  await waitFor('its read to be under way', () => performance.now() - frozenAt > 800);
  const tookMs = await timeRunning(() => worker.stop());
  assert.ok(tookMs < 1_400, `${Math.round(tookMs)} ms`);
});

test('while writes are paused, as for a failover, a worker waits and counts as alive', async () => {
  const own = await startRedis();
  ends.push(() => own.stop());
  let dead = 0;
  let handled = 0;
  const worker = await startTestWorker({
    ...{ redisUrl: own.url, bounds: { reconnectMs: 500, deadMs: 1_000, endMs: 1_500 } },
    onDead: () => {
      dead += 1;
    },
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: [],
        async handle() {
          handled += 1;
          return [];
        },
      }),
    ],
  });
  ends.push(() => worker.stop());
  const operator = own.connect();
  await operator.call('CLIENT', 'PAUSE', '60000', 'WRITE');
  const pausedAt = performance.now();
  await waitFor('longer than a loop may stand', () => performance.now() - pausedAt > 4_000);
  assert.is(dead, 0);
  assert.ok(worker.isAlive());
  await operator.call('CLIENT', 'UNPAUSE');
  const key = 'calendly:invitee.created:a';
  await appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking('a') });
  await waitFor('it to be handled', () => handled === 1);
});

test('consumers of workers that were killed go, those that hold something stay', async () => {
  await redis.xgroup('CREATE', keys.stream('events:calendly'), 'enrich', '0', 'MKSTREAM');
  await add('a');
  const read = (consumer: string) =>
    redis.xreadgroup('GROUP', 'enrich', consumer, 'COUNT', 1, 'STREAMS', keys.stream('events:calendly'), '>');
  await read('holds');
  await read('holds-nothing');
  await redis.hset(keys.alive('enrich'), 'holds', 'dead', 'holds-nothing', 'dead', 'left-long-ago', 'dead');
  const worker = await startTestWorker({
    ...{ redisUrl: server.url, keyPrefix: keys.prefix, env: { VISIBILITY_TIMEOUT_MS: '600000' } },
    bounds: { reaping: { everyMs: 50, idleMs: 100 } },
    consumers: [
      defineConsumer({
        name: 'enrich',
        on: ['calendly.invitee.created'],
        emits: ['lead.enriched'],
        handle: async () => [],
      }),
    ],
  });
  ends.push(() => worker.stop());
  const names = async () => {
    const consumers = (await redis.xinfo('CONSUMERS', keys.stream('events:calendly'), 'enrich')) as unknown[][];
    return consumers.map(([, name]) => String(name)).sort();
  };
  const expected = [worker.name, 'holds'].sort();
  await waitFor('one to go', async () => !(await names()).includes('holds-nothing'));
  await waitFor(
    'nobody to be remembered who has gone',
    async () => (await redis.hget(keys.alive('enrich'), 'left-long-ago')) === null,
  );
  assert.equal(
    (await names()).filter((name) => expected.includes(name)),
    await names(),
  );
  assert.ok((await names()).includes('holds'));
});

/** How long it takes, without the time for which this process itself stood still: none of its timers could end anything then. */
async function timeRunning(work: () => Promise<unknown>): Promise<number> {
  const TICK_MS = 10;
  let tookMs = 0;
  let countedAt = performance.now();
  const count = () => {
    const now = performance.now();
    tookMs += Math.min(now - countedAt, 2 * TICK_MS);
    countedAt = now;
  };
  const timer = setInterval(count, TICK_MS);
  await work();
  clearInterval(timer);
  count();
  return tookMs;
}

/** Far ends that answer the first call of each process only when told to. */
async function startOutside() {
  const calls: string[] = [];
  const waiting: ServerResponse[] = [];
  const http: Server = createServer((request, response) => {
    calls.push(request.url ?? '');
    if (calls.length === 1) waiting.push(response);
    else response.end('{}');
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  ends.push(
    () =>
      new Promise<void>((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  );
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    calls,
    answerAll: () => {
      for (const response of waiting.splice(0)) response.end('{}');
    },
  };
}

test.run();
