/** How fast a replay goes: what it hands over stays little, in the group, in the one after it, and while a provider is away. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Consumer, defineConsumer } from '../../src/lib/consumer.js';
import { OutageError, RetryableError } from '../../src/lib/errors.js';
import { type ReplayRun, replay as replayRange } from '../../src/lib/replay.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('pace of a replay');
const EVENTS = 1_000;
/** Two chunks, and what the slots hold. */
const FEW = 500;
/** More than the second after which a process that stood still itself says so. */
const STALLED_MS = 2_000;

let server: TestRedis;
let keyPrefix = '';
let prefixes = 0;
const workers: TestWorker[] = [];
let onEnrich: () => Promise<void> | void = () => {};

test.before(async () => {
  server = await startRedis();
});
test.before.each(() => {
  prefixes += 1;
  keyPrefix = `{p${prefixes}}:`;
  onEnrich = () => {};
});
test.after.each(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});
test.after(() => server.stop());

const enrich = defineConsumer({
  ...{ name: 'enrich', on: ['calendly.invitee.created'], emits: ['lead.enriched'] },
  needs: () => ['gemini'],
  async handle(event) {
    await onEnrich();
    const data = { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} };
    return [{ type: 'lead.enriched' as const, data }];
  },
});
const sync = defineConsumer({
  ...{ name: 'crm-sync', on: ['lead.enriched'], emits: ['lead.synced'] },
  handle: async () => [{ type: 'lead.synced' as const, data: { outcome: 'written' as const, leads: [], notes: [] } }],
});

async function start(consumers: readonly Consumer[]): Promise<TestWorker> {
  const worker = await startTestWorker({ redisUrl: server.url, keyPrefix, consumers });
  workers.push(worker);
  return worker;
}

/** A worker through which all of the events have gone. */
async function startDone(): Promise<TestWorker> {
  const worker = await start([enrich, sync]);
  const { redis, keys } = worker;
  const pipeline = redis.pipeline();
  for (let i = 0; i < EVENTS; i += 1) {
    const fields = ['type', 'calendly.invitee.created', 'key', `k${i}`, 'at', 'now', 'v', '1'];
    pipeline.xadd(keys.stream('events:calendly'), '*', ...fields, 'data', JSON.stringify(booking(`b${i}`)));
  }
  await pipeline.exec();
  await waitFor('all to be done', async () => (await synced(worker)) === EVENTS, 30_000);
  return worker;
}

const synced = ({ redis, keys }: TestWorker) => redis.xlen(keys.stream('events:synced'));
const parked = ({ redis, keys }: TestWorker) => redis.zcard(keys.parked('enrich'));
const waiting = ({ redis, keys }: TestWorker) => redis.zcard(keys.waiting('enrich', 'gemini'));

/** Longer than the standstill that a replay puts up with. */
async function pass(ms: number): Promise<void> {
  const since = performance.now();
  await waitFor(`${ms} ms to have passed`, () => performance.now() - since > ms);
}

function replay({ redis, keys }: TestWorker, run: Partial<ReplayRun> = {}) {
  const range = { group: 'enrich', from: '-', to: '+' } as const;
  const options = { ...range, isForced: true, takesDryRuns: false, replayId: 'r1' };
  return replayRange({ redis, keys }, options, { isDryRun: false, stalledMs: STALLED_MS, ...run });
}

test('while a provider is paused it waits, says so once, and is not stalled', async () => {
  const worker = await startDone();
  let isDown = true;
  onEnrich = () => {
    if (isDown)
      throw new OutageError('Gemini answered 503', { code: 'gemini_503', provider: 'gemini', kind: 'outage' });
  };
  const told: string[] = [];
  let most = 0;
  const running = replay(worker, {
    onPaused: (provider) => told.push(provider),
    async onDecisions() {
      most = Math.max(most, (await parked(worker)) + (await waiting(worker)));
    },
  });
  await waitFor('it to say so', () => told.length > 0);
  await pass(2 * STALLED_MS);
  isDown = false;
  assert.equal(await running, { again: EVENTS });
  await waitFor('all to be done again', async () => (await synced(worker)) === 2 * EVENTS, 30_000);
  assert.equal(told, ['gemini']);
  assert.ok(most < FEW, `${most} waited`);
});

test('what is parked for later counts as well', async () => {
  const worker = await startDone();
  let isBusy = true;
  onEnrich = () => {
    if (isBusy) throw new RetryableError('not now', { code: 'busy', retryAfterMs: 60_000 });
  };
  let most = 0;
  const running = replay(worker, {
    async onDecisions() {
      most = Math.max(most, await parked(worker));
    },
  });
  await waitFor('many to be parked', async () => (await parked(worker)) >= 200);
  await pass(2 * STALLED_MS);
  isBusy = false;
  const { redis, keys } = worker;
  await waitFor('all to be done again', async () => {
    for (const eventId of await redis.zrange(keys.parked('enrich'), '0', '-1')) {
      await redis.zadd(keys.parked('enrich'), 'XX', '0', eventId);
    }
    return (await synced(worker)) === 2 * EVENTS;
  });
  assert.equal(await running, { again: EVENTS });
  assert.ok(most < FEW, `${most} were parked`);
});

test('it does not run ahead of the group after it; where nobody serves that one it says so', async () => {
  const both = await startDone();
  await both.stop();
  workers.length = 0;
  const worker = await start([enrich]);
  const message = await replay(worker).then(
    () => 'it came to its end',
    (error: Error) => `${error.name}: ${error.message}`,
  );
  assert.match(message, /^StalledError: .* crm-sync /);
  const ahead = (await worker.redis.xlen(worker.keys.stream('events:enriched'))) - EVENTS;
  assert.ok(ahead < FEW, `${ahead} wait for crm-sync`);
});

test('calls that take long are no standstill as long as a worker lives', async () => {
  const worker = await startDone();
  let isSlow = true;
  let calls = 0;
  onEnrich = async () => {
    calls += 1;
    await waitFor('the end of the call', () => !isSlow, 30_000);
  };
  let outcome: unknown;
  const running = replay(worker).then(
    (counts) => {
      outcome = counts;
    },
    (error: Error) => {
      outcome = error.name;
    },
  );
  await waitFor('many slots to be taken', () => calls >= 20);
  await pass(2 * STALLED_MS);
  assert.is(outcome, undefined);
  isSlow = false;
  await running;
  assert.equal(outcome, { again: EVENTS });
});

test.run();
