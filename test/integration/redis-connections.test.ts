/** Links that go dead, servers that go and come: what each kind of connection does. */
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findFreePort } from '../../scripts/lib/redis-server.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { judgeRedisError } from '../../src/lib/redis-errors.js';
import { startLink, type TestLink } from '../helpers/redis-link.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('connections to Redis');

let server: TestRedis;
let link: TestLink;
const clients: RedisClient[] = [];

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  link = await startLink(server.port);
});
test.after.each(async () => {
  for (const client of clients.splice(0)) client.disconnect();
  await link.stop();
});
test.after(() => server.stop());

function connect(...[options]: [Omit<Parameters<typeof connectRedis>[0], 'url'> & { url?: string }]): RedisClient {
  const client = connectRedis({ url: `redis://127.0.0.1:${link.port}`, ...options });
  clients.push(client);
  return client;
}

const codeOf = (error: unknown) => judgeRedisError(error)?.code;

test('a worker waits out a link that swallows everything, and what it sent is done once', async () => {
  const worker = connect({ role: 'worker' });
  await worker.set('n', 0);
  link.swallow();
  const sent = worker.incr('n');
  await waitFor('the worker to leave the dead link', () => worker.status !== 'ready');
  link.heal();
  assert.is(await sent, 1);
  assert.is(await worker.get('n'), '1');
});

test('a greeting that is never answered is given up and tried again', async () => {
  link.swallow();
  const worker = connect({ role: 'worker' });
  const sent = worker.ping();
  let tries = 0;
  worker.on('connect', () => {
    tries += 1;
  });
  await waitFor('a second greeting', () => tries >= 2);
  link.heal();
  assert.is(await sent, 'PONG');
});

test('a blocking read on a dead link is sent again on a new one, and a quiet one is left alone', async () => {
  const direct = server.connect();
  await direct.xgroup('CREATE', 'quiet', 'g', '0', 'MKSTREAM');
  const blocking = connect({ role: 'blocking', blockMsMax: 5_000 });
  let connections = 0;
  blocking.on('ready', () => {
    connections += 1;
  });
  const read = (blockMs: number) =>
    blocking.xreadgroup('GROUP', 'g', 'c', 'COUNT', 1, 'BLOCK', blockMs, 'STREAMS', 'quiet', '>');
  assert.is(await read(3_500), null);
  assert.is(connections, 1, 'silence within the time of the read is no death');
  const quick = connect({ role: 'blocking' });
  await quick.ping();
  link.swallow();
  const waiting = quick.xreadgroup('GROUP', 'g', 'c', 'COUNT', 1, 'BLOCK', 400, 'STREAMS', 'quiet', '>');
  await waitFor('the dead link to be left', () => quick.status !== 'ready');
  link.heal();
  await direct.xadd('quiet', '*', 'a', '1');
  const found = (await waiting) ?? (await quick.xreadgroup('GROUP', 'g', 'c', 'STREAMS', 'quiet', '>'));
  assert.ok(found, 'the entry is read');
});

test('ingest keeps nothing for later: what is sent while Redis is away is refused, and stays undone', async () => {
  const ingest = connect({ role: 'ingest' });
  await waitFor('ingest to be connected', () => ingest.status === 'ready');
  link.swallow();
  assert.is(await ingest.set('late', '1').then(String, codeOf), 'TIMEOUT');
  await waitFor('the dead link to be left', () => ingest.status !== 'ready');
  const refused = await Promise.all(Array.from({ length: 500 }, (_, i) => ingest.set(`late${i}`, '1').catch(codeOf)));
  assert.equal([...new Set(refused)].sort(), ['NOT_CONNECTED']);
  link.heal();
  await waitFor('ingest to be back', () => ingest.set('now', '1').catch(() => false as const));
  assert.equal(await server.connect().keys('late?*'), []);
});

test('queries leave a dead link too, and wait for nothing', async () => {
  const queries = connect({ role: 'queries' });
  await waitFor('queries to be connected', () => queries.status === 'ready');
  link.swallow();
  assert.is(await queries.ping().catch(codeOf), 'TIMEOUT');
  await waitFor('the dead link to be left', () => queries.status !== 'ready');
  assert.is(await queries.ping().catch(codeOf), 'NOT_CONNECTED');
  link.heal();
  await waitFor('queries to be back', () => queries.ping().catch(() => false as const));
});

for (const role of ['worker', 'tool'] as const) {
  test(`a ${role}'s connection that the library gives up for good is made again, one that we end is not`, async () => {
    const client = connect({ role });
    await client.ping();
    const givenUp = new Promise((resolve) => client.once('end', resolve));
    Redis.prototype.disconnect.call(client);
    await givenUp;
    await waitFor('it to be made again', () => client.ping().catch(() => false as const));
    client.disconnect();
    await waitFor('it to end', () => client.status === 'end');
    await waitFor('no wire to be left', () => link.connections() === 0);
    assert.is(await client.ping().catch(codeOf), 'CONNECTION_CLOSED');
  });
}

