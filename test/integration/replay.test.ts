/** Replaying a range to a group that goes on working: what is done is skipped, what is on its way is left, nothing doubled. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { rebuild } from '../../src/lib/rebuild.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { type ReplayOptions, replay as replayRange } from '../../src/lib/replay.js';
import { trim as trimStreams } from '../../src/lib/trim.js';
import { forgetReplay, readUnfinishedReplays, rememberReplay } from '../../src/lib/unfinished-replays.js';
import { projections } from '../../src/projections/index.js';
import { runGvi } from '../helpers/gvi.js';
import { bookingEvent, type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { readStream } from '../helpers/worker.js';

const test = suite('replay');
const KEY = 'calendly:invitee.created:a';

let server: TestRedis;
let history: History;
let prefixes = 0;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `{p${prefixes}}:` });
});
test.after.each(() => history.stop());
test.after(() => server.stop());

const replay = (options: Partial<ReplayOptions> = {}, isDryRun = false) =>
  replayRange(
    history,
    { group: 'enrich', from: '-', to: '+', isForced: false, takesDryRuns: false, replayId: 'r1', ...options },
    { isDryRun },
  );
const synced = () => readStream(history, 'events:synced');
const untilSynced = (count: number) =>
  waitFor(`${count} outcomes`, async () => {
    const found = await synced();
    return found.length === count && found;
  });
/** The cursor of a group, which no replay may move. */
async function cursorOf(group: string): Promise<unknown> {
  const infos = (await history.redis.xinfo('GROUPS', history.keys.stream('events:calendly'))) as unknown[][];
  return infos.find((info) => info.includes(group))?.[7];
}

test('what is processed is skipped, what failed is run, the cursor stays', async () => {
  await history.ended(await history.book('a'));
  const failed = await history.book('b', 'refused');
  await history.ended(failed, 'failed');
  const cursor = await cursorOf('enrich');
  history.stage.isMended = true;
  assert.equal(await replay({}, true), { processed: 1, failed: 1 });
  assert.is(await history.statusOf(failed), 'failed');
  assert.equal(await replay(), { processed: 1, failed: 1 });
  await history.ended(failed);
  assert.is((await synced()).length, 2);
  assert.equal(await replay(), { processed: 2 });
  assert.equal(await cursorOf('enrich'), cursor);
});

test('what is parked, held or not yet delivered is left to its owner', async () => {
  const stuck = await history.book('a', 'stuck');
  await waitFor('it to be parked', async () => (await history.statusOf(stuck)) === 'retrying');
  const dueAt = await history.redis.zscore(history.keys.parked('enrich'), stuck);
  assert.equal(await replay({ isForced: true }), { queued: 1 });
  assert.is(await history.redis.zscore(history.keys.parked('enrich'), stuck), dueAt);
  await history.redis.zrem(history.keys.parked('enrich'), stuck);
  await history.redis.zadd(history.keys.waiting('enrich', 'gemini'), 1, stuck);
  assert.equal(await replay(), { queued: 1 });
});

test('an event that is on its way in a later stage is left, also under force', async () => {
  const eventId = await history.book('a');
  await history.ended(eventId);
  const [enriched] = await readStream(history, 'events:enriched');
  await history.redis.zadd(history.keys.parked('crm-sync'), Date.now() + 60_000, enriched!.eventId);
  assert.equal(await replay({ isForced: true }), { moving: 1 });
});

test('under force all of it runs again, marked in every entry; the first time is not forgotten', async () => {
  await history.ended(await history.book('a'));
  assert.equal(await replay({ isForced: true }), { again: 1 });
  const outcomes = await untilSynced(2);
  assert.equal(
    outcomes.map(({ fields }) => fields.replay),
    [undefined, 'r1'],
  );
  assert.equal(
    (await readStream(history, 'events:enriched')).map(({ fields }) => fields.replay),
    [undefined, 'r1'],
  );
  assert.is(await history.redis.get(history.keys.idemProcessed(KEY)), '1');
  assert.is(await history.redis.get(`${history.keys.idemProcessed(KEY)}:replay:r1`), '1');
  await waitFor(
    'nothing to be remembered',
    async () => (await history.redis.exists(history.keys.replay('enrich'))) === 0,
  );
});

test('going on with a replay skips what it has done; an older entry of the same event is not run beside the newer', async () => {
  await history.ended(await history.book('a'));
  await replay({ isForced: true });
  await untilSynced(2);
  assert.equal(await replay({ isForced: true }), { replayed: 1 });
  assert.equal(await replay({ group: 'crm-sync', isForced: true, replayId: 'r2' }), { older: 1, again: 1 });
  await untilSynced(3);
});

