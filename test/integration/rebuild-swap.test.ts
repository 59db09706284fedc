/** How rebuilt states take the place of the live ones: in slices, beside those who read and fold, and only where there is room. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keysOfCopy, makeKeys } from '../../src/lib/keys.js';
import { makeProject, type Projection, readPositions } from '../../src/lib/projector.js';
import { rebuild } from '../../src/lib/rebuild.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { loadScript } from '../../src/lib/scripts.js';
import { changesOf } from '../../src/lib/swap.js';
import { leads } from '../../src/projections/leads.js';
import { runGvi } from '../helpers/gvi.js';
import type { TestRedis } from '../helpers/redis-server.js';
import { shareRedis } from '../helpers/shared-redis.js';

const test = suite('the swap of a rebuild');
const STREAM = 'events:synced';
const projection = leads as Projection;

let server: TestRedis;
let redis: RedisClient;
const keys = makeKeys('{s}:');

shareRedis(test, (shared) => {
  ({ server, redis } = shared);
});

const person = (n: number) => `p${n}@brightwater.example`;

/** `lead.synced` for each of the people; returns the id of the last. */
async function sync(people: readonly number[], leadId: string, padding = ''): Promise<string> {
  let last = '';
  for (let from = 0; from < people.length; from += 1_000) {
    const pipeline = redis.pipeline();
    for (const n of people.slice(from, from + 1_000)) {
      const data = {
        ...{ outcome: 'written', leads: [{ email: person(n), leadId: `${leadId}${n}`, action: 'update' }], notes: [] },
        wrote: { [person(n)]: { order: 'a', fields: { Company: `2${padding}` } } },
      };
      const fields = ['type', 'lead.synced', 'key', `k${n}`, 'at', 'now', 'v', '1', 'cause', 'enriched-1-0'];
      pipeline.xadd(keys.stream(STREAM), '*', ...fields, 'data', JSON.stringify(data));
    }
    for (const [, id] of (await pipeline.exec())!) last = id as string;
  }
  return last;
}

const range = (count: number) => Array.from({ length: count }, (_, n) => n);

async function fold(of = keys): Promise<void> {
  const project = makeProject({ redis, keys: of });
  while ((await project(projection)) > 0);
}

const leadIdOf = async (n: number) => JSON.parse((await redis.get(keys.projection('lead', person(n)))) ?? '{}').leadId;

const rebuildLeads = () => rebuild({ redis, keys, projections: [projection], idempotencyTtlS: 60 });

async function damage(people: readonly number[]): Promise<void> {
  await redis.mset(people.flatMap((n) => [keys.projection('lead', person(n)), '{"leadId":"wrong"}']));
}

const serverId = async () => /run_id:(\w+)/.exec(await redis.info('server'))![1]!;

/** A rebuild of everything that dies after the first slice of its swap. */
async function dieSwapping(people: readonly number[]): Promise<void> {
  const rebuilt = keysOfCopy(keys, 'rebuild');
  await fold(rebuilt);
  await redis.zadd(changesOf(keys, 'lead'), ...people.flatMap((n) => ['0', person(n)]));
  await redis.set(keys.lease('maintenance'), 'me');
  const positions = [...(await readPositions(redis, keysOfCopy(keys, 'checkpoint'), projection))];
  const places = [keys.swaps(), keys.projector('lead'), rebuilt.projector('lead')];
  const streams = positions.map(([stream]) => keys.stream(stream));
  const checkpointAt = keysOfCopy(keys, 'checkpoint').projector('lead');
  const begin = loadScript(redis, 'begin-swap');
  const args = ['lead', 'me', await serverId(), ...positions.flat()];
  assert.is(await begin([...places, checkpointAt, keys.lease('maintenance'), ...streams], args), 1);
  const left = await loadScript(redis, 'swap-projection')([...places, changesOf(keys, 'lead')], [keys.prefix, 'lead']);
  assert.is(left, people.length - 1_000);
  await redis.del(keys.lease('maintenance'));
}

