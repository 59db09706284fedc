import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { commandOf } from '../../scripts/lib/dev/process-table.js';
import { copyProject, type DevRun } from '../helpers/dev-script.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('./scripts/dev');
const copy = copyProject();
const redis = await startRedis();
test.after(() => copy.remove());
test.after(() => redis.stop());

const startedPids = () => new Map(copy.state()?.started.map(({ name, pid }) => [name, pid]));
const isProcessed = async () => ((await dev.paste('/debug/idem/')) as { processed: boolean }).processed;
/** The disk under the Redis of it may be slow: the webhook is sent again then, and is told whether it had been taken in. */
const takeIn = () =>
  waitFor('the webhook to be taken in', async () => {
    const { status } = (await dev.paste('--data-binary')) as { status?: string };
    return status;
  });
const isReady = (run: DevRun) => fetch(`http://127.0.0.1:${run.port}/readyz`).then(({ ok }) => ok);

// Each start takes seconds, so the tests share runs: each goes on where the former left off.
let dev: DevRun;

test('it runs the whole pipeline dry, and what it prints can be pasted', async () => {
  dev = await copy.start();
  await dev.untilReady();
  assert.match(dev.output(), 'Dry run');
  assert.match(copy.state()?.redisUrl ?? '', 'redis://127.0.0.1:');

  assert.match(await takeIn(), /^(accepted|duplicate)$/);
  await waitFor('the event to be processed', isProcessed);
});

test('a second one says that one is running, and leaves it alone', async () => {
  const second = await copy.start();
  assert.is(await second.ended(), 1);
  assert.match(second.output(), 'running already');
  await waitFor('the first one to be ready still', () => isReady(dev));
  assert.is(copy.state()?.pid, dev.process.pid);
});

test('stopped, it leaves nothing behind', async () => {
  const pids = [...startedPids().values()];
  assert.is(pids.length, 3);
  dev.process.kill('SIGTERM');
  assert.is(await dev.ended(), 0);
  assert.is(copy.state(), undefined);
  assert.ok(pids.every((pid) => commandOf(pid) === undefined));
});

test('started again, it has its data still; what it leaves running when it is killed, the next one ends', async () => {
  const killed = await copy.start();
  await killed.untilReady();
  const left = [...startedPids().values()];
  killed.process.kill('SIGKILL');
  await killed.ended();

  dev = await copy.start({ port: killed.port });
  await dev.untilReady();
  assert.ok(left.every((pid) => commandOf(pid) === undefined));
  await waitFor('what was processed to be known still', isProcessed);
});

test('a worker that dies ends all of it, and the exit code says so', async () => {
  process.kill(startedPids().get('worker')!, 'SIGKILL');
  assert.is(await dev.ended(), 1);
  assert.match(dev.output(), 'worker ended (SIGKILL)');
  assert.is(copy.state(), undefined);
});

test('where REDIS_URL names a Redis it starts none', async () => {
  dev = await copy.start({ env: { REDIS_URL: redis.url } });
  await dev.untilReady();
  assert.equal([...startedPids().keys()], ['ingest', 'worker']);
  assert.is(copy.state()?.redisUrl, undefined);
});

test('a second Ctrl-C ends what does not end by itself', async () => {
  const worker = startedPids().get('worker')!;
  process.kill(worker, 'SIGSTOP');
  dev.process.kill('SIGINT');
  await waitFor('it to begin to stop', () => dev.output().includes('Stopping'));
  // One at once would be taken for the same, which npm hands on.
  await waitFor('it to be gone', () => dev.process.exitCode !== null || !dev.process.kill('SIGINT'));
  assert.is(await dev.ended(), 130);
  await waitFor('the worker to be gone', () => commandOf(worker) === undefined);
});

test('a Redis that takes its time to start is not left behind', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gvi-slow-redis-'));
  writeFileSync(join(folder, 'redis-server'), '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 });
  dev = await copy.start({ env: { PATH: `${folder}:${process.env.PATH}` } });
  const slow = await waitFor('it to be noted', () => startedPids().get('redis'));
  assert.is(copy.state()?.redisUrl, undefined);
  dev.process.kill('SIGTERM');
  await waitFor('it to begin to stop', () => dev.output().includes('Stopping'));
  dev.process.kill('SIGTERM');
  assert.is(await dev.ended(), 130);
  await waitFor('it to be gone', () => commandOf(slow) === undefined);
  rmSync(folder, { recursive: true });
});

test('the sandbox writes the lead to the stand-in of Zoho', async () => {
  dev = await copy.start({ args: ['--sandbox'] });
  await dev.untilReady();
  assert.match(dev.output(), 'Sandbox');
  await takeIn();
  const leads = await waitFor('the lead', async () => {
    const state = (await dev.paste('/_standin/state')) as { leads: { Email: string }[] };
    return state.leads.length > 0 && state.leads;
  });
  assert.equal(
    leads.map(({ Email }) => Email),
    ['laura.brandt@northwind-foods.example'],
  );
  dev.process.kill('SIGINT');
  assert.is(await dev.ended(), 0);
});

test('a port that is taken is named', async () => {
  const other = createServer().listen(0);
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  dev = await copy.start({ port });
  assert.is(await dev.ended(), 1);
  assert.match(dev.output(), `Port ${port} is taken`);
  assert.is(copy.state(), undefined);
  other.close();
});

test('a bad setting is named without its value', async () => {
  dev = await copy.start({ env: { MAX_ATTEMPTS: 'plenty' } });
  assert.is(await dev.ended(), 1);
  assert.match(dev.output(), 'MAX_ATTEMPTS');
  assert.not.match(dev.output(), 'plenty');
});

test.run();
