/** SIGTERM to a real worker: in time, with nothing lost and no delivery counted. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { findBundled } from '../helpers/bundle.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { startAtTerminal } from '../helpers/terminal.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, readStream, shortTimes } from '../helpers/worker.js';

const test = suite('shutdown of a worker');

const LONG_MS = 30_000;
/** So long a worker that is ended while it starts waits for Redis. */
const START_END_MS = 1_000;
const keys = makeKeys('');
/** A model that never answers. */
let model: Server;
let modelUrl = '';
let asked = 0;
let server: TestRedis;
let redis: ReturnType<TestRedis['connect']>;
const children: ChildProcess[] = [];

test.before(async () => {
  model = createServer(() => {
    asked += 1;
  });
  await new Promise<void>((resolve) => model.listen(0, '127.0.0.1', resolve));
  modelUrl = `http://127.0.0.1:${(model.address() as AddressInfo).port}`;
});
test.before.each(async () => {
  asked = 0;
  server = await startRedis();
  redis = server.connect();
});
test.after.each(async () => {
  for (const child of children.splice(0)) killGroup(child);
  await server.stop();
});
test.after(async () => {
  model.closeAllConnections();
  await new Promise((resolve) => model.close(resolve));
});

type Command = readonly [string, ...string[]];
const NODE: Command = [process.execPath, findBundled('src/consumers/main.cjs')];
const NPM: Command = ['npm', 'run', '--silent', 'worker', '--'];
const ROOT = join(import.meta.dirname, '..', '..');

function run(env: Record<string, string> = {}, args: readonly string[] = [], command: Command = NODE) {
  const [file, ...first] = command;
  const child = spawn(file, [...first, '--group', 'enrich', ...args], {
    cwd: command === NPM ? ROOT : tmpdir(),
    // A group of its own, so that what npm starts can be ended with it.
    detached: true,
    env: environment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const exit = new Promise<{ code: number | null; ms: number }>((resolve) => {
    child.once('exit', (code) => resolve({ code, ms: performance.now() - toldAt }));
  });
  let toldAt = 0;
  return {
    exit,
    output: () => output,
    terminate() {
      if (toldAt === 0) toldAt = performance.now();
      child.kill('SIGTERM');
    },
    untilReady: () => waitFor('the worker', () => output.includes('worker runs'), LONG_MS),
  };
}

function environment(settings: Record<string, string>): NodeJS.ProcessEnv {
  return {
    ...{ PATH: process.env.PATH, LOG_LEVEL: 'info', REDIS_URL: server.url, DRY_RUN: 'true' },
    ...{ ...shortTimes, GEMINI_API_KEY: 'key', GEMINI_BASE_URL: modelUrl, ...settings },
  };
}

function killGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL');
  } catch {
    // All of it has ended.
  }
}

