/** The whole pipeline on Redis Sentinel: a master, a replica and three sentinels, and the master dies or hangs. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOverview } from '../../src/lib/overview.js';
import { connectRedis } from '../../src/lib/redis.js';
import { runGvi } from '../helpers/gvi.js';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startSentinels, type TestSentinels } from '../helpers/redis-sentinel.js';
import { waitFor } from '../helpers/wait-for.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('on Redis Sentinel');

let sentinels: TestSentinels;
let zoho: ZohoStandin;
let pipeline: Pipeline;

test.before.each(async () => {
  [sentinels, zoho] = await Promise.all([startSentinels(), startZoho()]);
  pipeline = await startPipeline({ redisUrl: sentinels.url, keyPrefix: '{gvi}:', zoho, workers: 2 });
});
test.after.each(async () => {
  await pipeline.stop();
  await zoho.stop();
  await sentinels.stop();
});

const booking = (id: string) => {
  const body = fixture('calendly/invitee-created.json');
  return { ...body, payload: { ...body.payload, uri: `https://a/invitees/${id}`, email: `${id}@brightwater.example` } };
};

/** As its provider does: sends until it is taken in. Sentinels whose votes were split try again after some ten seconds. */
const sendUntilTaken = (id: string) =>
  waitFor(`${id} to be taken in`, () => pipeline.send('calendly', booking(id)).catch(() => false as const), 60_000);

async function isDone(eventId: string): Promise<void> {
  assert.is((await pipeline.finished(eventId)).status, 'processed');
}

test('when the master is killed ingest and workers go on with the new one, also when the old one is back', async () => {
  await isDone(await pipeline.send('calendly', booking('before')));
  const waiting = await pipeline.send('calendly', booking('waiting'));
  await sentinels.untilReplicated();
  const old = await sentinels.master();
  old.kill('SIGKILL');
  const after = await sendUntilTaken('after');
  await isDone(after);
  await isDone(waiting);
  assert.is.not((await sentinels.failedOverFrom(old)).port, old.port);

  // For some seconds it takes itself for a master, and nobody may believe it.
  await old.restart();
  await isDone(await sendUntilTaken('late'));
  assert.equal(
    zoho
      .leads()
      .map(({ Email }) => String(Email).split('@')[0])
      .sort(),
    ['after', 'before', 'late', 'waiting'],
  );
  const { groups } = await readOverview({ redis: pipeline.redis, keys: pipeline.keys });
  assert.is(groups['crm-sync']!.pending, 0);
  const { code, stdout } = await runGvi(['status', '--json'], { REDIS_URL: sentinels.url, KEY_PREFIX: '{gvi}:' });
  assert.is(code, 0);
  assert.is(JSON.parse(stdout).streams['events:synced'].length, 4);
});

test('when the master hangs they leave it, and do not go back to it when it wakes', async () => {
  const ingest = connectRedis({ url: sentinels.url, role: 'ingest' });
  await isDone(await pipeline.send('calendly', booking('before')));
  await sentinels.untilReplicated();
  const old = await sentinels.master();
  old.kill('SIGSTOP');
  const next = await sentinels.failedOverFrom(old);
  await waitFor('ingest to write to the new one', () => ingest.set('{gvi}:a', '1').catch(() => false as const), 20_000);
  await isDone(await sendUntilTaken('meanwhile'));
  old.kill('SIGCONT');
  await isDone(await sendUntilTaken('awake'));
  assert.is(await next.connect().get('{gvi}:a'), '1');
  await waitFor('ingest to write there', () => ingest.set('{gvi}:b', '2').catch(() => false as const));
  assert.is(await next.connect().get('{gvi}:b'), '2');
  ingest.disconnect();
});

test.run();
