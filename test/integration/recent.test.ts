/** What Redis lost of late, and is given again by the ingest that had taken it in. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keepRecent, type Recent, type RecentOptions } from '../../src/ingest/recent.js';
import { reasonOf } from '../../src/ingest/spool/refusal.js';
import { type Append, makeAppend, type WebhookEvent } from '../../src/lib/append.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { startLink, type TestLink } from '../helpers/redis-link.js';
import { endRedis, isAlive, startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { withCommand } from '../helpers/with-command.js';

const test = suite('what Redis lost of late');
const keys = makeKeys('gvi:');
const LAG_MS = 600;
/** Of the role whose connection waits long for an answer: none of this is about an append that takes its time. */
const ROLE = 'drain';
const APPEND_MS = 8_000;

let server: TestRedis;
let redis: RedisClient;
/** Which takes over where a test says so. */
let replica: TestRedis | undefined;
let links: TestLink[];
let laterRedis: RedisClient | undefined;
let recent: Recent;
let append: Append;
let appendRepeat: Append;
let lines: string[];
/** How often it was told which server that is, by either of its connections. */
let answers: [requests: number, later: number];

test.before.each(async () => {
  server = await startRedis();
  redis = connectRedis({ url: server.url, role: ROLE });
  replica = undefined;
  links = [];
  laterRedis = undefined;
  lines = [];
  answers = [0, 0];
});
test.after.each(async () => {
  recent.stop();
  redis.disconnect();
  laterRedis?.disconnect();
  await Promise.all([server, replica, ...links].map((one) => one?.stop()));
});

async function start(options: Partial<RecentOptions> = {}): Promise<void> {
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
  const appendOver = (client: RedisClient) =>
    makeAppend({ redis: client, keyPrefix: keys.prefix, idempotencyTtlS: 3_600, timeoutMs: APPEND_MS });
  const [plain, later] = [appendOver(redis), appendOver(laterRedis ?? redis)];
  const connections = { redis: counting(redis, 0), laterRedis: counting(laterRedis ?? redis, 1) };
  recent = keepRecent({ ...connections, keys, append: later, log, everyMs: 20, ...options });
  append = recent.keeping(plain);
  appendRepeat = recent.keepingRepeats(later);
  await waitFor('it to have seen which server that is', () => !answers.includes(0));
}

function counting(client: RedisClient, index: 0 | 1): RedisClient {
  return withCommand(client, 'gvi_identify', async (identify, args) => {
    const answer = await identify(...args);
    answers[index] += 1;
    return answer;
  });
}

/** Until it has asked once more from now on, by both connections: one question each may be under way. */
async function untilAsked(): Promise<void> {
  const [requests, later] = answers;
  await waitFor('it to ask again', () => answers[0] > requests + 1 && answers[1] > later + 1);
}

/** Over links that a test may turn to another server: the first is the requests'. */
async function startOverLinks(options: Partial<RecentOptions> = {}): Promise<void> {
  redis.disconnect();
  links = await Promise.all([startLink(server.port), startLink(server.port)]);
  [redis, laterRedis] = links.map(({ port }) => connectRedis({ url: `redis://127.0.0.1:${port}`, role: ROLE })) as [
    RedisClient,
    RedisClient,
  ];
  await start(options);
}

const booked = (name: string, data = '{}'): WebhookEvent => ({
  ...{ kind: 'event', source: 'calendly', type: 'calendly.invitee.created', key: name, contentHash: name },
  ...{ otherContent: 'kept', requestId: undefined, data: Buffer.from(data) },
});
const stream = keys.stream('events:calendly');
const read = async (from = server) =>
  (await from.connect().xrange(stream, '-', '+')).map(([, flat]) => flat[flat.indexOf('key') + 1]);
const said = (words: string) => lines.filter((line) => line.includes(words)).length;
const saidItLooks = () => said('redis is another than before') > 0;

/** A replica that has what is there now, and learns of nothing more. */
async function leaveReplicaBehind(): Promise<TestRedis> {
  await server.connect().config('SET', 'repl-diskless-sync-delay', '0');
  replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(server.port)] });
  const client = replica.connect();
  await waitFor('the replica', async () => (await client.info('replication')).includes('master_link_status:up'));
  await client.replicaof('NO', 'ONE');
  return replica;
}

const pass = async (ms: number) => {
  const until = performance.now() + ms;
  await waitFor(`${ms} ms to pass`, () => performance.now() >= until);
};

/** Its file goes back to what it was before: what `meanwhile` wrote had not reached the disk. */
async function losePower(meanwhile: () => Promise<void>, downMs = 0): Promise<void> {
  const [file, copy] = [join(server.dir, 'appendonlydir'), join(server.dir, 'copy')];
  cpSync(file, copy, { recursive: true });
  await meanwhile();
  await endRedis(server);
  rmSync(file, { recursive: true });
  cpSync(copy, file, { recursive: true });
  await pass(downMs);
  await server.restart();
}