test('a tool whose sentinels all stay away has given up', async () => {
  const sentinels = [await findFreePort(), await findFreePort()].map((port) => `127.0.0.1:${port}`);
  const tool = connect({ role: 'tool', url: `redis-sentinel://${sentinels.join(',')}/mymaster` });
  assert.match(await tool.ping().catch((error: Error) => error.message), 'retry is disabled');
  assert.is(await tool.ping().catch(codeOf), 'CONNECTION_CLOSED');
});

test('going and coming back is one line each, however many tries there are in between', async () => {
  const own = await startRedis();
  const lines: { msg: string; code?: string }[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const worker = connect({ url: own.url, role: 'worker', log });
  await worker.ping();
  let tries = 0;
  worker.on('reconnecting', () => {
    tries += 1;
  });
  own.kill('SIGKILL');
  await waitFor('some tries', () => tries > 3);
  await own.restart();
  await waitFor('the line of its return', () => lines.length > 1);
  assert.equal(
    lines.map(({ msg }) => msg),
    ['redis is not reachable', 'redis is reachable again'],
  );
  assert.match(String(lines[0]!.code), /^E/);
  await own.stop();
});

test('a volley that a demoted master refuses leaves its connection once, and goes through after the promotion', async () => {
  const worker = connect({ role: 'worker', url: server.url });
  await worker.ping();
  const warnings: Error[] = [];
  const note = (warning: Error) => warnings.push(warning);
  process.on('warning', note);
  const raw = server.connect();
  await raw.call('REPLICAOF', '127.0.0.1', '1');
  const refused = new Promise((resolve) => worker.once('reconnecting', resolve));
  // All of it is there when Redis reads it, so that all of it is refused in one moment.
  server.kill('SIGSTOP');
  const volley = Promise.all(Array.from({ length: 40 }, () => worker.incr('volley')));
  await new Promise((resolve) => setImmediate(resolve));
  server.kill('SIGCONT');
  await refused;
  await raw.call('REPLICAOF', 'NO', 'ONE');
  await volley;
  assert.is(await worker.get('volley'), '40');
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', note);
  assert.equal(warnings.map(String), []);
});

test('a wrong password is told as what it is', async () => {
  const lines: { level: number; msg: string; code?: string }[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  await server.connect().acl('SETUSER', 'someone', 'on', '>right', '~*', '+@all');
  connect({ url: `redis://someone:wrong@127.0.0.1:${server.port}`, role: 'worker', log });
  const line = await waitFor('the line', () => lines[0]);
  assert.equal([line.level, line.msg, line.code], [50, 'redis refuses us; see REDIS_URL', 'WRONGPASS']);
});

test('where its database cannot be selected a connection does nothing, least of all in database 0', async () => {
  const admin = server.connect();
  await admin.acl('SETUSER', 'zero', 'on', '>p', '~*', '+@all', '-select');
  for (const [url, code] of [
    [`${server.url}/99`, 'NO_SUCH_DB'],
    [`${server.url.replace('//', '//zero:p@')}/1`, 'NOPERM'],
  ] as const) {
    for (const role of ['worker', 'tool'] as const) {
      const client = connect({ url, role });
      assert.is(await client.set('astray', '1').then(String, codeOf), code, `${role} ${code}`);
    }
    const lines: { msg: string; code?: string }[] = [];
    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const ingest = connect({ url, role: 'ingest', log });
    let tries = 0;
    ingest.on('reconnecting', () => {
      tries += 1;
    });
    await waitFor('a second try', () => tries >= 2);
    assert.is(await ingest.set('astray', '1').then(String, codeOf), 'NOT_CONNECTED');
    assert.equal(
      lines.map((line) => [line.msg, line.code]),
      [['redis refuses us; see REDIS_URL', code]],
    );
  }
  assert.equal(await admin.keys('*astray*'), []);
});

test('a login that is refused is told as such, although the database is refused with it', async () => {
  await server.connect().acl('SETUSER', 'known', 'on', '>right', '~*', '+@all');
  await server.connect().config('SET', 'requirepass', 'secret');
  const worker = connect({ url: `${server.url.replace('//', '//known:wrong@')}/1`, role: 'worker' });
  assert.is(await worker.ping().then(String, codeOf), 'WRONGPASS');
  await server.connect({ password: 'secret' }).config('SET', 'requirepass', '');
});

test('a database that is refused after a reconnect keeps what is sent until it is given again', async () => {
  const admin = server.connect();
  const second = server.connect({ db: 1 });
  await admin.acl('SETUSER', 'one', 'on', '>p', '~*', '+@all');
  const worker = connect({ url: `redis://one:p@127.0.0.1:${link.port}/1`, role: 'worker' });
  await worker.set('before', '1');
  await admin.acl('SETUSER', 'one', '-select');
  const refused = new Promise((resolve) => worker.on('error', (error) => codeOf(error) === 'NOPERM' && resolve(error)));
  await admin.client('KILL', 'USER', 'one');
  await refused;
  assert.is(await worker.set('astray', '1').then(String, codeOf), 'NOPERM');
  await admin.acl('SETUSER', 'one', '+select');
  await waitFor('it to be back', () => worker.set('after', '1').catch(() => false as const));
  assert.equal((await second.keys('*')).sort(), ['after', 'before']);
  assert.equal(await admin.keys('after'), []);
  assert.equal(await admin.keys('astray'), []);
});

test.run();