test('going on with a replay of alerts tells nobody a third time', async () => {
  const failed = await history.book('a', 'refused');
  await history.ended(failed, 'failed');
  await history.redis.xadd(history.keys.stream('events:health'), '*', ...healthFields);
  const alerted = () => readStream(history, 'events:alerted');
  await waitFor('both to be told', async () => (await alerted()).length === 2);
  const alerts = { group: 'alert', isForced: true } as const;
  assert.equal(await replay(alerts), { again: 2 });
  await waitFor('both to be told again', async () => (await alerted()).length === 4);
  assert.equal(await replay(alerts), { replayed: 2 });
  assert.equal(await replay({ ...alerts, replayId: 'r2' }), { again: 2 });
});

const healthFields = [
  ...['type', 'provider.paused', 'key', 'health:zoho:s', 'at', 'now', 'v', '1', 'data'],
  JSON.stringify({ provider: 'zoho', kind: 'configuration', reason: 'r', since: 's' }),
];

test('a replay that begins while another comes to its end is remembered all the same', async () => {
  const range = { group: 'enrich', from: '0-0', to: '1-0', isForced: false } as const;
  for (let round = 0; round < 50; round += 1) {
    await rememberReplay(history, { ...range, replayId: 'ends' });
    await Promise.all([
      forgetReplay(history, 'ends'),
      rememberReplay(history, { ...range, replayId: `begins${round}` }),
    ]);
  }
  assert.is((await readUnfinishedReplays(history)).length, 50);
});

test('how many it has handed over is remembered in total, whoever goes on with it', async () => {
  await history.ended(await history.book('a'));
  await history.ended(await history.book('b'));
  const counts: number[] = [];
  const [first, second] = await readStream(history, 'events:calendly');
  const part = (to: string, onEnd: (handedOver: number) => void | Promise<void>) =>
    replayRange(
      history,
      { group: 'enrich', from: '-', to, isForced: true, takesDryRuns: false, replayId: 'r1' },
      { isDryRun: false, onEnd },
    );
  await part(first!.id, () => {
    throw new Error('killed before the end was recorded');
  }).catch(() => {});
  await untilSynced(3);
  await part(second!.id, (handedOver) => void counts.push(handedOver));
  assert.equal(counts, [2]);
  assert.equal(await readUnfinishedReplays(history), []);
});

test('a replay survives a retry and the death of the worker that held its entry', async () => {
  await history.ended(await history.book('a', 'flaky'));
  const [entry] = await readStream(history, 'events:calendly');
  const { redis, keys } = history;
  await redis.hset(keys.replay('enrich'), entry!.eventId, 'r1');
  await redis.xclaim(keys.stream('events:calendly'), 'enrich', 'dead', 0, entry!.id, 'FORCE', 'IDLE', 60_000);
  const outcomes = await untilSynced(2);
  assert.is(outcomes[1]!.fields.replay, 'r1');
});

for (const group of ['enrich', 'summarize', 'crm-sync'] as const) {
  test(`going on with a forced replay to ${group} leaves alone what had failed and it brought to its end`, async () => {
    await history.ended(await history.book('a', 'crmrefused'), 'failed');
    await history.ended(await history.meet('crmrefusedb', 'A', 'q1'), 'failed');
    const before = await history.book('c');
    await history.ended(before);
    history.stage.isMended = true;
    const options: ReplayOptions = {
      ...{ group, from: '-', to: '+', isForced: true, takesDryRuns: false, replayId: 'r1' },
    };
    const onEnd = () => Promise.reject(new Error('killed before the end was recorded'));
    await replayRange(history, options, { isDryRun: false, onEnd }).catch(() => {});
    const count = { enrich: 3, summarize: 2, 'crm-sync': 4 }[group];
    await untilSynced(count);
    assert.equal(await replay({ group, isForced: true }), {
      replayed: { enrich: 2, summarize: 1, 'crm-sync': 3 }[group],
    });
    assert.is((await synced()).length, count);
    assert.is((await replay({ group, isForced: true, replayId: 'r2' })).replayed, undefined);
  });
}