/** The first stays, these are lost; and one of them Redis will refuse, for a text where a hash should be. */
async function loseWithRefused(refused: string, names: readonly string[]): Promise<void> {
  await start();
  await append(booked('first'));
  await redis.set(keys.progress(refused), 'of another type');
  await losePower(async () => {
    await redis.del(keys.progress(refused));
    for (const name of names) await append(booked(name));
  });
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

test('what may be done with and trimmed by then is not appended again', async () => {
  await start({ knownMs: 2 * LAG_MS });
  for (const name of ['first', 'second']) await append(booked(name));
  await pass(3 * LAG_MS);
  await untilAsked();
  await redis.xdel(stream, (await redis.xrevrange(stream, '+', '-', 'COUNT', 1))[0]![0]);
  await redis.del(keys.progress('second'), keys.idemSeen('second'));
  await append(booked('third'));
  await endRedis(server);
  await server.restart();
  await waitFor('it to look', saidItLooks);
  await pass(300);
  assert.equal(await read(), ['first', 'third']);
});

test('a replica that lags far behind is given all of it when it takes over', async () => {
  await startOverLinks();
  await append(booked('first'));
  await leaveReplicaBehind();
  await append(booked('second'));
  await pass(LAG_MS);
  await append(booked('third'));
  for (const link of links) link.turn(replica!.port);
  await waitFor('both', () => said('redis had lost a webhook') === 2);
  assert.equal([await read(replica), said('redis was emptied')], [['first', 'second', 'third'], 0]);
});

test('a Redis that keeps snapshots alone, the last of them older than what is kept, is given all that is', async () => {
  await server.stop();
  server = await startRedis({ args: ['--appendonly', 'no'] });
  redis.disconnect();
  redis = connectRedis({ url: server.url, role: ROLE });
  await start({ keptMs: LAG_MS / 2 });
  await append(booked('first'));
  await server.connect().save();
  await append(booked('of which it knows no more'));
  await pass(LAG_MS);
  await untilAsked();
  for (const name of ['second', 'third']) await append(booked(name));
  await endRedis(server);
  await server.restart();
  await waitFor('both', () => said('redis had lost a webhook') === 2);
  assert.equal([await read(), said('redis was emptied')], [['first', 'second', 'third'], 0]);
});

test('what one connection gave again to the former server, the new one is given once that leads there', async () => {
  await startOverLinks({ keptMs: LAG_MS / 2 });
  await append(booked('first'));
  await leaveReplicaBehind();
  await append(booked('second'));
  const [own, later] = links;
  own!.turn(replica!.port);
  await waitFor('it to look', saidItLooks);
  await pass(LAG_MS);
  later!.turn(replica!.port);
  await waitFor('it', () => said('redis had lost a webhook') === 1);
  assert.equal(await read(replica), ['first', 'second']);
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

test('what may be a repeat is refused for what Redis is away for', async () => {
  const refused = () => appendRepeat(booked('second')).then(() => 'taken', reasonOf);
  const refusedFor = (reason: string) => waitFor(reason, async () => (await refused()) === reason);
  await start();
  await waitFor('it to take repeats', () => appendRepeat(booked('first')).catch(() => false));
  const admin = server.connect();
  await admin.config('SET', 'requirepass', 'changed');
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal');
  await refusedFor('NOAUTH');
  await admin.config('SET', 'requirepass', '');
  await refusedFor('taken');
  await endRedis(server);
  await refusedFor('ECONNREFUSED');
});

test('what Redis refuses for its own sake holds up no other', async () => {
  await loseWithRefused('second', ['second', 'third']);
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

test('one that loses them once more while it is given them gets them in order all the same', async () => {
  await loseWithRefused('third', ['second', 'third', 'fourth']);
  await waitFor('the second', () => said('redis had lost a webhook') === 1);
  const client = server.connect();
  const [, last] = await client.xrange(stream, '-', '+');
  const lost = [keys.progress('second'), keys.idemSeen('second'), keys.progress('third')];
  // In one go: or the third might be taken in between, before the second.
  const ending = server.connect({ retryStrategy: () => null });
  const { pid } = server;
  await ending
    .pipeline()
    .xdel(stream, last![0])
    .del(lost)
    .shutdown('NOSAVE')
    .exec()
    .catch(() => {});
  await waitFor('Redis to be gone', () => !isAlive(pid));
  await server.restart();
  await waitFor('all', () => said('redis had lost a webhook') === 4);
  assert.equal(await read(), ['first', 'second', 'third', 'fourth']);
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

test('so does one where groups were made again and something was taken in before anybody looked', async () => {
  await startOverLinks();
  await append(booked('first'));
  replica = await startRedis();
  await replica.connect().xgroup('CREATE', stream, 'enrich', '0', 'MKSTREAM');
  await replica.connect().xadd(stream, '*', 'key', 'of another ingest');
  for (const link of links) link.turn(replica.port);
  await waitFor('that to be told', () => said('redis was emptied') === 1);
  assert.equal(await read(replica), ['of another ingest']);
});

test('one that is emptied while it is given what it lost is given no more of that', async () => {
  await loseWithRefused('second', ['second', 'third']);
  await waitFor('the second to be refused', saidItLooks);
  // Still refused then: or it might be taken before it is seen that the others are gone.
  await server.connect().multi().flushall().set(keys.progress('second'), 'of another type').exec();
  await waitFor('that to be seen', () => said('redis was emptied') === 1);
  await waitFor('it to take repeats', () => appendRepeat(booked('fourth'), 'd4').catch(() => false));
  assert.equal(await read(), ['fourth']);
});

test.run();
