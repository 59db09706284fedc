import { Gauge } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findFreePort } from '../../scripts/lib/redis-server.js';
import { ConfigError } from '../../src/lib/config.js';
import { makeWorkerMetrics } from '../../src/lib/metrics.js';
import { serveWorker } from '../../src/lib/worker-http.js';
import { send } from '../helpers/ingest-bench.js';
import { makeServices } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite("a worker's own port");

test('figures that cannot be read are 503, and the worker lives', async () => {
  const metrics = makeWorkerMetrics();
  let isBroken = true;
  new Gauge({
    ...{ name: 'gvi_test_broken', help: 'Cannot be read at first', registers: [metrics.registry] },
    collect() {
      if (isBroken) throw new Error('planted detail');
    },
  });
  const { port, stop } = await serveWorker(Promise.resolve({ metrics, name: 'w', isAlive: () => true }), 0);
  const base = `http://127.0.0.1:${port}`;
  const refused = await send(`${base}/metrics`);
  assert.is(refused.status, 503);
  assert.not.match(refused.text, 'planted');
  assert.is((await send(`${base}/healthz`)).status, 200);
  isBroken = false;
  assert.match((await send(`${base}/metrics`)).text, 'gvi_test_broken');
  assert.is((await send(`${base}/nothing`)).status, 404);
  await stop();
});

test('a port that another has is refused by the name of its setting, in one line', async () => {
  const worker = { metrics: makeWorkerMetrics(), name: 'w', isAlive: () => true };
  const first = await serveWorker(Promise.resolve(worker), 0);
  const refused = await serveWorker(Promise.resolve(worker), first.port).catch((error: unknown) => error);
  await first.stop();
  assert.instance(refused, ConfigError);
  assert.match((refused as Error).message, /^WORKER_PORT: .*\(EADDRINUSE\)$/);
});

test('a worker that waits for Redis at its start is healthy, as one that loses it is', async () => {
  const WORKER_PORT = String(await findFreePort());
  const services = makeServices();
  services.start('worker', { REDIS_URL: 'redis://127.0.0.1:1', WORKER_PORT });
  const base = `http://127.0.0.1:${WORKER_PORT}`;
  const health = await waitFor('it to answer', () => send(`${base}/healthz`).catch(() => false as const));
  assert.equal([health.status, health.body], [200, { status: 'starting' }]);
  assert.is((await send(`${base}/metrics`)).status, 503);
  await services.stop();
});

test.run();
