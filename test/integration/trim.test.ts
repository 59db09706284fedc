/** Trimming: what is old and done goes with its whole chain, what is not stays, whatever stands before or behind it. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { STREAMS } from '../../src/lib/events.js';
import { keysOfCopy } from '../../src/lib/keys.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { replay as replayRange } from '../../src/lib/replay.js';
import { type TrimReport, trim as trimStreams } from '../../src/lib/trim.js';
import { forgetReplay, rememberReplay } from '../../src/lib/unfinished-replays.js';
import { projections } from '../../src/projections/index.js';
import { runGvi, startGvi } from '../helpers/gvi.js';
import { type History, meetingEvent as meeting, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { withCommand } from '../helpers/with-command.js';
import { readStream } from '../helpers/worker.js';

const test = suite('trim');
const RETENTION_MS = 1_000_000;

let server: TestRedis;
let history: History;
let prefixes = 0;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `{t${prefixes}}:` });
});
test.after.each(() => history.stop());
test.after(() => server.stop());

const trimAt = (now: number, isDryRun = false): Promise<TrimReport> =>
  trimStreams({ ...history, projections, retentionMs: RETENTION_MS, now }, { isDryRun });
/** Trims as if so many milliseconds had passed. */
const trimIn = (ms: number, isDryRun = false): Promise<TrimReport> => trimAt(Date.now() + ms, isDryRun);
const LATER = RETENTION_MS + 60_000;
const MUCH_LATER = 2 * RETENTION_MS + 60_000;

async function lengths(): Promise<Record<string, number>> {
  const all = await Promise.all(
    STREAMS.map(async (stream) => [stream, await history.redis.xlen(history.keys.stream(stream))] as const),
  );
  return Object.fromEntries(all.filter(([, length]) => length > 0));
}
const exists = async (key: string) => (await history.redis.exists(history.keys.progress(key))) === 1;

test('a chain that is old and done goes with its progress; a second trim finds nothing', async () => {
  await history.ended(await history.book('a'));
  await history.ended(await history.book('b', 'flaky'));
  await history.reject('{');
  await history.projected();
  assert.is((await trimIn(LATER, true)).dropped, 7);
  assert.is((await trimIn(LATER)).dropped, 7);
  assert.equal(await lengths(), {});
  assert.is(await exists('calendly:invitee.created:a'), false);
  assert.is((await trimIn(LATER)).dropped, 0);
});

test('what a Redis that has gone back has forgotten to be in the checkpoint is not dropped', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  const checkpoint = keysOfCopy(history.keys, 'checkpoint').projector('lead');
  const redis = withCommand(history.redis, 'gvi_trim', async (command, args) => {
    await history.redis.del(checkpoint);
    return command(...args);
  });
  const options = { ...history, redis, projections, retentionMs: RETENTION_MS, now: Date.now() + LATER };
  const { dropped, kept } = await trimStreams(options, { isDryRun: false });
  assert.equal({ dropped, kept }, { dropped: 0, kept: { unfolded: 3 } });
  assert.is((await trimIn(LATER)).dropped, 3);
});

test('what is young stays, and so does the whole chain of which a part is young', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  assert.is((await trimIn(0)).dropped, 0);
  const [[synced]] = (await history.redis.xrange(history.keys.stream('events:synced'), '-', '+')) as unknown as [
    [string],
  ];
  const cutoff = Number(synced!.split('-')[0]);
  const report = await trimAt(cutoff + RETENTION_MS);
  assert.is(report.dropped, 0);
  assert.equal(Object.keys(report.kept), ['young']);
  assert.equal(await lengths(), { 'events:calendly': 1, 'events:enriched': 1, 'events:synced': 1 });
});

test('a stuck old event stays and keeps nothing behind it', async () => {
  const stuck = await history.book('a', 'stuck');
  await waitFor('it to be parked', async () => (await history.statusOf(stuck)) === 'retrying');
  await history.ended(await history.book('b'));
  await history.projected();
  const { dropped, kept } = await trimIn(LATER);
  assert.equal({ dropped, kept }, { dropped: 3, kept: { waiting: 1 } });
  assert.equal(await lengths(), { 'events:calendly': 1 });
  assert.ok(await exists('calendly:invitee.created:a'));
});

