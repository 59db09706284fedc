import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('workers come back by themselves');

let redis: Awaited<ReturnType<typeof startRedis>>;
let zoho: ZohoStandin;
let pipeline: Pipeline;

test.before.each(async () => {
  redis = await startRedis();
  zoho = await startZoho();
  pipeline = await startPipeline({ redisUrl: redis.url, keyPrefix: '', zoho, workers: 2 });
});
test.after.each(async () => {
  await pipeline.stop();
  await zoho.stop();
  await redis.stop();
});

const booking = (id: string) => {
  const body = fixture('calendly/invitee-created.json');
  return { ...body, payload: { ...body.payload, uri: `https://a/invitees/${id}`, email: `${id}@brightwater.example` } };
};

test('after Redis was killed and started again they go on, and nothing is lost or doubled', async () => {
  await pipeline.finished(await pipeline.send('calendly', booking('a')));
  redis.kill('SIGKILL');
  await redis.restart();
  const later = await waitFor('Redis to take a webhook', () =>
    pipeline.send('calendly', booking('b')).catch(() => false as const),
  );
  assert.is((await pipeline.finished(later)).status, 'processed');
  assert.equal(
    zoho
      .leads()
      .map(({ Email }) => Email)
      .sort(),
    ['a@brightwater.example', 'b@brightwater.example'],
  );
});

test('after Redis was emptied they read again from the start of what comes', async () => {
  await pipeline.finished(await pipeline.send('calendly', booking('a')));
  await pipeline.redis.flushall();
  const later = await pipeline.send('calendly', booking('b'));
  assert.is((await pipeline.finished(later)).status, 'processed');
  assert.is(zoho.leads().length, 2);
});

test('after Redis was frozen they go on', async () => {
  await pipeline.finished(await pipeline.send('calendly', booking('a')));
  redis.kill('SIGSTOP');
  const sending = pipeline.send('calendly', booking('b'));
  redis.kill('SIGCONT');
  assert.is((await pipeline.finished(await sending)).status, 'processed');
});

test('when Redis is out of memory the pipeline drains, and what it could not do waits unharmed', async () => {
  zoho.faults.on({ path: '/crm/v8/Leads/upsert', times: 1 }, { latencyMs: 400 });
  const first = await pipeline.send('calendly', booking('a'));
  await waitFor('the write to be under way', async () =>
    zoho.calls.some(({ path }) => path === '/crm/v8/Leads/upsert'),
  );
  const used = Number(/used_memory:(\d+)/.exec(await pipeline.redis.info('memory'))![1]);
  const later = await pipeline.send('calendly', booking('b'));
  await pipeline.redis.config('SET', 'maxmemory', String(Math.round(used / 2)));
  assert.is((await pipeline.finished(first)).status, 'processed');
  assert.is((await pipeline.finished(later)).status, 'processed');
  assert.is(await pipeline.redis.xlen('events:failed'), 0);
  await pipeline.redis.config('SET', 'maxmemory', '0');
});

test('with every connection cut again and again, each lead is written once', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 20; i += 1) {
    ids.push(
      await waitFor('the webhook to be taken in', () =>
        pipeline.send('calendly', booking(`n${i}`)).catch(() => false as const),
      ),
    );
    if (i % 4 === 0) await pipeline.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  }
  for (const id of ids) assert.is((await pipeline.finished(id)).status, 'processed');
  assert.is(zoho.leads().length, 20);
  assert.is(await pipeline.redis.xlen('events:synced'), 20);
  assert.is(await pipeline.redis.xlen('events:enriched'), 20);
});

test('started while Redis takes no writes they wait, and go on when it does', async () => {
  await pipeline.redis.config('SET', 'min-replicas-to-write', '1');
  let isStarted = false;
  const starting = startPipeline({ redisUrl: redis.url, keyPrefix: 'late:', zoho }).then((late) => {
    isStarted = true;
    return late;
  });
  const waitedFrom = performance.now();
  await Promise.race([starting, waitFor('a moment', () => performance.now() - waitedFrom > 1_000)]);
  assert.is(isStarted, false);
  await pipeline.redis.config('SET', 'min-replicas-to-write', '0');
  const late = await starting;
  assert.is((await late.finished(await late.send('calendly', booking('late')))).status, 'processed');
  await late.stop();
});

test.run();
