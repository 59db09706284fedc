/** What a worker does on links that go dead and on a Redis that goes and comes. */
import { suite } from 'uvu';
import { defineConsumer } from '../../src/lib/consumer.js';
import { startLink, type TestLink } from '../helpers/redis-link.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('a worker on a bad link');

let server: TestRedis;
let link: TestLink;
let worker: TestWorker;

const enrich = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  async handle({ data }) {
    const email = data.payload.email ?? '';
    return [
      {
        type: 'lead.enriched' as const,
        data: { kind: 'booked' as const, happenedAt: data.created_at, email, facts: {} },
      },
    ];
  },
});

test.before.each(async () => {
  server = await startRedis();
  link = await startLink(server.port);
  worker = await startTestWorker({ redisUrl: `redis://127.0.0.1:${link.port}`, consumers: [enrich] });
});
test.after.each(async () => {
  await worker.stop();
  await link.stop();
  await server.stop();
});

/** Appends past the link, and waits until the worker has done it. */
async function isDone(id: string): Promise<void> {
  const redis = server.connect({ retryStrategy: () => 20 });
  const body = booking(id);
  await appendWebhook({ redis, keys: worker.keys }, { type: 'calendly.invitee.created', key: id, body });
  await waitFor(`${id} to be done`, async () => {
    const entries = await redis.xrange(worker.keys.stream('events:enriched'), '-', '+');
    return entries.filter(([, fields]) => fields.includes(id)).length === 1;
  });
}

test('goes on after the link was dead, twice', async () => {
  await isDone('before');
  for (const id of ['first', 'second']) {
    link.swallow();
    await waitFor('the worker to notice', () => worker.redis.status !== 'ready');
    link.heal();
    await isDone(id);
  }
});

test('goes on after Redis was frozen for longer than it waits', async () => {
  await isDone('before');
  server.kill('SIGSTOP');
  await waitFor('the worker to notice', () => worker.redis.status !== 'ready');
  server.kill('SIGCONT');
  await isDone('after');
});

test('goes on after Redis was emptied, and after it was killed and started', async () => {
  await isDone('before');
  await server.connect().flushall();
  await isDone('emptied');
  server.kill('SIGKILL');
  await server.restart();
  await isDone('restarted');
});

test.run();