test('what a group has not read, or holds, stays with all that caused it', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  const { redis, keys } = history;
  const stream = keys.stream('events:enriched');
  await redis.xgroup('CREATE', stream, 'audit', '0');
  assert.equal((await trimIn(LATER)).kept, { undelivered: 3 });
  await redis.xreadgroup('GROUP', 'audit', 'somebody', 'STREAMS', stream, '>');
  assert.equal((await trimIn(LATER)).kept, { pending: 3 });
  await redis.xgroup('DESTROY', stream, 'audit');
  assert.is((await trimIn(LATER)).dropped, 3);
});

test('an open failure keeps its chain as long again', async () => {
  await history.ended(await history.book('a', 'refused'), 'failed');
  assert.equal((await trimIn(LATER)).kept, { open_failure: 3 });
  assert.equal(await lengths(), { 'events:calendly': 1, 'events:failed': 1, 'events:alerted': 1 });
  assert.is((await trimIn(MUCH_LATER)).dropped, 3);
  assert.equal(await lengths(), {});
});

test('an event that came to no end stays, though no group holds it any more; once replayed and done it goes', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  const { redis, keys } = history;
  const progress = keys.progress('calendly:invitee.created:a');
  // As it is left when somebody removes a dead worker's consumer by hand, and its pending entries with it.
  await redis.hdel(progress, 'state');
  assert.equal((await trimIn(LATER)).kept, { unended: 3 });
  await redis.hset(progress, 'state', 'processed');
  assert.is((await trimIn(LATER)).dropped, 3);
});

test('the chain of a vanished entry is kept as long as its failure stands open', async () => {
  const { redis, keys } = history;
  const eventId = await history.book('a', 'stuck');
  await waitFor('it to be parked', async () => (await history.statusOf(eventId)) === 'retrying');
  await redis.xdel(keys.stream('events:calendly'), eventId.slice('calendly-'.length));
  await redis.zadd(keys.parked('enrich'), 0, eventId);
  await waitFor('the alert', async () => (await lengths())['events:alerted'] === 1);
  await history.ended(await history.book('b'));
  await history.projected();
  // The enriched entry of `b` vanishes after it was done: what is left of its chain belongs to an open failure.
  const enriched = await onlyIdIn('events:enriched');
  await redis.hset(keys.progress(`lost:enriched-${enriched}`), 'id', `enriched-${enriched}`, 'state', 'lost');
  assert.equal((await trimIn(LATER)).kept, { open_failure: 5 });
  await trimIn(MUCH_LATER);
  assert.equal(await lengths(), {});
});

async function onlyIdIn(stream: (typeof STREAMS)[number]): Promise<string> {
  const [[id]] = (await history.redis.xrange(history.keys.stream(stream), '-', '+')) as [[string, string[]]];
  return id;
}

test('what is not folded into the projections stays', async () => {
  await history.stop();
  history = await startHistory({ redisUrl: server.url, keyPrefix: '{unfolded}:', projections: [] });
  await history.ended(await history.book('a'));
  assert.equal((await trimIn(LATER)).kept, { unfolded: 3 });
});

test('the revisions of a meeting go together', async () => {
  await history.ended(await history.meet('m1', 'A', 'q1'));
  await history.ended(await history.meet('m1', 'B', 'q2'));
  await history.projected();
  const second = 'readai:meeting_completed:m1:r2';
  await history.redis.zadd(history.keys.parked('crm-sync'), Date.now() + 60_000, await lastEnriched());
  assert.equal((await trimIn(LATER)).kept, { waiting: 6 });
  assert.ok(await exists(second));
  await history.redis.del(history.keys.parked('crm-sync'));
  assert.is((await trimIn(LATER)).dropped, 6);
  assert.equal([await exists(second), await exists('readai:meeting_completed:m1')], [false, false]);
});

async function lastEnriched(): Promise<string> {
  const [[id]] = (await history.redis.xrevrange(history.keys.stream('events:summarized'), '+', '-')) as unknown as [
    [string],
  ];
  return `summarized-${id}`;
}

test('what is kept of a meeting by key goes with it: afterwards nothing of it is known', async () => {
  const first = await history.meet('m2', 'A', 'q1');
  await history.ended(first);
  assert.is(await history.meet('m2', 'A', 'q2'), first);
  assert.is(await history.redis.exists(history.keys.requests('readai:meeting_completed:m2')), 1);
  await history.projected();
  assert.is((await trimIn(LATER)).dropped, 3);
  assert.equal(await history.redis.keys(`${history.keys.prefix}requests:*`), []);
  await history.redis.del(history.keys.idemSeen('readai:meeting_completed:m2'));
  await history.redis.del(history.keys.idemProcessed('readai:meeting_completed:m2'));
  const again = await history.append(meeting('m2', 'A', 'q2'));
  assert.equal([again.status, again.idempotencyKey], ['accepted', 'readai:meeting_completed:m2']);
});

