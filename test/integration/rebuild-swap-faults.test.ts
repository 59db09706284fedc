/** What befalls a rebuild on its way to the swap and in it: Redis goes back, another run or a former release is at work too. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keysOfCopy, makeKeys } from '../../src/lib/keys.js';
import { assertKnown, makeProject, type Projection, readSaved } from '../../src/lib/projector.js';
import { rebuild } from '../../src/lib/rebuild.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { failureOf } from '../helpers/failure-of.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { withCommand } from '../helpers/with-command.js';

const test = suite('what befalls the swap of a rebuild');
const keys = makeKeys('{f}:');
const rebuilt = keysOfCopy(keys, 'rebuild');

let redis: RedisClient;

shareRedis(test, (shared) => {
  redis = shared.redis;
});

/** The id that was written last, and how often one was: what is folded twice shows. */
type Last = { leadId: string; count: number };
const last: Projection<Last> = {
  ...{ name: 'last', version: 1, on: ['lead.synced'] },
  ids: ({ data }) => (data as Synced).leads.map(({ email }) => email),
  evolve: ({ count } = { leadId: '', count: 0 }, { data }) => ({
    leadId: (data as Synced).leads[0]!.leadId,
    count: count + 1,
  }),
};
type Synced = { leads: { email: string; leadId: string }[] };
const projection = last as Projection;

const person = (n: number) => `p${n}@brightwater.example`;
const range = (count: number) => Array.from({ length: count }, (_, n) => n);

async function sync(people: readonly number[], leadId: string): Promise<void> {
  for (let from = 0; from < people.length; from += 1_000) {
    const pipeline = redis.pipeline();
    for (const n of people.slice(from, from + 1_000)) {
      const data = { outcome: 'written', leads: [{ email: person(n), leadId, action: 'update' }], notes: [] };
      const fields = ['type', 'lead.synced', 'key', `k${n}`, 'at', 'now', 'v', '1', 'cause', 'enriched-1-0'];
      pipeline.xadd(keys.stream('events:synced'), '*', ...fields, 'data', JSON.stringify(data));
    }
    await pipeline.exec();
  }
}

async function fold(): Promise<void> {
  const project = makeProject({ redis, keys });
  while ((await project(projection)) > 0);
}

async function damage(people: readonly number[]): Promise<void> {
  await redis.mset(people.flatMap((n) => [keys.projection('last', person(n)), '{"count":9,"leadId":"wrong"}']));
}

async function stateOf(n: number): Promise<Last | null> {
  return JSON.parse((await redis.get(keys.projection('last', person(n)))) ?? 'null');
}

const rebuildBy = (client: RedisClient, onProgress?: () => void) =>
  rebuild({ redis: client, keys, projections: [projection], idempotencyTtlS: 60 }, onProgress);

/** All that Redis holds; the answer puts it back. */
async function remember(): Promise<() => Promise<void>> {
  const names = await redis.keys('*');
  const dumps = await Promise.all(names.map((name) => redis.dumpBuffer(name)));
  return async () => {
    const leases = [keys.lease('maintenance'), keys.lease('projector')];
    const held = await redis.mget(leases);
    await redis.flushall();
    await Promise.all(names.map((name, index) => redis.restore(name, 0, dumps[index]!, 'REPLACE')));
    for (const [index, owner] of held.entries()) {
      if (owner !== null) await redis.set(leases[index]!, owner, 'PX', 10_000);
    }
  };
}

test('states that were equal while the live projection was far behind are swapped as well', async () => {
  const filler = (count: number) => range(count).map(() => 1);
  await sync([0], 'a');
  await sync(filler(10_100), 'x');
  await sync([0], 'b');
  await sync(filler(600), 'x');
  await sync([0], 'a');
  const blind: Projection<{ leadId: string }> = {
    ...{ name: 'last', version: 1, on: last.on, ids: last.ids },
    evolve: (_, { data }) => ({ leadId: (data as Synced).leads[0]!.leadId }),
  };
  let hasMoved = false;
  // After the states were compared and before they are swapped a worker folds on.
  const client = withCommand(redis, 'gvi_begin_swap', async (command, args) => {
    if (!hasMoved) await makeProject({ redis, keys })(blind as Projection);
    hasMoved = true;
    return command(...args);
  });
  const report = await rebuild({ redis: client, keys, projections: [blind as Projection], idempotencyTtlS: 60 });
  assert.is(report.projections[0]!.differed, null);
  assert.ok(hasMoved);
  while ((await makeProject({ redis, keys })(blind as Projection)) > 0);
  assert.is((await stateOf(0))?.leadId, 'a');
});