const add = (name: string) =>
  appendWebhook(
    { redis, keys },
    { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
  );
const readPending = async () =>
  (await redis.xpending(keys.stream('events:calendly'), 'enrich', '-', '+', 100)) as [string, string, number, number][];
const readConsumers = async () =>
  ((await redis.xinfo('CONSUMERS', keys.stream('events:calendly'), 'enrich')) as unknown[][]).map(([, name]) => name);

test('what runs too long is handed back with its delivery count, and nobody is left behind', async () => {
  const worker = run({ VISIBILITY_TIMEOUT_MS: '60000' });
  await worker.untilReady();
  await add('a');
  await add('b');
  await waitFor('the model to be asked twice', () => asked === 2);
  worker.terminate();
  assert.is((await worker.exit).code, 0, worker.output());
  const pending = await readPending();
  assert.equal(
    pending.map(([, owner, , count]) => [owner, count]),
    [
      ['handed-back', 1],
      ['handed-back', 1],
    ],
  );
  assert.equal(await readConsumers(), ['handed-back']);
  assert.is(await redis.hlen(keys.strikes('enrich')), 0);
  assert.not.match(worker.output(), /"level":(50|60)/);

  const next = run({ VISIBILITY_TIMEOUT_MS: '60000', GEMINI_API_KEY: '' });
  await waitFor(
    'both to be done by another',
    async () => (await readStream({ redis, keys }, 'events:enriched')).length === 2,
    LONG_MS,
  );
  assert.equal((await readConsumers()).includes('handed-back'), false);
  next.terminate();
  assert.is((await next.exit).code, 0);
  assert.equal(await readConsumers(), []);
});

test('what was handed out to it unheard is handed back too', async () => {
  const worker = run({ VISIBILITY_TIMEOUT_MS: '60000' }, ['--concurrency', '1']);
  await worker.untilReady();
  await add('a');
  await waitFor('the model to be asked', () => asked === 1);
  const [name] = await readConsumers();
  await add('b');
  // As when a read was executed, and its reply lost.
  await redis.xreadgroup('GROUP', 'enrich', String(name), 'COUNT', 1, 'STREAMS', keys.stream('events:calendly'), '>');
  worker.terminate();
  assert.is((await worker.exit).code, 0, worker.output());
  assert.equal(
    (await readPending()).map(([, owner, idleMs, count]) => [owner, idleMs > 60_000, count]),
    [
      ['handed-back', true, 1],
      ['handed-back', true, 1],
    ],
  );
  assert.equal(await readConsumers(), ['handed-back']);
});

test('told to end while it starts it hands back what it took meanwhile, and nobody is left behind', async () => {
  await waitFor('one whose Redis was back in time', async () => {
    await redis.flushall();
    await add('a');
    const worker = run({ VISIBILITY_TIMEOUT_MS: '60000', DRY_RUN: 'false', SHUTDOWN_GRACE_MS: '0' });
    await waitFor('its first heartbeat', async () => (await redis.hlen(keys.alive('enrich'))) > 0, LONG_MS);
    server.kill('SIGSTOP');
    worker.terminate();
    await waitFor('the signal to be heard', () => worker.output().includes('worker stops'));
    server.kill('SIGCONT');
    const { code, ms } = await worker.exit;
    if (code === 1 && ms >= START_END_MS) return false;
    assert.is(code, 0, worker.output());
    assert.equal(
      (await readConsumers()).filter((name) => name !== 'handed-back'),
      [],
    );
    return true;
  });
});

test('told to end while it waits for Redis it ends at once, as its own doing', async () => {
  const worker = run({ REDIS_URL: 'redis://127.0.0.1:1' });
  await waitFor('it to look for Redis', () => worker.output().includes('redis is not reachable'), LONG_MS);
  worker.terminate();
  const { code } = await worker.exit;
  assert.is(code, 0);
});

test('a second signal ends it at once, and what it held is handed back all the same', async () => {
  const worker = run({ VISIBILITY_TIMEOUT_MS: '60000', SHUTDOWN_GRACE_MS: '600000' });
  await worker.untilReady();
  await add('a');
  await waitFor('the model to be asked', () => asked === 1);
  worker.terminate();
  await waitFor('the first signal to be heard', () => worker.output().includes('worker stops'));
  worker.terminate();
  assert.is((await worker.exit).code, 1);
  const [pending] = await readPending();
  assert.equal([pending![1], pending![3]], ['handed-back', 1]);
});

for (const [how, away] of [
  ['frozen', () => server.kill('SIGSTOP')],
  ['gone', () => server.kill('SIGKILL')],
] as const) {
  test(`it also ends while Redis is ${how}`, async () => {
    const worker = run({ SHUTDOWN_GRACE_MS: '500' });
    await worker.untilReady();
    await add('a');
    await waitFor('the model to be asked', () => asked === 1);
    away();
    worker.terminate();
    const { code } = await worker.exit;
    assert.is(code, 0, worker.output());
  });

  test(`a second signal ends it while Redis is ${how}`, async () => {
    const worker = run({ SHUTDOWN_GRACE_MS: '600000' });
    await worker.untilReady();
    await add('a');
    await waitFor('the model to be asked', () => asked === 1);
    away();
    worker.terminate();
    await waitFor('the first signal to be heard', () => worker.output().includes('worker stops'));
    worker.terminate();
    assert.is((await worker.exit).code, 1);
  });
}

test('with nothing to do it ends in a moment, however long the grace', async () => {
  const worker = run({ SHUTDOWN_GRACE_MS: '600000' });
  await worker.untilReady();
  worker.terminate();
  assert.is((await worker.exit).code, 0);
  assert.equal(await readConsumers(), []);
});

test('started by npm it is told to end through npm, and so is it the second time', async () => {
  const worker = run({ SHUTDOWN_GRACE_MS: '600000' }, [], NPM);
  await worker.untilReady();
  await add('a');
  await waitFor('the model to be asked', () => asked === 1);
  worker.terminate();
  await waitFor('the first signal to be heard', () => worker.output().includes('worker stops'), LONG_MS);
  worker.terminate();
  assert.is((await worker.exit).code, 1);
  assert.match(worker.output(), 'worker stops at once');
});

test('started by npm it may hear the signal late', async () => {
  const worker = run({ SHUTDOWN_GRACE_MS: '200' }, [], NPM);
  await worker.untilReady();
  await add('a');
  await waitFor('the model to be asked', () => asked === 1);
  const pid = Number(/"pid":(\d+)/.exec(worker.output())![1]);
  process.kill(pid, 'SIGSTOP');
  worker.terminate();
  const until = performance.now() + 300;
  await waitFor('it to be late', () => performance.now() > until);
  process.kill(pid, 'SIGCONT');
  assert.is((await worker.exit).code, 0, worker.output());
  assert.equal(await readConsumers(), ['handed-back']);
});

test('a Ctrl-C, which npm hands on as well, leaves its work the time that a SIGTERM does', async () => {
  const command = ['npm', '--prefix', ROOT, ...NPM.slice(1), '--group', 'enrich'];
  const worker = startAtTerminal(command, environment({ SHUTDOWN_GRACE_MS: '500' }));
  children.push(worker.child);
  await waitFor('the worker', () => worker.output().includes('worker runs'), LONG_MS);
  await add('a');
  await waitFor('the model to be asked', () => asked === 1);
  worker.type('\x03');
  await worker.exited;
  assert.match(worker.output(), 'worker stops');
  assert.not.match(worker.output(), 'worker stops at once');
});

test.run();