test('a replay that has failed, or is not at its end, keeps the chains of its range', async () => {
  history.stage.isMended = true;
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId);
  await history.projected();
  const store = { redis: history.redis, keys: history.keys };
  await rememberReplay(store, { replayId: 'r1', group: 'enrich', from: '0-0', to: '9999999999999-0', isForced: true });
  assert.equal((await trimIn(LATER)).kept, { replaying: 3 });
  await forgetReplay(store, 'r1');
  history.stage.isMended = false;
  const options = { group: 'enrich', from: '-', to: '+', isForced: true, takesDryRuns: false, replayId: 'r2' } as const;
  await replayRange(store, options, { isDryRun: false });
  await waitFor('the alert', async () => (await lengths())['events:alerted'] === 1);
  assert.equal((await trimIn(LATER)).kept, { open_failure: 5 });
  assert.is((await trimIn(MUCH_LATER)).dropped, 5);
});

test('an entry that no key can be read from goes as well, once it was told of', async () => {
  const { redis, keys } = history;
  await redis.xadd(keys.stream('events:calendly'), '*', 'type', 'calendly.invitee.created', 'data', '{}');
  await waitFor('the alert', async () => (await lengths())['events:alerted'] === 1);
  assert.equal(
    (await readOpenFailures(history)).map(({ key }) => key.split(':')[0]),
    ['unreadable'],
  );
  await trimIn(MUCH_LATER);
  assert.equal(await lengths(), {});
});

test('an entry of which no progress tells stays', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  await history.redis.del(history.keys.progress('calendly:invitee.created:a'));
  assert.equal((await trimIn(LATER)).kept, { unknown: 3 });
});

test('health and operations go by age, health once its alert is out', async () => {
  const { redis, keys } = history;
  const data = JSON.stringify({ provider: 'zoho', kind: 'outage', reason: 'r', since: 's' });
  const fields = ['type', 'provider.paused', 'key', 'health:zoho:s', 'at', 'now', 'v', '1', 'data', data];
  await redis.xadd(keys.stream('events:health'), '*', ...fields);
  await redis.xadd(keys.stream('events:operations'), '*', 'type', 'operation.done', 'key', 'o', 'v', '1', 'data', '{}');
  await waitFor('the alert', async () => (await lengths())['events:alerted'] === 1);
  assert.is((await trimIn(LATER)).dropped, 3);
  assert.equal(await lengths(), {});
});

test('gvi trim counts, asks, drops and records', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  const retentionDays = '0.00001';
  const settings = {
    ...{ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix },
    ...{ RETENTION_DAYS: retentionDays, IDEMPOTENCY_TTL_DAYS: retentionDays },
  };
  await waitFor(
    'it to be old',
    async () => (await trimStreams({ ...history, projections, retentionMs: 900 }, { isDryRun: true })).dropped === 3,
  );
  const asked = await runGvi(['trim'], settings);
  assert.is(asked.code, 2);
  assert.match(asked.stderr, 'Drop 3 entries older than');
  const counted = await runGvi(['trim', '--dry-run', '--json'], settings);
  assert.is(JSON.parse(counted.stdout).dropped, 3);
  assert.is((await lengths())['events:calendly'], 1);
  const done = await runGvi(['trim', '--yes', '--json', '--by', 'Ada'], settings);
  assert.is(done.code, 0);
  assert.is(JSON.parse(done.stdout).dropped, 3);
  const { before } = JSON.parse(done.stdout);
  const told = (phase: string, count: number) => ({ operation: 'trim', by: 'Ada', count, details: { phase, before } });
  assert.equal(
    (await readStream(history, 'events:operations')).map(({ data }) => data),
    [told('begun', 0), told('ended', 3)],
  );
});

test('a gvi trim that is killed midway has said who began it', async () => {
  for (let i = 0; i < 50; i += 1) await history.book(`n${i}`);
  const settings = { REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix };
  const operations = () => readStream(history, 'events:operations');
  const running = startGvi(['trim', '--yes', '--by', 'Ada'], settings);
  await waitFor('it to be at work', async () => (await operations()).length > 0);
  running.child.kill('SIGKILL');
  await running.exited;
  const [begun] = await operations();
  assert.equal([begun!.data.operation, begun!.data.by, begun!.data.details.phase], ['trim', 'Ada', 'begun']);
});

test.run();