test('an event that ended as a dry run is run once the CRM is written, once', async () => {
  history.stage.outcome = 'dry_run';
  await history.ended(await history.book('a'));
  assert.equal(await replay({ group: 'crm-sync' }), { processed: 1 });
  history.stage.outcome = 'written';
  assert.equal(await replay({ group: 'crm-sync', takesDryRuns: true }), { again: 1 });
  const outcomes = await untilSynced(2);
  assert.is(outcomes[1]!.data.outcome, 'written');
  assert.equal(await replay({ group: 'crm-sync', takesDryRuns: true, replayId: 'r2' }), { processed: 1 });
});

test('a replay that fails is told of and stands open, beside a first time that stays processed', async () => {
  history.stage.isMended = true;
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId);
  history.stage.isMended = false;
  await replay({ isForced: true });
  await waitFor('the alert', async () => (await readStream(history, 'events:alerted')).length === 1);
  assert.is(await history.statusOf(eventId), 'processed');
  assert.equal(await history.redis.hgetall(history.keys.replay('enrich')), {});
  const [failure, ...others] = await readOpenFailures(history);
  assert.equal([failure!.eventId, failure!.replay, others], [eventId, 'r1', []]);
  assert.equal(await history.append(bookingEvent('a', 'refused')), duplicateOf(eventId));
  assert.is(await restoredBy(), 0);
});

test('a failed replay is redriven as that replay, by the id of any entry, until it is done', async () => {
  history.stage.isMended = true;
  const eventId = await history.book('a', 'crmrefused');
  await history.ended(eventId);
  history.stage.isMended = false;
  await replay({ isForced: true });
  const failed = () => readStream(history, 'events:failed');
  await waitFor('the failure', async () => (await failed()).length === 1);
  const settings = { REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix };
  const [first] = await readStream(history, 'events:synced');
  const answer = JSON.parse((await runGvi(['redrive', first!.eventId, '--json'], settings)).stdout);
  assert.is(answer.answers[0].answer, 'redriven');
  await waitFor('the second failure', async () => (await failed()).length === 2);
  assert.equal(
    (await failed()).map(({ fields }) => fields.replay),
    ['r1', 'r1'],
  );
  history.stage.isMended = true;
  const [open] = await readOpenFailures(history);
  const redrive = makeRedrive(history);
  assert.equal([await redrive(open!), await redrive(open!)], ['redriven', 'not_failed']);
  const outcomes = await untilSynced(2);
  assert.is(outcomes[1]!.fields.replay, 'r1');
  assert.equal(await readOpenFailures(history), []);
  assert.is(await restoredBy(), 0);
});

test('a failed replay is done with by another replay that succeeds', async () => {
  history.stage.isMended = true;
  await history.ended(await history.book('a', 'refused'));
  history.stage.isMended = false;
  await replay({ isForced: true });
  await waitFor('the failure', async () => (await readOpenFailures(history)).length === 1);
  history.stage.isMended = true;
  await replay({ isForced: true, replayId: 'r2' });
  await untilSynced(2);
  assert.equal(await readOpenFailures(history), []);
  assert.is(await restoredBy(), 0);
});

async function restoredBy(): Promise<number> {
  await history.projected();
  const { chains } = await rebuild({ ...history, projections, idempotencyTtlS: 3_600 });
  return chains.restored;
}

function duplicateOf(eventId: string) {
  return { status: 'duplicate', eventId, idempotencyKey: KEY };
}

test('replayed beside live traffic, every event ends once for each time it ran', async () => {
  const events: string[] = [];
  for (let i = 0; i < 300; i += 1) events.push(await history.book(`n${i}`));
  const running = replay({ isForced: true });
  for (let i = 300; i < 400; i += 1) events.push(await history.book(`n${i}`));
  const counts = await running;
  for (const eventId of events) await history.ended(eventId);
  await untilSynced(400 + (counts.again ?? 0));
  const runs = (await synced()).map(({ fields }) => `${fields.key} ${fields.replay}`);
  assert.is(new Set(runs).size, runs.length);
});

test('two replays of one range at once: each runs what it says, and nothing runs twice in one of them', async () => {
  for (let i = 0; i < 300; i += 1) await history.book(`n${i}`);
  await untilSynced(300);
  const replayIds = ['r1', 'r2'];
  const counts = await Promise.all(replayIds.map((replayId) => replay({ isForced: true, replayId })));
  const again = counts.map((count) => count.again ?? 0);
  const outcomes = await untilSynced(300 + again[0]! + again[1]!);
  const ranIn = (replayId: string) =>
    outcomes.filter(({ fields }) => fields.replay === replayId).map(({ fields }) => fields.key);
  for (const [index, replayId] of replayIds.entries()) {
    const keys = ranIn(replayId);
    assert.equal([keys.length, new Set(keys).size], [again[index], again[index]]);
  }
  assert.equal(new Set(replayIds.flatMap(ranIn)).size, 300);
  assert.equal(await readUnfinishedReplays(history), []);
});

