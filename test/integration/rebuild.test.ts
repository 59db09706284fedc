/** Rebuilding: what follows from the streams comes out equal, keys and values, while the pipeline works. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { deleteKeys, scanKeys } from '../../src/lib/maintenance.js';
import { readOpenFailures } from '../../src/lib/overview.js';
import { rebuild } from '../../src/lib/rebuild.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { trim as trimStreams } from '../../src/lib/trim.js';
import { projections } from '../../src/projections/index.js';
import { runGvi } from '../helpers/gvi.js';
import { type Behaviour, type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('rebuild');
const TTL_S = 3_600;
const DERIVED = ['lead:', 'projector:', 'progress:', 'idem:'];

let server: TestRedis;
let history: History;
let prefixes = 0;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `{r${prefixes}}:` });
});
test.after.each(() => history.stop());
test.after(() => server.stop());

const rebuildAll = () => rebuild({ ...history, projections, idempotencyTtlS: TTL_S });

/** A linear congruential generator: the same history for the same seed. */
function makeRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Bookings, duplicates, meetings with revisions, failures, redeliveries, redrives, unusable bodies; in no tidy order. */
async function live(seed: number, steps: number): Promise<void> {
  const random = makeRandom(seed);
  const behaviours: Behaviour[] = ['', '', '', 'flaky', 'refused', 'crmrefused'];
  for (let i = 0; i < steps; i += 1) {
    const kind = random(10);
    if (kind < 6) await history.book(`${seed}p${random(steps)}`, behaviours[random(6)]!);
    else if (kind < 8) await history.meet(`${seed}m${random(8)}`, `content ${random(5)}`, `q${random(steps)}`);
    else if (kind === 8) await history.reject(`{${seed} ${random(20)}`);
    else await redriveOne(random);
  }
}

async function redriveOne(random: (below: number) => number): Promise<void> {
  const failures = await readOpenFailures(history);
  const failure = failures[random(Math.max(1, failures.length))];
  if (failure !== undefined) await makeRedrive(history)(failure);
}

async function quiet(): Promise<void> {
  const { redis, keys } = history;
  await waitFor(
    'the pipeline to be idle',
    async () => {
      for (const [stream, group] of [
        ...[['events:calendly', 'enrich'] as const, ['events:readai', 'summarize'] as const],
        ...[['events:enriched', 'crm-sync'] as const, ['events:summarized', 'crm-sync'] as const],
        ['events:failed', 'alert'] as const,
      ]) {
        if ((await redis.zcard(keys.parked(group))) > 0) return false;
        const [pending] = (await redis.xpending(keys.stream(stream), group)) as [number];
        const infos = (await redis.xinfo('GROUPS', keys.stream(stream))) as unknown[][];
        const [last] = await redis.xrevrange(keys.stream(stream), '+', '-', 'COUNT', 1);
        if (pending > 0 || (last !== undefined && !infos.some((info) => info.includes(last[0])))) return false;
      }
      return true;
    },
    30_000,
  );
  await history.projected();
}

/** Does `work` while `step` is repeated. */
async function beside<T>(step: (round: number) => Promise<unknown>, work: () => Promise<T>): Promise<T> {
  let isOver = false;
  const traffic = (async () => {
    for (let round = 0; !isOver; round += 1) await step(round);
  })();
  try {
    return await work();
  } finally {
    isOver = true;
    await traffic;
  }
}

/** Every derived key with its value; a hash in the order of its fields; when it expires apart. */
async function snapshot(): Promise<{ values: Map<string, unknown>; expiries: Map<string, number> }> {
  const { redis, keys } = history;
  const values = new Map<string, unknown>();
  const expiries = new Map<string, number>();
  for (const start of DERIVED) {
    for await (const found of scanKeys(redis, `${keys.prefix}${start}`)) {
      for (const key of found) {
        const isHash = (await redis.type(key)) === 'hash';
        values.set(
          key,
          isHash ? Object.fromEntries(Object.entries(await redis.hgetall(key)).sort()) : await redis.get(key),
        );
        expiries.set(key, await redis.pexpiretime(key));
      }
    }
  }
  return { values: new Map([...values].sort()), expiries };
}

async function deleteDerived(): Promise<void> {
  for (const start of DERIVED) await deleteKeys(history.redis, `${history.keys.prefix}${start}`);
}

