/** Where a rebuild begins: at the checkpoint, or where a killed one of the same version stood. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keysOfCopy, makeKeys } from '../../src/lib/keys.js';
import { makeProject, type Projection, readSaved } from '../../src/lib/projector.js';
import { rebuild } from '../../src/lib/rebuild.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { withCommand } from '../helpers/with-command.js';

const test = suite('where a rebuild begins');
const keys = makeKeys('{r}:');
const checkpoint = keysOfCopy(keys, 'checkpoint');

let redis: RedisClient;

shareRedis(test, (shared) => {
  redis = shared.redis;
});

/** Alerts counted for each id, in version 2 under another name. */
const first: Projection<{ alerts: number }> = {
  ...{ name: 'alerts', version: 1, on: ['alert.sent'], ids: ({ data }) => [(data as { eventId: string }).eventId] },
  evolve: (state = { alerts: 0 }) => ({ alerts: state.alerts + 1 }),
};
type Second = { count: number };
const second: Projection<Second> = {
  ...{ name: 'alerts', version: 2, on: first.on, ids: first.ids },
  evolve: (state = { count: 0 }) => ({ count: state.count + 1 }),
  upcast: (state) =>
    'alerts' in (state as object) ? { count: (state as { alerts: number }).alerts } : (state as Second),
};

async function add(eventIds: readonly string[]): Promise<void> {
  const pipeline = redis.pipeline();
  for (const eventId of eventIds) {
    const data = JSON.stringify({ failureId: 'failed-1-0', eventId, delivery: 'log' });
    const fields = ['type', 'alert.sent', 'key', 'k', 'at', 'now', 'v', '1', 'cause', 'failed-1-0', 'data', data];
    pipeline.xadd(keys.stream('events:alerted'), '*', ...fields);
  }
  await pipeline.exec();
}

const rebuildWith = (projection: unknown, onProgress?: (entries: number) => void, client = redis) =>
  rebuild({ redis: client, keys, projections: [projection as Projection], idempotencyTtlS: 60 }, onProgress);

async function fold(projection: unknown, of = keys): Promise<void> {
  const project = makeProject({ redis, keys: of });
  while ((await project(projection as Projection)) > 0);
}

async function states(): Promise<unknown[]> {
  const found = await redis.keys(keys.projection('alerts', '*'));
  return (await redis.mget(found)).map((json) => JSON.parse(json!));
}

const refused = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => assert.unreachable() as never,
    (error: Error) => error,
  );

test('what an older version began is begun anew', async () => {
  await add(Array.from({ length: 1_300 }, (_, n) => `calendly-${n}-0`));
  const killed = rebuildWith(first, () => {
    throw new Error('killed');
  });
  assert.is((await refused(killed)).message, 'killed');
  await rebuildWith(second);
  assert.equal([...new Set((await states()).map((state) => JSON.stringify(state)))], ['{"count":1}']);
  assert.is((await states()).length, 1_300);
});

test('what was folded from entries that are gone is carried over', async () => {
  await add(['calendly-1-0', 'calendly-1-0', 'calendly-2-0']);
  await fold(first, checkpoint);
  await redis.xtrim(keys.stream('events:alerted'), 'MAXLEN', 0);
  await add(['calendly-1-0', 'calendly-3-0']);
  await rebuildWith(second);
  const found = await redis.mget(['1', '2', '3'].map((n) => keys.projection('alerts', `calendly-${n}-0`)));
  assert.equal(found, ['{"count":3}', '{"count":1}', '{"count":1}']);
});

test('a live projection takes over the states of a former version as it comes to them', async () => {
  await add(['calendly-1-0', 'calendly-2-0']);
  await fold(first);
  await add(['calendly-1-0']);
  await fold(second);
  const found = await redis.mget(['1', '2'].map((n) => keys.projection('alerts', `calendly-${n}-0`)));
  assert.equal(found, ['{"count":2}', '{"alerts":1}']);
  assert.is((await readSaved(redis, keys, second as Projection)).version, 2);
});

test('an older version touches nothing that a newer one has folded, until it rebuilds', async () => {
  await add(['calendly-1-0']);
  await fold(second);
  await add(['calendly-1-0']);
  assert.is((await refused(fold(first))).name, 'NotYetError');
  assert.equal(await states(), [{ count: 1 }]);
  assert.is((await rebuildWith(first)).projections[0]!.differed, null);
  assert.equal(await states(), [{ alerts: 2 }]);
  await fold(second, checkpoint);
  assert.match((await refused(rebuildWith(first))).message, /newer version/);
  assert.equal(await states(), [{ alerts: 2 }]);
});

test('a checkpoint that moves while it is copied is copied again', async () => {
  const ids = Array.from({ length: 20_000 }, (_, n) => `id${n}`);
  const wide = { ...first, ids: () => ids };
  await add(['calendly-1-0']);
  await fold(wide, checkpoint);
  await add(['calendly-2-0']);
  let copies = 0;
  // As a trim that was frozen and has lost its lease, between two steps of the copy.
  const client = withCommand(redis, 'gvi_change_rebuilt', async (command, args) => {
    if (args.includes('MSET')) copies += 1;
    if (args.includes('MSET') && copies === 5) {
      await fold(wide, checkpoint);
      await redis.xtrim(keys.stream('events:alerted'), 'MAXLEN', 0);
    }
    return command(...args);
  });
  await rebuildWith(wide, undefined, client);
  assert.ok(copies > 20, 'it was under way, and was made again');
  assert.equal([...new Set(await redis.mget(ids.map((id) => keys.projection('alerts', id))))], ['{"alerts":2}']);
});

test.run();
