/** What a group has still to be handed, where Redis' own figure is too high: from a restart on, in what comes after it. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { describeGroup } from '../../src/lib/abandoned-groups.js';
import { readOverview } from '../../src/lib/overview.js';
import { replay } from '../../src/lib/replay.js';
import { type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('what is unread after a restart of Redis');

const COUNT = 450;

let server: TestRedis;
let history: History;

/** Entries that were read before the restart, and some after it. */
test.before.each(async () => {
  server = await startRedis();
  history = await startHistory({ redisUrl: server.url, keyPrefix: '{u}:' });
  for (let i = 0; i < COUNT; i += 1) await history.book(`n${i}`);
  await untilSynced(COUNT);
  server.kill('SIGKILL');
  await server.restart();
  await waitFor('a booking to be taken', () => history.book('later').catch(() => false as const));
  await untilSynced(COUNT + 1);
});
test.after.each(async () => {
  await history.stop();
  await server.stop();
});

const untilSynced = (count: number) =>
  waitFor(`${count} outcomes`, async () => {
    return (await history.redis.xlen(history.keys.stream('events:synced')).catch(() => 0)) === count;
  });

test('it is counted', async () => {
  const { keys } = history;
  await history.stop();
  const redis = server.connect() as unknown as History['redis'];
  await redis.xadd(keys.stream('events:calendly'), '*', 'type', 'calendly.invitee.created', 'key', 'k', 'v', '1');
  const { groups } = await readOverview({ redis, keys });
  assert.equal([groups.enrich?.backlog, groups['crm-sync']?.backlog], [1, 0]);
  const described = await describeGroup(
    { redis, keys },
    { stream: 'events:calendly', group: 'enrich', now: Date.now() },
  );
  assert.is(described?.backlog, 1);
});

test('a replay does not wait for it', async () => {
  const options = { group: 'enrich', from: '-', to: '+', isForced: true, takesDryRuns: false, replayId: 'r1' } as const;
  assert.equal(await replay(history, options, { isDryRun: false }), { again: COUNT + 1 });
});

test.run();
