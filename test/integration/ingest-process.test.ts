/** The ingest process as it is started and stopped. */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { findBundled } from '../helpers/bundle.js';
import { type Answer, postCalendly, postReadai, send, untilAnswered } from '../helpers/ingest-bench.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, CALENDLY_KEY, calendlySignature, READAI_KEY, report } from '../helpers/webhooks.js';

const test = suite('the ingest process');

const ROOT = join(import.meta.dirname, '..', '..');
const KEYS = { CALENDLY_SIGNING_KEY: CALENDLY_KEY, READAI_SIGNING_KEY: READAI_KEY };

let server: TestRedis;
const children = new Set<ChildProcess>();

test.before(async () => {
  server = await startRedis();
});
test.after.each(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});
test.after(() => server.stop());

type Process = {
  child: ChildProcess;
  output: () => string;
  /** Its exit code; fails when it goes on. */
  exitCode: () => Promise<number | null>;
};

/** With these settings alone: nothing of the environment of the test may leak in. */
function run(settings: Record<string, string>): Process {
  const child = spawn(process.execPath, [findBundled('src/ingest/main.cjs')], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, PORT: '0', REDIS_URL: server.url, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const exitCode = async () => {
    await waitFor('ingest to exit', () => child.exitCode !== null || child.signalCode !== null, 20_000);
    await exited;
    return child.exitCode;
  };
  return { child, output: () => output, exitCode };
}

async function listening({ output }: Process): Promise<string> {
  const port = await waitFor('ingest to listen', () => /"port":(\d+)/.exec(output())?.[1], 30_000);
  const base = `http://127.0.0.1:${port}`;
  await waitFor('ingest to be ready', async () => (await send(`${base}/readyz`)).status === 200);
  return base;
}

/** As a sender does it: once more where Redis was late. What was late may have been taken in all the same, and is known then. */
async function takeIn(post: () => Promise<Answer>): Promise<Answer> {
  let wasLate = false;
  const answer = await untilAnswered(async () => {
    const given = await post();
    wasLate ||= given.status === 503;
    return given;
  });
  if (!wasLate || answer.status !== 200) assert.is(answer.status, 202);
  return answer;
}

test('it takes webhooks in, shows them to this machine, and leaves on SIGTERM', async () => {
  const ingest = run({ ...KEYS, KEY_PREFIX: '{gvi}:', ALLOW_DEBUG_ENDPOINTS: 'true' });
  const base = await listening(ingest);
  const { body } = await takeIn(() => postCalendly(base, JSON.stringify(booking())));
  await takeIn(() => postReadai(base, JSON.stringify(report())));
  assert.match((await send(`${base}/debug/events/${body.eventId}`)).text, '"status":"queued"');
  assert.match((await send(`${base}/debug/idem/${body.idempotencyKey}`)).text, '"seen":true');
  assert.match((await send(`${base}/debug/idem/unknown`)).text, '"seen":false');
  const info = (await send(`${base}/debug/info`)).text;
  assert.match(info, '"events:calendly"');
  for (const secret of Object.values(KEYS)) assert.not.match(info + ingest.output(), secret);
  assert.match((await send(`${base}/metrics`)).text, 'gvi_stream_length{stream="events:calendly"} 1');
  ingest.child.kill('SIGTERM');
  assert.is(await ingest.exitCode(), 0);
});

/** Told to end in the midst of a request, which `finish` sees to its end: it answers with what was received. */
async function endInRequest(invitee = 'SLOW'): Promise<{ ingest: Process; finish: () => Promise<string> }> {
  const ingest = run(KEYS);
  const base = await listening(ingest);
  const body = JSON.stringify(booking({ uri: `https://api.calendly.com/scheduled_events/E/invitees/${invitee}` }));
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk;
  });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const head = [
    'POST /webhooks/calendly HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
    `Calendly-Webhook-Signature: ${calendlySignature(body)}`,
    `Content-Length: ${body.length}`,
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body.slice(0, 10)}`);
  // A second request over another connection proves that the first has arrived.
  assert.is((await send(`${base}/healthz`)).status, 200);
  ingest.child.kill('SIGTERM');
  await waitFor('the door to be shut', () =>
    send(`${base}/healthz`).then(
      () => false,
      () => true,
    ),
  );
  const finish = async () => {
    socket.write(body.slice(10));
    await closed;
    return received;
  };
  return { ingest, finish };
}

test('on SIGTERM it takes no new requests and finishes what is in flight', async () => {
  let tries = 0;
  // Redis may be late, which is answered as well, but with 503.
  const answer = await waitFor('Redis to be in time', async () => {
    tries += 1;
    const { ingest, finish } = await endInRequest(`SLOW-${tries}`);
    const received = await finish();
    assert.is(await ingest.exitCode(), 0);
    return !received.startsWith('HTTP/1.1 503 ') && received;
  });
  assert.match(answer, /^HTTP\/1\.1 202 /);
});

test('a second one ends it at once', async () => {
  const { ingest } = await endInRequest();
  ingest.child.kill('SIGTERM');
  assert.is(await ingest.exitCode(), 1);
});

test('in production it does not start with a source that it could not verify, unless that is asked for', async () => {
  const production = { NODE_ENV: 'production', CALENDLY_SIGNING_KEY: CALENDLY_KEY };
  const refused = run(production);
  assert.is(await refused.exitCode(), 1);
  assert.match(refused.output(), 'READAI_SIGNING_KEY or READAI_SHARED_SECRET: should be set in production');
  assert.not.match(refused.output(), CALENDLY_KEY);
  assert.not.match(refused.output(), /\n\s+at /);

  const asked = run({ ...production, ALLOW_UNVERIFIED_WEBHOOKS: 'true' });
  const base = await listening(asked);
  assert.match(asked.output(), 'its webhooks are not verified: set READAI_SIGNING_KEY or READAI_SHARED_SECRET');
  await takeIn(() => postReadai(base, JSON.stringify(report())));
});

test('a bad setting, or a port that is taken, stops it with a message and no stack', async () => {
  const bad = run({ BODY_LIMIT_MB: 'a-lot' });
  assert.is(await bad.exitCode(), 1);
  assert.match(bad.output(), 'BODY_LIMIT_MB');
  assert.not.match(bad.output(), 'a-lot');
  const taken = run({ PORT: String(server.port) });
  assert.is(await taken.exitCode(), 1);
  assert.match(taken.output(), /^PORT: should be .* \(EADDRINUSE\)$/m);
  assert.not.match(taken.output(), String(server.port));
  assert.not.match(bad.output() + taken.output(), /\n\s+at /);
});

test('it starts without Redis, says that it is not ready, and is once Redis is there', async () => {
  const late = await startRedis();
  await late.stop();
  const ingest = run({ ...KEYS, REDIS_URL: late.url });
  const found = await waitFor('ingest to listen', () => /"port":(\d+)/.exec(ingest.output())?.[1], 30_000);
  const base = `http://127.0.0.1:${found}`;
  assert.is((await send(`${base}/readyz`)).status, 503);
  assert.is((await postCalendly(base, JSON.stringify(booking()))).status, 503);
  const again = await startRedis({ port: late.port });
  await waitFor('ingest to be ready', async () => (await send(`${base}/readyz`)).status === 200);
  await takeIn(() => postCalendly(base, JSON.stringify(booking())));
  await again.stop();
});

