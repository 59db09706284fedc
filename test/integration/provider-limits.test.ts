import { setTimeout as sleep } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NotYetError, OutageError } from '../../src/lib/errors.js';
import { makeKeys } from '../../src/lib/keys.js';
import type { Gate } from '../../src/lib/provider-gate.js';
import { type Limit, makeProviderLimits, PROVIDER_LIMITS } from '../../src/lib/provider-limits.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { failureOf } from '../helpers/failure-of.js';
import { startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { startZoho } from '../standins/zoho.js';

const test = suite('limits of a provider, over all workers together');

let server: TestRedis;
let redis: RedisClient;
let tests = 0;
let keys = makeKeys('');

test.before(async () => {
  server = await startRedis();
  redis = server.connect() as unknown as RedisClient;
});
test.before.each(() => {
  tests += 1;
  keys = makeKeys(`t${tests}:`);
});
test.after(() => server.stop());

const never = () => new AbortController().signal;
const tooMany = (retryAfterMs?: number) =>
  new OutageError('Zoho answered 429', { code: 'zoho_too_many_requests', provider: 'zoho', retryAfterMs });

function makeLimits(owner: string, zoho: Limit = PROVIDER_LIMITS.zoho, client = redis) {
  return makeProviderLimits({ redis: client, keys, owner, limits: { ...PROVIDER_LIMITS, zoho } });
}

/** As the runtime would: what must wait comes back when it was told to. */
async function untilDone(gate: Gate, call: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await gate.pass(call, { signal: never() });
    } catch (error) {
      if (error instanceof NotYetError) await sleep(error.delayMs);
      else if (error instanceof OutageError) await sleep(error.retryAfterMs ?? 200);
      else throw error;
    }
  }
}

/** A provider that takes a while for each call, and knows how many run at once and when each began. */
function makeProvider(answerMs: number) {
  const seen = { running: 0, runningMost: 0, begun: [] as number[], isRefusing: false };
  const call = async () => {
    if (seen.isRefusing) throw tooMany(300);
    seen.running += 1;
    seen.runningMost = Math.max(seen.runningMost, seen.running);
    seen.begun.push(performance.now());
    await sleep(answerMs);
    seen.running -= 1;
  };
  return { seen, call };
}

const count = (counts: number[], index: number) => counts.splice(index, 1, counts[index]! + 1);

test('far from any limit it takes no Redis command for a call', async () => {
  const { gates } = makeLimits('a', { running: 50, perSecond: 5_000, perSecondMin: 1 });
  const before = await evalsCount();
  for (let round = 0; round < 40; round += 1) {
    await Promise.all(Array.from({ length: 25 }, () => gates.zoho.pass(() => sleep(5), { signal: never() })));
  }
  const asked = (await evalsCount()) - before;
  assert.ok(asked < 100, `${asked} scripts for 1000 calls`);
});

