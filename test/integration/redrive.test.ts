import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError, TerminalError } from '../../src/lib/errors.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { readOverview } from '../../src/lib/overview.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, readStream, startTestWorker, type TestWorker } from '../helpers/worker.js';

const test = suite('redrive and what is shown of an event');

const key = 'calendly:invitee.created:a';
let redis: Awaited<ReturnType<typeof startRedis>>;
let worker: TestWorker;
let tests = 0;
const model = { fails: true, isTerminal: true };

test.before(async () => {
  redis = await startRedis();
});
test.before.each(async () => {
  tests += 1;
  Object.assign(model, { fails: true, isTerminal: true });
  worker = await startTestWorker({ redisUrl: redis.url, keyPrefix: `t${tests}:`, consumers: [enrich, sync] });
});
test.after.each(() => worker.stop());
test.after(() => redis.stop());

const enrich = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  async handle(event) {
    if (model.fails && model.isTerminal) throw new TerminalError('The model refused', { code: 'model_refused' });
    if (model.fails) throw new RetryableError('Busy', { code: 'busy', retryAfterMs: 60_000 });
    return [
      {
        type: 'lead.enriched' as const,
        data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
      },
    ];
  },
});

const sync = defineConsumer({
  name: 'crm-sync',
  on: ['lead.enriched', 'meeting.summarized'],
  emits: ['lead.synced'],
  handle: async () => [
    { type: 'lead.synced' as const, data: { outcome: 'nothing_to_write' as const, leads: [], notes: [] } },
  ],
});

const book = () => appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking('a') });
const statusOf = async (eventId: string) => (await makeChains(worker).findChain(eventId))?.status;

test('a failed event runs again with a new count of attempts, and then stands processed', async () => {
  const eventId = await book();
  await waitFor('the failure', async () => (await statusOf(eventId)) === 'failed');
  const [failure] = await readOpenFailures(worker);
  model.fails = false;
  assert.is(await makeRedrive(worker)(failure!), 'redriven');
  await waitFor('it to be processed', async () => (await statusOf(eventId)) === 'processed');
  assert.equal(await readOpenFailures(worker), []);
  assert.is(await worker.redis.get(worker.keys.idemProcessed(key)), '1');
  const chain = await makeChains(worker).findChain(eventId);
  assert.equal(
    chain?.trail.map(({ type, group }) => [type, group]),
    [
      ['calendly.invitee.created', 'ingest'],
      ['event.failed', 'enrich'],
      ['lead.enriched', 'enrich'],
      ['lead.synced', 'crm-sync'],
    ],
  );
});

test('redriven twice it runs once', async () => {
  const eventId = await book();
  await waitFor('the failure', async () => (await statusOf(eventId)) === 'failed');
  const [failure] = await readOpenFailures(worker);
  model.fails = false;
  const again = makeRedrive(worker);
  assert.equal([await again(failure!), await again(failure!)], ['redriven', 'not_failed']);
  await waitFor('it to be processed', async () => (await statusOf(eventId)) === 'processed');
  assert.is((await readStream(worker, 'events:synced')).length, 1);
});

test('what fails again after a redrive is a new failure', async () => {
  const eventId = await book();
  await waitFor('the failure', async () => (await statusOf(eventId)) === 'failed');
  const [failure] = await readOpenFailures(worker);
  await makeRedrive(worker)(failure!);
  await waitFor('the second failure', async () => (await readStream(worker, 'events:failed')).length === 2);
  assert.is((await readOpenFailures(worker)).length, 1);
});

test('the id of any entry of the chain shows the chain', async () => {
  model.fails = false;
  const eventId = await book();
  await waitFor('it to be processed', async () => (await statusOf(eventId)) === 'processed');
  const chain = await makeChains(worker).findChain(eventId);
  assert.is(chain?.trail.length, 3);
  for (const step of chain!.trail) {
    const found = await makeChains(worker).findChain(step.eventId);
    assert.is(found?.eventId, eventId);
    assert.equal(found?.trail, chain?.trail);
  }
  assert.is(await makeChains(worker).findChain('calendly-1-0'), undefined);
  assert.is(await makeChains(worker).findChain('nonsense'), undefined);
});

test('an event that waits for its next attempt says since when, why and until when', async () => {
  model.isTerminal = false;
  const eventId = await book();
  await waitFor('it to be parked', async () => (await statusOf(eventId)) === 'retrying');
  const chain = await makeChains(worker).findChain(eventId);
  assert.is(chain?.waiting?.group, 'enrich');
  assert.is(chain?.waiting?.error.code, 'busy');
  assert.is(chain?.waiting?.attempts, 1);
  assert.ok(Date.parse(chain!.waiting!.dueAt!) > Date.now());
  const { groups } = await readOverview(worker);
  assert.equal([groups.enrich!.parked, groups.enrich!.pending, groups.enrich!.backlog], [1, 0, 0]);
});

test('an idempotency key says whether it was seen and is done', async () => {
  model.fails = false;
  const chains = makeChains(worker);
  assert.equal(await chains.findIdem(key), { key, seen: false, processed: false, eventId: null, status: null });
  const eventId = await book();
  await waitFor('it to be processed', async () => (await statusOf(eventId)) === 'processed');
  const done = { key, seen: true, processed: true, eventId, status: 'processed' };
  assert.equal(await chains.findIdem(key), done);
  await worker.redis.del(worker.keys.idemSeen(key), worker.keys.idemProcessed(key));
  assert.equal(await chains.findIdem(key), done, 'also when the marks have expired');
});

test.run();
