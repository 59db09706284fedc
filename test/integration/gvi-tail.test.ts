/** `gvi tail` as a process of its own, on a real Redis. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { type GviProcess, runGvi, startGvi, startGviByNpm, withoutWait } from '../helpers/gvi.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking } from '../helpers/worker.js';

const PREFIX = '{tail}:';
const keys = makeKeys(PREFIX);
const type = 'calendly.invitee.created';
/** By npm it runs from its sources, which are loaded file by file. */
const PATIENCE_MS = 120_000;

const test = suite('gvi tail');

let server: TestRedis;
let redis: RedisClient;
const running = new Set<GviProcess>();

test.before(async () => {
  server = await startRedis();
  redis = connectRedis({ url: server.url, role: 'tool' });
});
test.after.each(async () => {
  for (const { child } of running) child.kill('SIGKILL');
  running.clear();
  await redis.flushall();
});
test.after(async () => {
  redis.disconnect();
  await server.stop();
});

const settings = () => ({ REDIS_URL: server.url, KEY_PREFIX: PREFIX });

/** Resolves once it follows: it says nothing by itself, so its blocked read is looked for. */
async function follow(...args: string[]): Promise<GviProcess> {
  return untilItReads(startGvi(['tail', ...args], settings()));
}

async function untilItReads(gvi: GviProcess): Promise<GviProcess> {
  running.add(gvi);
  await waitFor('tail to read', async () => /blocked_clients:1\b/.test(await redis.info('clients')), PATIENCE_MS);
  return gvi;
}

const append = (key: string) => appendWebhook({ redis, keys }, { type, key, body: booking('ada') });

async function appendFailure(eventId: string): Promise<void> {
  const error = { code: 'zoho_invalid_data', message: 'Zoho refused the record' };
  const data = JSON.stringify({ eventId, stream: 'events:enriched', group: 'crm-sync', key: 'k', attempts: 1, error });
  const fields = { type: 'event.failed', key: 'k', at: new Date().toISOString(), v: '1', data };
  await redis.xadd(keys.stream('events:failed'), '*', ...Object.entries(fields).flat());
}

async function stop({ child, exited }: GviProcess, signal: NodeJS.Signals): Promise<number | null> {
  child.kill(signal);
  return exited;
}

test('it shows what comes to any stream from now on, failures with their code, and ends on SIGINT with 0', async () => {
  await append('calendly:invitee.created:before');
  const gvi = await follow();
  const eventId = await append('calendly:invitee.created:\u001b[2Jada');
  await appendFailure(eventId);
  const lines = await waitFor('two lines', () => {
    const found = gvi.stdout().trim().split('\n');
    return found.length === 2 && found;
  });
  assert.match(lines[0]!, `events:calendly    ${type}  ${eventId}  calendly:invitee.created:?[2Jada`);
  assert.match(lines[0]!, /^\d{4}-\d\d-\d\dT/);
  assert.match(lines[1]!, /event\.failed {2}failed-\d+-0 {2}k {2}zoho_invalid_data$/);
  assert.not.match(gvi.stdout(), 'Karen');
  assert.not.match(gvi.stdout(), '@');
  assert.is(await stop(gvi, 'SIGINT'), 0);
  assert.is(withoutWait(gvi.stderr()), '');
});

test('of one stream, as JSON, from an id on, and on through a restart of Redis', async () => {
  const first = await append('calendly:invitee.created:1');
  const second = await append('calendly:invitee.created:2');
  await appendFailure(first);
  const gvi = await follow('calendly', '--json', '--since', first.slice('calendly-'.length));
  await server.restart();
  const third = await append('calendly:invitee.created:3');
  const lines = await waitFor('both lines', () => {
    const found = gvi.stdout().trim().split('\n');
    return found.length === 2 && found;
  });
  const events = lines.map((line) => JSON.parse(line));
  assert.equal(
    events.map(({ eventId }) => eventId),
    [second, third],
  );
  assert.equal(Object.keys(events[0]), ['at', 'stream', 'type', 'eventId', 'key']);
  assert.is(events[0].stream, 'events:calendly');
  assert.is(await stop(gvi, 'SIGTERM'), 0);
});

test('started by npm it ends with it', async () => {
  const gvi = await untilItReads(startGviByNpm(['tail'], settings()));
  assert.is(await stop(gvi, 'SIGTERM'), 0);
});

test('an unknown stream is wrong usage, a Redis that is away is said', async () => {
  const unknown = await runGvi(['tail', 'events:unknown'], settings());
  assert.is(unknown.code, 2);
  assert.match(unknown.stderr, 'events:readai');
  const away = await runGvi(['tail'], { REDIS_URL: 'redis://127.0.0.1:1' });
  assert.is(away.code, 1);
  assert.is(withoutWait(away.stderr), 'Redis is not reachable (ECONNREFUSED).\n');
});

test.run();