test('anyone may ask for figures: what stands failed is not counted again each time', async () => {
  const keyPrefix = 'figures:';
  const keys = makeKeys(keyPrefix);
  const redis = server.connect();
  const filling = redis.pipeline();
  for (let i = 1; i <= 2_000; i += 1) {
    const error = { code: 'c', message: 'm' };
    const data = {
      eventId: `calendly-${i}-0`,
      stream: 'events:calendly',
      group: 'enrich',
      key: `k${i}`,
      attempts: 1,
      error,
    };
    const fields = {
      type: 'event.failed',
      key: `k${i}`,
      v: '1',
      at: '2026-11-02T09:00:00Z',
      data: JSON.stringify(data),
    };
    filling.xadd(keys.stream('events:failed'), `${i}-0`, ...Object.entries(fields).flat());
    filling.hset(keys.progress(`k${i}`), 'state', 'failed');
  }
  await filling.exec();
  const base = await listening(run({ ...KEYS, KEY_PREFIX: keyPrefix }));
  const shows = (figure: string) => async () => (await send(`${base}/metrics`)).text.includes(figure);
  await waitFor('the failures', shows('gvi_group_failed{group="enrich"} 2000'));

  let entries = 0;
  // It is counted again after a hundred times as long as it took, which is some seconds: then it is in one of the next figures.
  await waitFor('newer figures for which it is not looked at what failed', async () => {
    await redis.config('RESETSTAT');
    await redis.xadd(keys.stream('events:calendly'), '*', 'type', 'calendly.invitee.created');
    entries += 1;
    await waitFor('newer figures', shows(`gvi_stream_length{stream="events:calendly"} ${entries}\n`));
    const looks = Number(/cmdstat_hmget:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
    return looks < 100;
  });
});

test.run();