async function assertEqual(before: Awaited<ReturnType<typeof snapshot>>): Promise<void> {
  const after = await snapshot();
  assert.equal([...after.values], [...before.values]);
  for (const [key, at] of before.expiries) assert.ok(Math.abs(at - after.expiries.get(key)!) < 1_000, key);
}

test('with everything derived deleted, it comes back equal, keys and values, with the time it has left', async () => {
  await live(7, 250);
  await quiet();
  const before = await snapshot();
  assert.ok(before.values.size > 300);
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  await deleteDerived();
  const report = await rebuildAll();
  assert.is(report.chains.left, 0);
  assert.is(report.chains.restored, report.chains.keys);
  await history.projected();
  await assertEqual(before);
  const left = await history.redis.keys(`${history.keys.prefix}rebuild:*`);
  assert.equal(left, []);
});

test('beside live traffic it finds no difference', async () => {
  await live(11, 80);
  const reports = await beside(
    (round) => live(100 + round, 20),
    async () => [await rebuildAll(), await rebuildAll(), await rebuildAll()],
  );
  for (const { projections: rebuilt, chains } of reports) {
    assert.equal([rebuilt[0]!.differed, chains.restored, chains.left], [0, 0, 0]);
  }
  await quiet();
  const before = await snapshot();
  const last = await rebuildAll();
  assert.equal([last.projections[0]!.differed, last.chains.restored], [0, 0]);
  await assertEqual(before);
});

test('damage is mended beside live traffic', async () => {
  await live(23, 100);
  await quiet();
  const before = await snapshot();
  await beside(
    (round) => history.book(`other${round}`),
    async () => {
      await deleteDerived();
      await rebuildAll();
    },
  );
  await quiet();
  const after = await snapshot();
  for (const [key, value] of before.values) {
    if (!key.includes('projector:')) assert.equal(after.values.get(key), value, key);
  }
  const again = await rebuildAll();
  assert.equal([again.projections[0]!.differed, again.chains.restored], [0, 0]);
});

test('a redriven event that has not ended yet does not stand failed again', async () => {
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId, 'failed');
  await history.redis.zadd(history.keys.parked('enrich'), Date.now() + 60_000, eventId);
  const progress = history.keys.progress('calendly:invitee.created:a');
  await history.redis.hdel(progress, 'state');
  await rebuildAll();
  assert.is(await history.redis.hget(progress, 'state'), null);
});

test('after a trim it starts from the checkpoint', async () => {
  await live(31, 60);
  await quiet();
  const trimmed = await trimStreams(
    { ...history, projections, retentionMs: 1_000_000, now: Date.now() + 1_060_000 },
    { isDryRun: false },
  );
  assert.ok(trimmed.dropped > 50);
  await live(37, 40);
  await quiet();
  const before = await snapshot();
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  await deleteKeys(history.redis, `${history.keys.prefix}lead:`);
  await deleteKeys(history.redis, `${history.keys.prefix}projector:`);
  await deleteKeys(history.redis, `${history.keys.prefix}progress:`);
  await rebuildAll();
  await assertEqual(before);
});

test('a rebuild that was killed is taken up by the next, and two do not run at once', async () => {
  await live(41, 60);
  await quiet();
  const before = await snapshot();
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  await deleteDerived();
  let entries = 0;
  const killed = rebuild({ ...history, projections, idempotencyTtlS: TTL_S }, (count) => {
    entries += count;
    if (entries > 100) throw new Error('killed');
  });
  await killed.then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'killed'),
  );
  assert.ok((await history.redis.keys(`${history.keys.prefix}rebuild:*`)).length > 0);
  await history.redis.set(history.keys.lease('maintenance'), 'another', 'PX', 60_000);
  await rebuildAll().then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.name, 'BusyError'),
  );
  await history.redis.del(history.keys.lease('maintenance'));
  await rebuildAll();
  await history.projected();
  await assertEqual(before);
});

test('gvi rebuild asks, rebuilds and records', async () => {
  await history.ended(await history.book('a'));
  const settings = {
    ...{ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix, IDEMPOTENCY_TTL_DAYS: String(TTL_S / 86_400) },
  };
  assert.is((await runGvi(['rebuild'], settings)).code, 2);
  await history.redis.del(history.keys.progress('calendly:invitee.created:a'));
  const done = await runGvi(['rebuild', '--yes', '--json'], settings);
  assert.is(done.code, 0);
  assert.equal(JSON.parse(done.stdout).chains, { keys: 1, restored: 1, left: 0 });
  assert.is(await history.redis.xlen(history.keys.stream('events:operations')), 1);
});

test.run();
