/** The host's clock is set while a worker runs: that changes nothing, as all times are Redis'. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError } from '../../src/lib/errors.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import {
  appendWebhook,
  booking,
  pendingCount,
  readStream,
  startTestWorker,
  type TestWorker,
} from '../helpers/worker.js';

const test = suite('a host whose clock is set');
const HOUR_MS = 3_600_000;
const hostClock = Date.now;

let server: TestRedis;
let worker: TestWorker;
let tries = 0;
let saidNow = 0;

test.before.each(async () => {
  server = await startRedis();
  tries = 0;
  worker = await startTestWorker({
    redisUrl: server.url,
    consumers: [
      defineConsumer({
        ...{ name: 'enrich', on: ['calendly.invitee.created'], emits: ['lead.enriched'] },
        async handle({ data, key }, { now }) {
          saidNow = now().getTime();
          tries += 1;
          if (key === 'fails' && tries === 1) throw new RetryableError('busy', { code: 'busy', retryAfterMs: 300 });
          return [
            {
              type: 'lead.enriched' as const,
              data: { kind: 'booked' as const, happenedAt: data.created_at, facts: {} },
            },
          ];
        },
      }),
    ],
  });
});
test.after.each(async () => {
  Date.now = hostClock;
  await worker.stop();
  await server.stop();
});

const add = (key: string) => appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking(key) });
/** An entry that a worker took which has died since. */
async function leaveToDead(key: string): Promise<void> {
  const { redis, keys } = worker;
  const stream = keys.stream('events:calendly');
  const fields = { type: 'calendly.invitee.created', key, at: new Date(hostClock()).toISOString(), v: '1' };
  const taken = await redis
    .multi()
    .xadd(stream, '*', ...Object.entries(fields).flat(), 'data', JSON.stringify(booking(key)))
    .xreadgroup('GROUP', 'enrich', 'dead', 'COUNT', 1, 'STREAMS', stream, '>')
    .exec();
  const id = taken![0]![1] as string;
  await redis.xclaim(stream, 'enrich', 'dead', 0, id, 'IDLE', 60_000, 'JUSTID');
}
const done = (count: number) =>
  waitFor(`${count} to be done`, async () => (await readStream(worker, 'events:enriched')).length === count);

for (const [way, byMs] of [
  ['back', -HOUR_MS],
  ['ahead', HOUR_MS],
] as const) {
  test(`set ${way}: what is due is tried again, what a dead worker left is taken over, and it is no other time`, async () => {
    await add('fails');
    const isParked = async () => (await worker.redis.zcard(worker.keys.parked('enrich'))) === 1;
    // Where this process stood still meanwhile it may have been tried again between two looks.
    await waitFor('the retry to be parked', async () => (await isParked()) || tries > 1);
    Date.now = () => hostClock() + byMs;
    await done(1);
    await leaveToDead('left');
    await done(2);
    await waitFor('nothing to be pending', async () => (await pendingCount(worker, 'events:calendly', 'enrich')) === 0);
    await add('later');
    await done(3);
    assert.ok(Math.abs(saidNow - hostClock()) < HOUR_MS / 2, `it is ${new Date(saidNow).toISOString()}`);
  });
}

test.run();
