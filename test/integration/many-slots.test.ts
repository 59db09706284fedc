/** A worker with so many slots that it could hold more entries than a script can hand over at once. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineBatchConsumer } from '../../src/lib/consumer.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { startTestWorker } from '../helpers/worker.js';

const test = suite('many slots');
const ENTRIES = 9_000;
const LEAD = { kind: 'booked', happenedAt: '2026-11-02T09:00:00Z', email: 'karen@brightwater.example', facts: {} };

let server: TestRedis;

test.before(async () => {
  server = await startRedis();
});
test.after(() => server.stop());

test('a backlog of thousands is done by one worker, each entry once', async () => {
  const pipeline = server.connect().pipeline();
  for (let n = 0; n < ENTRIES; n += 1) {
    pipeline.xadd(
      ...(['events:enriched', '*', 'type', 'lead.enriched', 'key', `k${n}`, 'at', 'now', 'v', '1'] as const),
      ...(['cause', 'calendly-1-0', 'data', JSON.stringify(LEAD)] as const),
    );
  }
  await pipeline.exec();
  let handled = 0;
  const consumer = defineBatchConsumer({
    ...{ name: 'crm-sync', on: ['lead.enriched'], emits: ['lead.synced'], batchMax: 1_000 },
    async handleBatch(deliveries) {
      handled += deliveries.length;
      const data = { outcome: 'nothing_to_write' as const, leads: [], notes: [] };
      return deliveries.map(() => ({ events: [{ type: 'lead.synced' as const, data }] }));
    },
  });
  const env = { VISIBILITY_TIMEOUT_MS: '60000' };
  const worker = await startTestWorker({ redisUrl: server.url, consumers: [consumer], concurrency: 10, env });
  try {
    await waitFor('all to be synced', async () => (await worker.redis.xlen('events:synced')) >= ENTRIES, 60_000);
    assert.is(handled, ENTRIES);
  } finally {
    await worker.stop();
  }
});

test.run();