test('a swap whose rebuild has died is ended by the projector, which then goes on', async () => {
  const people = range(2_500);
  await sync(people, 'a');
  await fold();
  await damage(people);
  await redis.set(keys.projection('lead', 'stranger'), '{}');
  await dieSwapping([...people, 2_500]);
  await sync([3, 2_499], 'b');
  await fold();
  assert.equal(await Promise.all([3, 4, 2_400, 2_499].map(leadIdOf)), ['b3', 'a4', 'a2400', 'b2499']);
  assert.is(await redis.exists(changesOf(keys, 'lead')), 0);
  assert.is((await rebuildLeads()).projections[0]!.differed, 1, 'the stranger');
});

test('a swap whose rebuild has died is ended by the next rebuild, where nobody projects', async () => {
  const people = range(1_500);
  await sync(people, 'a');
  await fold();
  await damage(people);
  await dieSwapping(people);
  assert.is((await rebuildLeads()).projections[0]!.differed, 0);
  assert.equal(await Promise.all([0, 1_499].map(leadIdOf)), ['a0', 'a1499']);
});

test('what was folded from states of before a swap is not saved after it', async () => {
  await sync([1], 'a');
  await fold();
  const at = (await readPositions(redis, keys, projection)).get(STREAM)!;
  const next = await sync([1], 'b');
  await redis.del(keys.swaps());
  const stale = () =>
    loadScript(redis, 'project')(
      [keys.projector('lead'), keys.swaps(), keys.lease('maintenance'), keys.projection('lead', person(1))],
      ['lead', '', '', projection.version, projection.version, 1, STREAM, at, next, '{"leadId":"stale"}'],
    );
  // At one position, as where nothing came while it was compared.
  await redis.hset(keys.swaps(), 'lead', 1);
  assert.is(await stale(), 0);
  await redis.hset(keys.swaps(), 'lead', 2);
  assert.is(await stale(), 0);
  await redis.del(keys.swaps());
  assert.is(await stale(), 1);
});

test('it ends although the newest entry was deleted by hand', async () => {
  const last = await sync([1, 2], 'a');
  await fold();
  await redis.xdel(keys.stream(STREAM), last);
  assert.is((await rebuildLeads()).projections[0]!.differed, 1);
  assert.equal(await Promise.all([1, 2].map(leadIdOf)), ['a1', undefined]);
  await sync([2], 'b');
  await fold();
  assert.is(await leadIdOf(2), 'b2');
});

test('states that differ in the order of their members alone are left as they are', async () => {
  await sync([1], 'a');
  await fold();
  const key = keys.projection('lead', person(1));
  const state = JSON.parse((await redis.get(key))!);
  const turned = JSON.stringify(Object.fromEntries(Object.entries(state).reverse()));
  assert.is.not(turned, await redis.get(key));
  await redis.set(key, turned);
  assert.is((await rebuildLeads()).projections[0]!.differed, 0);
  assert.is(await redis.get(key), turned);
});

test('it is refused where Redis has no memory for a second copy, and leaves nothing behind', async () => {
  await sync(range(4_000), 'a', 'x'.repeat(1_000));
  await fold();
  const settings = { REDIS_URL: server.url, KEY_PREFIX: keys.prefix };
  try {
    for (const isLost of [false, true]) {
      // Then nothing tells beforehand how large the copy will be.
      if (isLost) for (const n of range(4_000)) await redis.del(keys.projection('lead', person(n)));
      const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1]);
      await redis.config('SET', 'maxmemory', Math.round((used + 2_000_000) / 0.95));
      const ran = await runGvi(['rebuild', '--yes', '--json'], settings);
      assert.is(ran.code, 1, ran.stderr);
      const { error } = JSON.parse(ran.stdout);
      assert.is(error.code, 'no_room');
      assert.match(error.message, 'maxmemory');
      assert.equal(await redis.keys(`${keys.prefix}rebuild:*`), []);
    }
  } finally {
    await redis.config('SET', 'maxmemory', 0);
  }
});

test.run();
