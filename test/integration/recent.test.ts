/** What Redis lost of late, and is given again by the ingest that had taken it in. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keepRecent, type Recent, type RecentOptions } from '../../src/ingest/recent.js';
import { type Append, makeAppend, type WebhookEvent } from '../../src/lib/append.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { endRedis, startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('what Redis lost of late');
const keys = makeKeys('gvi:');

let server: TestRedis;
let redis: RedisClient;
let recent: Recent;
let append: Append;
let appendRepeat: Append;
let lines: string[];

test.before.each(async () => {
  server = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
  redis = connectRedis({ url: server.url, role: 'ingest' });
  lines = [];
});
test.after.each(async () => {
  recent.stop();
  redis.disconnect();
  await server.stop();
});

async function start(options: Partial<RecentOptions> = {}): Promise<void> {
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
  const plain = makeAppend({ redis, keyPrefix: keys.prefix, idempotencyTtlS: 3_600 });
  recent = keepRecent({ redis, laterRedis: redis, keys, append: plain, log, everyMs: 20, ...options });
  append = recent.keeping(plain);
  appendRepeat = recent.keepingRepeats(plain);
  const isSeen = async () => (await server.connect().info('commandstats')).includes('cmdstat_exists');
  await waitFor('it to have seen which server that is', isSeen);
}

const booked = (name: string, data = '{}'): WebhookEvent => ({
  ...{ kind: 'event', source: 'calendly', type: 'calendly.invitee.created', key: name, contentHash: name },
  ...{ otherContent: 'kept', requestId: undefined, data: Buffer.from(data) },
});
const stream = keys.stream('events:calendly');
const read = async () =>
  (await server.connect().xrange(stream, '-', '+')).map(([, flat]) => flat[flat.indexOf('key') + 1]);
const said = (words: string) => lines.filter((line) => line.includes(words)).length;
const saidItLooks = () => said('redis is another than before') > 0;

/** Its file goes back to what it was before: what `meanwhile` wrote had not reached the disk. */
async function losePower(meanwhile: () => Promise<void>, downMs = 0): Promise<void> {
  const [file, copy] = [join(server.dir, 'appendonlydir'), join(server.dir, 'copy')];
  cpSync(file, copy, { recursive: true });
  await meanwhile();
  await endRedis(server);
  rmSync(file, { recursive: true });
  cpSync(copy, file, { recursive: true });
  const until = performance.now() + downMs;
  await waitFor('the end of the outage', () => performance.now() >= until);
  await server.restart();
}

test('it is appended again, in order; what is there makes no second entry', async () => {
  await start();
  await append(booked('first'));
  await losePower(async () => {
    for (const name of ['second', 'third']) await append(booked(name));
  });
  await waitFor('both', () => said('redis had lost a webhook') === 2);
  assert.equal(await read(), ['first', 'second', 'third']);
  assert.is((await append(booked('second'))).status, 'duplicate');
  const registry = new Registry();
  recent.addMetrics(registry);
  assert.match(await registry.metrics(), 'gvi_ingest_appended_again_total 2');
});

test('a restart that lost nothing adds nothing', async () => {
  await start();
  for (const name of ['first', 'second']) await append(booked(name));
  await server.restart();
  await waitFor('it to look', saidItLooks);
  await append(booked('third'));
  await waitFor('all to be asked for', async () => (await read()).length === 3);
  assert.equal([await read(), said('redis had lost')], [['first', 'second', 'third'], 0]);
});

test('what failed for good meanwhile, and is there, is not tried again', async () => {
  await start();
  await append(booked('first'));
  await server.connect().hset(keys.progress('first'), 'state', 'failed');
  await server.restart();
  await waitFor('it to look', saidItLooks);
  await append(booked('second'));
  assert.equal(await read(), ['first', 'second']);
});

test('an outage that is longer than it keeps what it took in costs nothing of that', async () => {
  await start({ keptMs: 300, everyMs: 400 });
  await append(booked('first'));
  await losePower(async () => void (await append(booked('second'))), 400);
  // Before it is known that this is another.
  await waitFor('it to take something', () => append(booked('third')).catch(() => false));
  await waitFor('it', () => said('redis had lost a webhook') === 1);
  assert.equal((await read()).sort(), ['first', 'second', 'third']);
});

test('what may be a repeat waits until what is older is there, and is kept although it is known', async () => {
  await start();
  await append(booked('first'));
  await losePower(async () => {
    await append(booked('second'));
    // Its first append was answered too late, and so is repeated.
    await redis.xadd(stream, '*', 'key', 'third', 'delivery', 'd3');
    await redis.hset(keys.progress('third'), 'id', 'calendly-1-0');
    await waitFor('it to be settled', () => appendRepeat(booked('third'), 'd3').catch(() => false));
  });
  await waitFor('it to take repeats', () => appendRepeat(booked('fourth'), 'd4').catch(() => false));
  assert.equal(await read(), ['first', 'second', 'third', 'fourth']);
});

test('what Redis refuses for its own sake holds up no other', async () => {
  await start();
  await append(booked('first'));
  await redis.set(keys.progress('second'), 'of another type');
  await losePower(async () => {
    await redis.del(keys.progress('second'));
    for (const name of ['second', 'third']) await append(booked(name));
  });
  await waitFor('the other', async () => said('redis had lost a webhook') === 1 && (await read()).includes('third'));
});

test('what was there before a FLUSHALL does not come back with the restart after it', async () => {
  await start();
  await append(booked('first'));
  await server.connect().flushall();
  await waitFor('that to be seen', () => said('redis was emptied') === 1);
  await append(booked('second'));
  await server.restart();
  await waitFor('it to look', saidItLooks);
  await append(booked('third'));
  assert.equal(await read(), ['second', 'third']);
});

test('it keeps so many bytes, and of what is older nothing', async () => {
  await start({ bytesMax: 2_500 });
  await append(booked('first'));
  await losePower(async () => {
    for (const name of ['second', 'third', 'fourth']) await append(booked(name, JSON.stringify('x'.repeat(1_000))));
  });
  await waitFor('what it kept', () => said('redis had lost a webhook') === 2);
  assert.equal(await read(), ['first', 'third', 'fourth']);
});

test('a Redis that comes back empty stays so: it may have been emptied on purpose', async () => {
  await start();
  await append(booked('first'));
  await endRedis(server);
  rmSync(join(server.dir, 'appendonlydir'), { recursive: true });
  await server.restart();
  await waitFor('that to be told', () => said('redis was emptied') === 1);
  assert.is((await append(booked('first'))).status, 'accepted');
});

test.run();
