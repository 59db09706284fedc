/** Rebuilding: what follows from the streams comes out equal, keys and values, while the pipeline works. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import type { StreamName } from '../../src/lib/event-id.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { countRebuildSteps, rebuild } from '../../src/lib/rebuild.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { trim as trimStreams } from '../../src/lib/trim.js';
import { reportVanished } from '../../src/lib/vanished.js';
import { projections } from '../../src/projections/index.js';
import { assertUnchanged, deleteDerived, snapshot } from '../helpers/derived-keys.js';
import { type History, startHistory } from '../helpers/history.js';
import { live, quiet, trimDone } from '../helpers/random-history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('rebuild');
const TTL_S = 3_600;

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

test('with everything derived deleted, it comes back equal, keys and values, with the time it has left', async () => {
  await live(history, 7, 250);
  await quiet(history);
  const before = await snapshot(history);
  assert.ok(before.values.size > 300);
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  await deleteDerived(history);
  const report = await rebuildAll();
  assert.is(report.chains.left, 0);
  assert.is(report.chains.restored, report.chains.keys);
  await history.projected();
  await assertUnchanged(history, before);
  const left = await history.redis.keys(`${history.keys.prefix}rebuild:*`);
  assert.equal(left, []);
});

test('other content of a known event stands in its trail, after a rebuild too, and goes with its entry', async () => {
  const eventId = await history.book('a');
  await history.ended(eventId);
  await history.book('a', 'flaky');
  await history.projected();
  const trail = async () => (await makeChains(history).findChain(eventId))?.trail.map(({ type }) => type);
  assert.equal((await trail())?.at(-1), 'webhook.rejected');
  assert.is(await history.statusOf(eventId), 'processed');
  const before = await snapshot(history);
  await deleteDerived(history, ['progress:', 'idem:']);
  await rebuildAll();
  await assertUnchanged(history, before);
  await waitFor('all of it to go', async () => {
    await trimDone(history);
    return (await history.redis.keys(`${history.keys.prefix}progress:*`)).length === 0;
  });
});

test('read in many passes it comes back equal as well, and its progress is told to the end', async () => {
  await live(history, 13, 120);
  await quiet(history);
  const before = await snapshot(history);
  await deleteDerived(history, ['progress:', 'idem:']);
  const report = await rebuild({ ...history, projections, idempotencyTtlS: TTL_S, entriesPerPass: 60 });
  assert.equal([report.chains.left, report.chains.restored], [0, report.chains.keys]);
  await assertUnchanged(history, before);
});

test('as much progress is told as there is to do, the restoring of each event included', async () => {
  for (const id of ['a', 'b', 'c']) await history.ended(await history.book(id));
  await history.projected();
  const told: number[] = [];
  const options = { ...history, projections, idempotencyTtlS: TTL_S };
  const steps = await countRebuildSteps(options);
  await rebuild(options, (entries) => told.push(entries));
  // Six of them folded, nine gathered, nine restored.
  assert.equal([steps, told.reduce((total, entries) => total + entries, 0)], [24, 24]);
  assert.is(told.at(-1), 9);
});

test('beside live traffic it finds no difference', async () => {
  await live(history, 11, 80);
  const reports = await beside(
    (round) => live(history, 100 + round, 20),
    async () => [await rebuildAll(), await rebuildAll(), await rebuildAll()],
  );
  for (const { projections: rebuilt, chains } of reports) {
    assert.equal([rebuilt[0]!.differed, chains.restored, chains.left], [0, 0, 0]);
  }
  await quiet(history);
  const before = await snapshot(history);
  const last = await rebuildAll();
  assert.equal([last.projections[0]!.differed, last.chains.restored], [0, 0]);
  await assertUnchanged(history, before);
});

test('damage is mended beside live traffic', async () => {
  await live(history, 23, 100);
  await quiet(history);
  const before = await snapshot(history);
  await beside(
    (round) => history.book(`other${round}`),
    async () => {
      await deleteDerived(history);
      await rebuildAll();
    },
  );
  await quiet(history);
  const after = await snapshot(history);
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

test('a mark that no entry bears out is gone, and what is redriven is done', async () => {
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId, 'failed');
  const mark = history.keys.idemProcessed('calendly:invitee.created:a');
  await history.redis.set(mark, '1');
  assert.is((await rebuildAll()).chains.restored, 1);
  assert.is(await history.redis.exists(mark), 0);
  assert.is((await rebuildAll()).chains.restored, 0);
  history.stage.isMended = true;
  const [failure] = await readOpenFailures(history);
  assert.is(await makeRedrive(history)(failure!), 'redriven');
  await history.ended(eventId, 'processed');
  assert.is(await history.redis.exists(mark), 1);
});

test('what failed stands failed while its group is missing, or was set back by hand', async () => {
  const eventIds = [await history.book('a', 'refused'), await history.book('b', 'refused')];
  for (const eventId of eventIds) await history.ended(eventId, 'failed');
  const { keys } = history;
  const failed = async () => {
    const states = ['a', 'b'].map((id) => redis.hget(keys.progress(`calendly:invitee.created:${id}`), 'state'));
    return Promise.all(states);
  };
  await history.stop();
  const redis = server.connect() as unknown as RedisClient;
  for (const harm of [
    () => redis.xgroup('DESTROY', keys.stream('events:calendly'), 'enrich'),
    () => redis.del(keys.progress('calendly:invitee.created:b')),
    () => redis.xgroup('CREATE', keys.stream('events:calendly'), 'enrich', '0'),
    () => redis.del(keys.cursors('enrich'), keys.progress('calendly:invitee.created:b')),
  ]) {
    await harm();
    await rebuild({ redis, keys, projections, idempotencyTtlS: TTL_S });
    assert.equal(await failed(), ['failed', 'failed'], String(harm));
  }
});

test('what was redriven does not stand failed again where its group is lost meanwhile', async () => {
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId, 'failed');
  const { keys } = history;
  await history.stop();
  const redis = server.connect() as unknown as RedisClient;
  await redis.hdel(keys.progress('calendly:invitee.created:a'), 'state');
  await redis.xgroup('DESTROY', keys.stream('events:calendly'), 'enrich');
  await rebuild({ redis, keys, projections, idempotencyTtlS: TTL_S });
  assert.is(await redis.hget(keys.progress('calendly:invitee.created:a'), 'state'), null);
});

test('with trims now and then it starts from the checkpoint, and comes back equal', async () => {
  await live(history, 31, 150, { trims: true });
  await quiet(history);
  await trimDone(history);
  await live(history, 37, 40);
  await quiet(history);
  const before = await snapshot(history);
  assert.ok((await history.redis.keys(`${history.keys.prefix}checkpoint:lead:*`)).length > 10);
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  // The marks of what was trimmed would have expired long before.
  await deleteDerived(history, ['lead:', 'projector:', 'progress:']);
  await rebuildAll();
  await assertUnchanged(history, before);
});

test('an entry that was deleted by hand stays lost', async () => {
  const eventId = await history.book('a', 'stuck');
  const { redis, keys } = history;
  await waitFor('it to be parked', async () => (await history.statusOf(eventId)) === 'retrying');
  await redis.xdel(keys.stream('events:calendly'), eventId.slice('calendly-'.length));
  await redis.zadd(keys.parked('enrich'), 1, eventId);
  await waitFor('the alert', async () => (await redis.xlen(keys.stream('events:alerted'))) === 1);
  const before = await snapshot(history);
  await redis.del(keys.progress(`lost:${eventId}`));
  assert.is((await rebuildAll()).chains.restored, 1);
  await assertUnchanged(history, before);
  assert.is(await history.statusOf(eventId), 'lost');
});

test('a step that was deleted before anybody came to it is told of after a rebuild as well', async () => {
  const { redis, keys } = history;
  const eventId = await history.book('lost', 'stuck');
  await waitFor('it to be parked', async () => (await history.statusOf(eventId)) === 'retrying');
  const gone = `${Date.now()}-0`;
  await redis
    .multi()
    .xadd(keys.stream('events:enriched'), gone, 'type', 'lead.enriched', 'cause', eventId)
    .hset(keys.progress('calendly:invitee.created:lost'), `enriched-${gone}`, '')
    .xdel(keys.stream('events:enriched'), gone)
    .exec();
  const progress = await redis.hgetall(keys.progress('calendly:invitee.created:lost'));
  assert.is((await rebuildAll()).chains.left, 0);
  assert.equal(await redis.hgetall(keys.progress('calendly:invitee.created:lost')), progress);
  const told = await reportVanished({ redis, keys, log: pino({ level: 'silent' }) });
  assert.equal(told, [{ eventId: `enriched-${gone}`, group: 'crm-sync' }]);
});

test('a revision of a meeting that was deleted by hand keeps no rebuild from its end, and stays known', async () => {
  const { redis, keys } = history;
  await history.ended(await history.meet('m', 'first', 'q1'));
  const second = await history.meet('m', 'second', 'q2');
  await history.ended(second);
  await redis.xdel(keys.stream('events:readai'), second.slice('readai-'.length));
  assert.is((await rebuildAll()).chains.left, 0);
  assert.is(await history.meet('m', 'second', 'q3'), second, 'a duplicate');
  assert.is((await rebuildAll()).chains.restored, 0);
});

for (const [what, type] of [
  ['failed', 'event.failed'],
  ['was processed', 'lead.synced'],
] as const) {
  test(`what ${what} after the clock had gone back stands so after a rebuild`, async () => {
    const { redis, keys } = history;
    const key = 'calendly:invitee.created:ahead';
    const ahead = Date.now() + 5_000;
    const [stream, state] = type === 'event.failed' ? ['events:failed', 'failed'] : ['events:synced', 'processed'];
    const fields = ['key', key, 'at', new Date().toISOString(), 'v', '1', 'data', '{}'];
    const cause = `calendly-${ahead}-0`;
    const end = `${ahead - 5_000}-0`;
    const endId = `${stream!.slice('events:'.length)}-${end}`;
    // At once: the worker looks at what it is moved past, and must find its end.
    await redis
      .multi()
      .xadd(keys.stream('events:calendly'), `${ahead}-0`, 'type', 'calendly.invitee.created', ...fields)
      .xgroup('SETID', keys.stream('events:calendly'), 'enrich', '$')
      .xadd(keys.stream(stream as StreamName), end, 'type', type, ...fields, 'cause', cause)
      .hset(keys.progress(key), { id: cause, [cause]: '', [endId]: '', state: state! })
      .exec();
    assert.is((await rebuildAll()).chains.left, 0);
    assert.is(await redis.hget(keys.progress(key), 'state'), state);
  });
}

test('what was trimmed after a rebuild was killed is not brought back by the next', async () => {
  await live(history, 53, 60);
  await quiet(history);
  let entries = 0;
  const killed = rebuild({ ...history, projections, idempotencyTtlS: TTL_S }, (count) => {
    entries += count;
    if (entries > 150) throw new Error('killed');
  });
  await killed.then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'killed'),
  );
  const retentionMs = 1_000_000;
  await trimStreams({ ...history, projections, retentionMs, now: Date.now() + 3 * retentionMs }, { isDryRun: false });
  await history.projected();
  const before = await snapshot(history);
  assert.equal(
    [...before.values.keys()].filter((key) => key.includes('}:progress:')),
    [],
  );
  await rebuildAll();
  await assertUnchanged(history, before);
});

test('a rebuild that was killed is taken up by the next, and two do not run at once', async () => {
  await live(history, 41, 60);
  await quiet(history);
  const before = await snapshot(history);
  await history.redis.set(history.keys.lease('projector'), 'nobody', 'PX', 60_000);
  await deleteDerived(history);
  const killed = rebuild({ ...history, projections, idempotencyTtlS: TTL_S }, () => {
    throw new Error('killed');
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
  await assertUnchanged(history, before);
});

test.run();