test('beside a trim of all that is old, what is in the range stays until its replay is done', async () => {
  history.stage.isMended = true;
  for (let i = 0; i < 450; i += 1) await history.book(`n${i}`);
  await untilSynced(450);
  await history.projected();
  const { redis, keys } = history;
  const retentionMs = 1_000_000;
  const trim = () =>
    trimStreams({ redis, keys, projections, retentionMs, now: Date.now() + 2 * retentionMs }, { isDryRun: false });
  const droppedMeanwhile: number[] = [];
  const counts = await replayRange(
    history,
    { group: 'enrich', from: '-', to: '+', isForced: true, takesDryRuns: false, replayId: 'r1' },
    {
      isDryRun: false,
      onDecisions: async () => {
        droppedMeanwhile.push((await trim()).dropped);
      },
    },
  );
  assert.equal(counts, { again: 450 });
  assert.equal(droppedMeanwhile, [0, 0, 0]);
  const ran = () => history.handled.filter(({ group, replay }) => group === 'crm-sync' && replay === 'r1');
  // One that lost its claim while nobody could say that it lives may have run twice.
  await waitFor('all to have run again', () => new Set(ran().map(({ event }) => event)).size === 450);
  assert.equal(await readStream(history, 'events:failed'), []);
  await waitFor('all of it to go', async () => {
    await trim();
    return (await redis.xlen(keys.stream('events:calendly'))) === 0;
  });
  assert.equal(await readStream(history, 'events:failed'), []);
});

test('without a worker to take them it stops and says so', async () => {
  for (let i = 0; i < 401; i += 1) await history.book(`n${i}`);
  await untilSynced(401);
  await history.stop();
  const again = await startRedisClient();
  try {
    const options = {
      group: 'enrich',
      from: '-',
      to: '+',
      isForced: true,
      takesDryRuns: false,
      replayId: 'r1',
    } as const;
    await replayRange({ redis: again, keys: history.keys }, options, { isDryRun: false, stalledMs: 100 }).then(
      () => assert.unreachable(),
      (error: Error) => assert.is(error.name, 'StalledError'),
    );
    assert.is(await again.zcard(history.keys.parked('enrich')), 200);
  } finally {
    history = await startHistory({ redisUrl: server.url, keyPrefix: history.keys.prefix });
  }
});

async function startRedisClient(): Promise<History['redis']> {
  return server.connect() as unknown as History['redis'];
}

test('gvi replay asks, looks, replays a range by time, and records', async () => {
  const settings = { REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix };
  await history.ended(await history.book('a'));
  await history.ended(await history.book('b'));
  const all = ['replay', '--group', 'enrich', '--from', '2026-01-01T00:00:00Z', '--force'];
  const wrong = await runGvi(['replay', '--group', 'nobody', '--from', '0'], settings);
  assert.is(wrong.code, 2);
  assert.match(wrong.stderr, 'changes nothing and calls nobody');
  const asked = await runGvi(all, settings);
  assert.is(asked.code, 2);
  assert.match(asked.stderr, 'Hand 2 of 2 entries to enrich again (0 failed, 2 done already)?');
  const looked = JSON.parse((await runGvi([...all, '--dry-run', '--json'], settings)).stdout);
  assert.equal([looked.counts, looked.entries.length], [{ again: 2 }, 2]);
  assert.is((await synced()).length, 2);
  const [first] = await readStream(history, 'events:calendly');
  const one = ['replay', '--group', 'enrich', '--from', first!.id, '--to', first!.id, '--force', '--yes', '--json'];
  const done = JSON.parse((await runGvi(one, settings)).stdout);
  assert.equal(done.counts, { again: 1 });
  const outcomes = await untilSynced(3);
  assert.is(outcomes[2]!.fields.replay, done.replayId);
  const operations = await readStream(history, 'events:operations');
  assert.equal(
    operations.map(({ data }) => [data.operation, data.count, data.details.phase, data.details.force]),
    [
      ['replay', 0, 'begun', 'true'],
      ['replay', 1, 'ended', 'true'],
    ],
  );
});

test.run();