async function evalsCount(): Promise<number> {
  const text = await redis.info('commandstats');
  return [...text.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

test('so many calls run at once, however many workers there are, and each gets its share', async () => {
  const provider = makeProvider(20);
  const limit = { running: 5, perSecond: 10_000, perSecondMin: 1 };
  const workers = ['a', 'b', 'c', 'd'].map((owner) => makeLimits(owner, limit).gates.zoho);
  const done = workers.map(() => 0);
  await Promise.all(
    workers.flatMap((gate, index) =>
      Array.from({ length: 30 }, () => untilDone(gate, provider.call).then(() => count(done, index))),
    ),
  );
  assert.equal(done, [30, 30, 30, 30]);
  assert.ok(provider.seen.runningMost <= 5, `${provider.seen.runningMost} at once`);
  assert.ok(provider.seen.runningMost >= 3, `${provider.seen.runningMost} at once is less than may be`);
});

test('with a limit of one the workers take turns', async () => {
  const provider = makeProvider(10);
  const limit = { running: 1, perSecond: 10_000, perSecondMin: 1 };
  const workers = ['a', 'b', 'c'].map((owner) => makeLimits(owner, limit).gates.zoho);
  await Promise.all(workers.flatMap((gate) => Array.from({ length: 4 }, () => untilDone(gate, provider.call))));
  assert.is(provider.seen.runningMost, 1);
  assert.is(provider.seen.begun.length, 12);
});

test('after a storm of 429s the rate shrinks for all, is kept by all together, and grows again', async () => {
  const provider = makeProvider(5);
  const limit = { running: 20, perSecond: 60, perSecondMin: 5 };
  const limits = ['a', 'b', 'c'].map((owner) => makeLimits(owner, limit));
  const gates = limits.map(({ gates: { zoho } }) => zoho);
  await Promise.all(gates.flatMap((gate) => Array.from({ length: 5 }, () => untilDone(gate, provider.call))));
  provider.seen.isRefusing = true;
  const work = gates.flatMap((gate) => Array.from({ length: 20 }, () => untilDone(gate, provider.call)));
  const rates = () => limits.map((one) => readRate(one.gates.zoho)).filter((rate) => rate !== undefined);
  await waitFor('all to hear of it', () => rates().every((rate) => rate < 60) && rates().length === 3);
  const shrunkTo = Math.max(...rates());
  assert.ok(shrunkTo <= 30, `${shrunkTo} a second after a refusal`);
  provider.seen.isRefusing = false;
  provider.seen.begun = [];
  await Promise.all(work);
  // What was refused late may have shrunk it once more.
  const most = Math.max(shrunkTo, ...rates());
  const begun = [...provider.seen.begun];
  assert.is(begun.length, 60);
  // Who hears late of its instants uses them late, beside those of others: it is kept over the whole time, not in each second.
  const tookMs = begun.at(-1)! - begun[0]!;
  const leastMs = (60 / (most + 1) - 1) * 1_000;
  assert.ok(tookMs >= leastMs, `60 calls within ${tookMs} ms where ${most} a second are allowed`);
  const rate = () => redis.hget(keys.limit('zoho'), 'rate').then(Number);
  const before = await rate();
  await waitFor('it to grow with success', async () => {
    await untilDone(gates[0]!, provider.call);
    return (await rate()) > before;
  });
});

function readRate(gate: Gate): number | undefined {
  return (gate as unknown as { read: () => { limit?: { perSecond: number } } }).read().limit?.perSecond;
}

test('a wait that the provider names is kept by workers that never heard it', async () => {
  const [first, second] = [makeLimits('a').gates.zoho, makeLimits('b').gates.zoho];
  await failureOf(first.pass(() => Promise.reject(tooMany(60_000)), { signal: never() }));
  await waitFor('the hold to be told', async () => Number((await redis.hget(keys.limit('zoho'), 'hold')) ?? 0) > 0);
  const { seen, call } = makeProvider(0);
  const failure = await failureOf(second.pass(call, { signal: never() }));
  assert.instance(failure, NotYetError);
  assert.ok(Number(failure.delayMs) > 40_000, `${failure.delayMs} ms`);
  assert.is(seen.begun.length, 0);
});

test('what was noted before the clock of Redis went back holds nobody up', async () => {
  const ahead = Date.now() + 3_600_000;
  const dead = JSON.stringify({ g: 5, q: 0, s: ahead, u: ahead });
  await redis.hset(keys.limit('zoho'), { hold: ahead, tat: ahead, shrunk: ahead, rate: 10, 'w:dead': dead });
  const { gates } = makeLimits('a');
  const { seen, call } = makeProvider(0);
  await untilDone(gates.zoho, call);
  assert.is(seen.begun.length, 1);
  await failureOf(gates.zoho.pass(() => Promise.reject(tooMany(0)), { signal: never() }));
  await waitFor('the rate to shrink', async () => Number(await redis.hget(keys.limit('zoho'), 'rate')) < 10);
});

for (const provider of ['zoho', 'gemini', 'slack'] as const) {
  test(`when ${provider} has refused for so long that no less is allowed, a probe every ten seconds finds its turn`, async () => {
    const { perSecondMin } = PROVIDER_LIMITS[provider];
    await redis.hset(keys.limit(provider), { rate: perSecondMin, conc: 1 });
    const { gates } = makeProviderLimits({ redis, keys, owner: 'a' });
    const begunAt = await gates[provider].pass(async () => Date.now(), { signal: never() });
    const next = await waitFor('the next turn', () => redis.hget(keys.limit(provider), 'tat'));
    assert.ok(Number(next) - begunAt < 10_000, `the next one may begin ${Number(next) - begunAt} ms later`);
  });
}

test('while next to nothing is allowed, what waits looks again within seconds: the limit may have grown by then', async () => {
  await redis.hset(keys.limit('gemini'), { rate: PROVIDER_LIMITS.gemini.perSecondMin, conc: 1 });
  const gate = makeProviderLimits({ redis, keys, owner: 'a' }).gates.gemini;
  const call = () => gate.pass(async () => {}, { signal: never() });
  const ends = await Promise.allSettled(Array.from({ length: 20 }, call));
  const errors = ends.flatMap((end) => (end.status === 'rejected' ? [errorOf(end.reason)] : []));
  assert.ok(errors.length > 10, `${errors.length} had to wait`);
  const longest = Math.max(...errors.map(({ delayMs }) => delayMs));
  assert.ok(longest <= 12_000, `put off by ${longest} ms`);
});

function errorOf(reason: unknown): NotYetError {
  assert.instance(reason, NotYetError);
  return reason as NotYetError;
}

const tatOf = () => redis.hget(keys.limit('zoho'), 'tat').then(Number);

test('who has no slot reserves no instant that others could use', async () => {
  const limit = { running: 1, perSecond: 1, perSecondMin: 1 };
  const [first, second] = ['a', 'b'].map((owner) => makeLimits(owner, limit).gates.zoho) as [Gate, Gate];
  let end = () => {};
  const held = first.pass(
    () =>
      new Promise<void>((resolve) => {
        end = resolve;
      }),
    { signal: never() },
  );
  const next = await waitFor('its instant to be taken', tatOf);
  await failureOf(second.pass(async () => {}, { signal: never() }));
  assert.is(await tatOf(), next);
  end();
  await held;
});

test('who was given an instant waits for it, also where that is longer than one waits as a rule', async () => {
  const limit = { running: 1, perSecond: 1, perSecondMin: 1 };
  const gate = makeLimits('a', limit).gates.zoho;
  // Its instant is given to it some time before it would be turned away; on a busy machine it may ask too late for that.
  const answer = await waitFor('its turn to be given', async () => {
    await redis.hset(keys.limit('zoho'), 'tat', Date.now() + 2_300);
    return gate
      .pass(async () => 'called', { signal: never() })
      .catch((error: unknown) => {
        errorOf(error);
        return undefined;
      });
  });
  assert.is(answer, 'called');
});

test('messages to a channel go out one a second, whoever posts them', async () => {
  const begun: number[] = [];
  const workers = ['a', 'b'].map((owner) => makeLimits(owner).gates.slack);
  const call = async () => void begun.push(performance.now());
  const from = Date.now();
  await Promise.all([...workers, ...workers].map((gate) => untilDone(gate, call)));
  assert.is(begun.length, 4);
  // Each has taken an instant of its own. Who hears of one late uses it late: of the calls themselves only all together tell.
  const next = Number(await redis.hget(keys.limit('slack'), 'tat'));
  assert.ok(next - from >= 4_000, `four instants end ${next - from} ms later`);
  const tookMs = begun.at(-1)! - begun[0]!;
  assert.ok(tookMs >= 2_000, `four calls within ${tookMs} ms`);
});

test('the share of a worker that died falls to the others', async () => {
  const limit = { running: 1, perSecond: 1_000, perSecondMin: 1 };
  const client = server.connect() as unknown as RedisClient;
  const dead = makeLimits('dead', limit, client).gates.zoho;
  const held = new AbortController();
  let isRunning = false;
  const stuck = dead.pass(
    () =>
      new Promise<void>((_, reject) => {
        isRunning = true;
        held.signal.addEventListener('abort', () => reject(new Error('over')));
      }),
    { signal: never() },
  );
  stuck.catch(() => {});
  await waitFor('its call to run', () => isRunning);
  client.disconnect();
  const { seen, call } = makeProvider(0);
  await untilDone(makeLimits('b', limit).gates.zoho, call);
  assert.is(seen.begun.length, 1);
  held.abort();
});

test('while Redis is away nothing begins, and what waits is put off', async () => {
  const other = await startRedis();
  const client = other.connect({ maxRetriesPerRequest: null }) as unknown as RedisClient;
  const gate = makeLimits('a', PROVIDER_LIMITS.zoho, client).gates.zoho;
  other.kill('SIGSTOP');
  const { seen, call } = makeProvider(0);
  const failure = await failureOf(gate.pass(call, { signal: never() }));
  assert.instance(failure, NotYetError);
  assert.is(seen.begun.length, 0);
  other.kill('SIGCONT');
  await untilDone(gate, call);
  assert.is(seen.begun.length, 1);
  await other.stop();
});

test('who gives up while it waits gets its own reason', async () => {
  const limit = { running: 1, perSecond: 1_000, perSecondMin: 1 };
  const gate = makeLimits('a', limit).gates.zoho;
  let end: (() => void) | undefined;
  const untilEnd = () =>
    new Promise<void>((resolve) => {
      end = resolve;
    });
  const first = gate.pass(untilEnd, { signal: never() });
  await waitFor('the first to run', () => end !== undefined);
  const giveUp = new AbortController();
  const second = failureOf(gate.pass(async () => {}, { signal: giveUp.signal }));
  giveUp.abort(new Error('stopped'));
  assert.is((await second).message, 'stopped');
  end!();
  await first;
});

test('what would begin too late is turned away when its time is over, and takes nobody’s turn', async () => {
  const gate = makeLimits('a', { running: 1, perSecond: 1_000, perSecondMin: 1 }).gates.zoho;
  let end: (() => void) | undefined;
  const untilEnd = () =>
    new Promise<void>((resolve) => {
      end = resolve;
    });
  const first = gate.pass(untilEnd, { signal: never() });
  await waitFor('the first to run', () => end !== undefined);
  const { seen, call } = makeProvider(0);
  const beginBy = performance.now() + 50;
  const second = failureOf(gate.pass(call, { signal: never(), isUrgent: true, beginBy }));
  await waitFor('its time to be over', () => performance.now() > beginBy + 300);
  end!();
  await first;
  assert.instance(await second, NotYetError);
  assert.is(seen.begun.length, 0);
});

test('what a second allows is shared by all workers that wait, whoever asks first', async () => {
  const limits = { ...PROVIDER_LIMITS, gemini: { running: 100, perSecond: 12, perSecondMin: 1 } };
  const gates = ['a', 'b', 'c'].map((owner) => makeProviderLimits({ redis, keys, owner, limits }).gates.gemini);
  // Before they are turned away two seconds begin for those that wait; on a busy machine less of that may come to be used.
  const begun = await waitFor('all of two seconds to be used', async () => {
    const begun = gates.map(() => 0);
    const callAll = (gate: Gate, index: number) =>
      Array.from({ length: 20 }, () => gate.pass(async () => count(begun, index), { signal: never() }).catch(() => {}));
    await Promise.all(gates.flatMap(callAll));
    return begun.reduce((sum, one) => sum + one, 0) >= 24 && begun;
  });
  for (const one of begun) assert.ok(one >= 4, begun.join(' '));
});

test('what is left of the day’s calls is spread', async () => {
  const { gates } = makeLimits('a');
  await gates.zoho.pass(async () => {}, { signal: never() });
  gates.zoho.callsLeft(1_200);
  await waitFor('the rate to fall', async () => {
    await untilDone(gates.zoho, async () => {});
    return readRate(gates.zoho) === 2;
  });
});

test('the limits in force are published', async () => {
  const limits = makeLimits('a');
  const registry = new Registry();
  limits.addMetrics(registry);
  await limits.gates.zoho.pass(async () => {}, { signal: never() });
  const text = await registry.metrics();
  for (const line of [
    'gvi_provider_limit_concurrency{provider="zoho"} 5',
    'gvi_provider_limit_per_second{provider="zoho"} 50',
    'gvi_provider_calls_waiting{provider="gemini"} 0',
  ]) {
    assert.ok(text.includes(line), line);
  }
});

test('four workers with a backlog never ask Zoho more at once than its smallest edition allows', async () => {
  const zoho = await startZoho({ concurrencyMax: 5, latencyMs: 30 });
  // None is to let go of its calls, as it would after standing still for so long.
  const env = { VISIBILITY_TIMEOUT_MS: '20000' };
  const pipeline = await startPipeline({ redisUrl: server.url, keyPrefix: keys.prefix, zoho, env, workers: 4 });
  const booking = (id: number) => ({
    event: 'invitee.created',
    created_at: '2026-11-02T09:00:01.000000Z',
    payload: {
      uri: `https://api.calendly.com/scheduled_events/E/invitees/n${id}`,
      email: `n${id}@brightwater.example`,
      name: 'Karen Liu',
    },
  });
  const ids = await Promise.all(Array.from({ length: 200 }, (_, id) => pipeline.send('calendly', booking(id))));
  for (const id of ids) assert.is((await pipeline.finished(id)).status, 'processed');
  assert.is(zoho.calls.filter(({ status }) => status === 429).length, 0);
  assert.is(zoho.leads().length, 200);
  await pipeline.stop();
  await zoho.stop();
});

test.run();