test('a Redis that goes back into the swap is not left with half of it', async () => {
  const people = range(1_500);
  await sync(people, 'a');
  await fold();
  await damage(people);
  let goBack: (() => Promise<void>) | undefined;
  const client = withCommand(redis, 'gvi_swap_projection', async (command, args) => {
    const left = await command(...args);
    if (left === 500) goBack = await remember();
    else if (goBack !== undefined) {
      await goBack();
      goBack = undefined;
    }
    return left;
  });
  const failure = await failureOf(rebuildBy(client));
  assert.is(failure.name, 'BusyError');
  await fold();
  assert.equal(await Promise.all([0, 700, 1_499].map(stateOf)), Array(3).fill({ count: 1, leadId: 'a' }));
  assert.is((await rebuildBy(redis)).projections[0]!.differed, 0);
});

test('a rebuild that was frozen and lost its lease does not touch what another one rebuilds', async () => {
  await sync(range(1_200), 'a');
  let told = 0;
  const frozen = rebuildBy(redis, () => {
    told += 1;
    if (told > 1) return;
    void redis.set(keys.lease('maintenance'), 'another', 'PX', 60_000);
    void redis.del(rebuilt.projector('last'));
  });
  assert.is((await failureOf(frozen)).name, 'BusyError');
  assert.is(await redis.exists(rebuilt.projector('last')), 0);
});

test('where Redis is another server when it is to be swapped, the differences are looked for again', async () => {
  await sync(range(3), 'a');
  await fold();
  await damage(range(3));
  let begins = 0;
  const client = withCommand(redis, 'gvi_begin_swap', async (command, args) => {
    begins += 1;
    if (begins > 1) return command(...args);
    // The last second is lost with it.
    await redis.del(rebuilt.projection('changes', 'last'));
    const runId = /run_id:(\w+)/.exec(await redis.info('server'))![1]!;
    return command(...args.map((arg) => (arg === runId ? 'another' : arg)));
  });
  assert.is((await rebuildBy(client)).projections[0]!.differed, 3);
  assert.equal(await Promise.all(range(3).map(stateOf)), Array(3).fill({ count: 1, leadId: 'a' }));
});

test('a worker of a former release leaves it alone while states are swapped', async () => {
  const people = range(1_500);
  await sync(people, 'a');
  await fold();
  const before = await readSaved(redis, keys, projection);
  await damage(people);
  let refusals = 0;
  const client = withCommand(redis, 'gvi_swap_projection', async (command, args) => {
    const left = await command(...args);
    if (left !== 500) return left;
    const { version, positions } = await readSaved(redis, keys, projection);
    assert.equal([...positions], [...before.positions]);
    assert.throws(() => assertKnown(projection, version), /newer version/);
    refusals += 1;
    return left;
  });
  await rebuildBy(client);
  assert.is(refusals, 1);
  assert.equal(await readSaved(redis, keys, projection), before);
});

test('what a former release has begun to fold from states of before it cannot save afterwards', async () => {
  await sync([0], 'a');
  await fold();
  await damage([0]);
  const before = await readSaved(redis, keys, projection);
  let isFirst = true;
  // It has lost its lease, and read what comes now.
  const client = withCommand(redis, 'gvi_begin_swap', async (command, args) => {
    if (isFirst) await sync([0], 'b');
    isFirst = false;
    return command(...args);
  });
  await rebuildBy(client);
  const after = await readSaved(redis, keys, projection);
  assert.is.not(after.positions.get('events:synced'), before.positions.get('events:synced'));
  await fold();
  assert.equal(await stateOf(0), { count: 2, leadId: 'b' });
});

test.run();
