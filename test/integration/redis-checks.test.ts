/** What ingest and workers find out about the Redis they are given, and what they do about it. */
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseConfig } from '../../src/lib/config.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { inspectRedis, type RedisSetting } from '../../src/lib/redis-checks.js';
import { type RedisFacts, readFacts } from '../../src/lib/redis-facts.js';
import { watchRedis } from '../../src/lib/redis-watch.js';
import { readAddition, readRule, setUser } from '../helpers/documented-acl.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { makeServices, type ServiceProcess } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

const rules = suite('the rules for a Redis');

const facts: RedisFacts = {
  ...{ product: 'Redis', version: '7.4.6', role: 'master', replicas: 0, isCluster: false },
  ...{ maxmemoryPolicy: 'noeviction', usedBytes: 50, limitBytes: 100, clients: 10, clientsMax: 10_000 },
  ...{ hasAppendOnlyFile: true, isDiskWritable: true, appendfsync: 'always', skipsFsyncOnRewrite: false, save: '' },
  ...{ clockAheadMs: 0, aheadStreams: [] },
};
const setting: RedisSetting = {
  ...{ isProduction: true, redisUrl: 'redis://h', keyPrefix: '', toleranceMs: 300_000 },
};

function told(changed: Partial<RedisFacts>, other: Partial<RedisSetting> = {}): string {
  return inspectRedis({ ...facts, ...changed }, { ...setting, ...other })
    .filter(({ level }) => level !== 'ok')
    .map(({ level, isRefused, finding }) => `${isRefused ? 'refused' : level}: ${finding}`)
    .join('\n');
}

rules('a good one is told nothing of', () => {
  assert.is(told({}), '');
  assert.is(told({ version: '8.10.0', product: 'Valkey' }), '');
});

rules('in production nothing but noeviction will do, elsewhere it is a warning', () => {
  for (const maxmemoryPolicy of ['allkeys-lru', 'volatile-lru', 'volatile-ttl', 'allkeys-random']) {
    assert.match(told({ maxmemoryPolicy }), /^refused: maxmemory-policy/);
    assert.match(told({ maxmemoryPolicy, limitBytes: 0 }, { isProduction: false }), /^warning: maxmemory-policy/);
  }
  assert.match(told({ maxmemoryPolicy: '' }), /^warning: maxmemory-policy cannot be read/);
});

rules('an old version is refused, one with a known fault is warned of', () => {
  assert.match(told({ version: '6.2.20' }), /^refused: Version 6\.2\.20 is too old/);
  for (const version of ['7.0.4', '7.0.9', '7.0.14', '7.2.3', '8.2.0', '8.2.2']) {
    assert.match(told({ version }), /^warning: Version .* has a known fault/, version);
  }
  for (const version of ['7.0.8', '7.0.15', '7.2.4', '8.0.1', '8.2.3', '8.10.0'])
    assert.is(told({ version }), '', version);
  assert.is(told({ version: '8.2.1', product: 'Valkey' }), '');
});

rules('a cluster wants a hash tag, and to be spoken to as a cluster', () => {
  const cluster = { isCluster: true };
  for (const keyPrefix of ['', 'gvi:', '{}:{gvi}:', 'gvi}{:']) {
    assert.match(told(cluster, { keyPrefix, redisUrl: 'redis-cluster://h:1' }), /^refused: This Redis is a cluster/);
  }
  assert.is(told(cluster, { keyPrefix: '{gvi}:', redisUrl: 'redis-cluster://h:1' }), '');
  assert.match(told(cluster, { keyPrefix: 'a{gvi}:' }), /^problem: This Redis is a node of a cluster/);
});

rules('what a 2xx is worth follows from how it keeps things', () => {
  assert.match(told({ skipsFsyncOnRewrite: true }), /except while the file is rewritten/);
  assert.match(told({ appendfsync: 'everysec' }), /a power cut may lose the last second or two/);
  assert.match(told({ hasAppendOnlyFile: false }), /in the memory of one node; any restart loses everything/);
  assert.match(told({ appendfsync: 'everysec', replicas: 1 }), /A fail-over may lose what no replica has yet/);
});

rules('memory, connections, clocks and ids', () => {
  assert.match(told({ limitBytes: 0 }), /^warning: Memory: .*no limit set/);
  assert.match(told({ usedBytes: 81 }), /^warning: Memory: .*\(81 %\)/);
  assert.match(told({ clients: 9_000 }), /^warning: 9000 of 10000 connections/);
  assert.is(told({ clients: 9_000, clientsMax: 0 }), '');
  assert.match(told({ clockAheadMs: 3_000 }), /^warning: The clock of Redis is 3\.0 s ahead/);
  assert.match(
    told({ aheadStreams: [{ stream: 'events:calendly', aheadMs: 7_200_000 }] }),
    /^warning: The last id of events:calendly is 2\.0 h ahead/,
  );
  assert.is(told({ aheadStreams: [{ stream: 'events:calendly', aheadMs: 900 }] }), '');
});

rules.run();

const test = suite('looking at Redis');

let server: TestRedis;
let redis: RedisClient;
const services = makeServices();
const keys = makeKeys('{gvi}:');

test.before.each(async () => {
  server = await startRedis({ args: ['--appendfsync', 'everysec'] });
  redis = connectRedis({ url: server.url, role: 'tool' });
});
test.after.each(async () => {
  await services.stop();
  redis.disconnect();
  await server.stop();
});

const verified = { CALENDLY_SIGNING_KEY: 'abc', READAI_SHARED_SECRET: 'abc' };

function settings(more: Record<string, string> = {}): Record<string, string> {
  return { REDIS_URL: server.url, KEY_PREFIX: keys.prefix, DRY_RUN: 'true', ...verified, ...more };
}

function line(process: ServiceProcess, text: string | RegExp) {
  return waitFor(
    `a line like ${text}`,
    () => process.lines().find(({ msg }) => (typeof text === 'string' ? msg.includes(text) : text.test(msg))),
    30_000,
  );
}

test('a real server tells what it is, also without CONFIG, and an id from the future is found', async () => {
  const future = Date.now() + 3_600_000;
  await redis.xadd(keys.stream('events:calendly'), `${future}-0`, 'a', '1');
  const found = await readFacts(redis, keys);
  assert.match(found.version, /^\d+\.\d+/);
  assert.equal([found.role, found.maxmemoryPolicy, found.appendfsync], ['master', 'noeviction', 'everysec']);
  assert.equal([found.hasAppendOnlyFile, found.isDiskWritable, found.isCluster], [true, true, false]);
  assert.ok(found.clients > 0 && found.clientsMax > 0);
  assert.equal(
    found.aheadStreams.map(({ stream, aheadMs }) => [stream, Math.round(aheadMs / 600_000)]),
    [['events:calendly', 6]],
  );
  await redis.acl('SETUSER', 'hosted', 'on', '>p', '~*', '+@all', '-config');
  const hosted = connectRedis({ url: server.url.replace('//', '//hosted:p@'), role: 'tool' });
  const less = await readFacts(hosted, keys);
  hosted.disconnect();
  assert.equal([less.appendfsync, less.save, less.maxmemoryPolicy], [undefined, undefined, 'noeviction']);
});

test('in production neither ingest nor a worker starts on a Redis that drops keys; each says why', async () => {
  await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
  const production = settings({ NODE_ENV: 'production' });
  const both = [services.start('ingest', production), services.start('worker', production, ['--group', 'enrich'])];
  for (const process of both) {
    assert.is(await process.exitCode(), 1);
    // Ingest that got no answer soon logs it, as one line.
    assert.match(process.output(), /This Redis cannot be used:(\n|\\n) {2}maxmemory-policy allkeys-lru/);
    assert.not.match(process.output(), /\n +at /);
  }
});

test('elsewhere they start with a warning, and say once what a 2xx is worth', async () => {
  await redis.config('SET', 'maxmemory-policy', 'volatile-lru');
  await redis.config('SET', 'appendfsync', 'always');
  const both = [services.start('ingest', settings()), services.start('worker', settings(), ['--group', 'enrich'])];
  for (const process of both) {
    await line(process, /ingest listens|worker runs/);
    assert.is((await line(process, 'maxmemory-policy volatile-lru')).level, 40);
    await line(process, 'a 2xx says that the event is on the disk');
    assert.is(process.lines().filter(({ msg }) => msg.includes('a 2xx says that the event is on the disk')).length, 1);
  }
});

test('without Redis ingest starts and a worker waits; once it is there both look at it', async () => {
  server.kill('SIGKILL');
  const both = [services.start('ingest', settings()), services.start('worker', settings(), ['--group', 'enrich'])];
  await line(both[0]!, 'ingest listens');
  await line(both[1]!, 'redis is not reachable');
  await server.restart();
  await line(both[1]!, 'worker runs');
  for (const process of both) await line(process, 'a power cut may lose the last second or two');
});

test('a worker waits until a replica is made a master, and refuses a login that is refused', async () => {
  await redis.call('REPLICAOF', '127.0.0.1', '1');
  const worker = services.start('worker', settings(), ['--group', 'enrich']);
  assert.is((await line(worker, 'redis is a replica')).level, 50);
  await redis.call('REPLICAOF', 'NO', 'ONE');
  await line(worker, 'worker runs');

  const REDIS_URL = server.url.replace('//', '//nobody:wrong@');
  const refused = services.start('worker', settings({ REDIS_URL }), ['--group', 'enrich']);
  assert.is(await refused.exitCode(), 1);
  assert.match(refused.output(), 'Redis refuses us (WRONGPASS): REDIS_URL should hold the right user and password');
  assert.not.match(refused.output(), 'nobody');
});

test('where its database cannot be selected neither starts; with the right to it both work there', async () => {
  await setUser(redis, readRule());
  const as = (user: string, db: number) => ({
    ...settings({ KEY_PREFIX: 'gvi:', NODE_ENV: 'production' }),
    REDIS_URL: `${server.url.replace('//', `//${user}`)}/${db}`,
  });
  for (const [given, reason] of [
    [as('', 99), 'Redis refuses us (NO_SUCH_DB): REDIS_URL should name a database that there is, or none'],
    [as('gvi:the-password@', 1), 'Redis refuses us (NOPERM): the user in REDIS_URL should have +select'],
  ] as const) {
    const both = [services.start('ingest', given), services.start('worker', given, ['--group', 'enrich'])];
    for (const process of both) {
      assert.is(await process.exitCode(), 1);
      assert.match(process.output(), reason);
      assert.not.match(process.output(), /\n +at |the-password/);
    }
  }
  assert.is(await redis.dbsize(), 0);
  await setUser(redis, readRule(), ...readAddition('A database other than number 0'));
  const worker = services.start('worker', as('gvi:the-password@', 1), ['--group', 'enrich']);
  await line(worker, 'worker runs');
  assert.is(await redis.dbsize(), 0);
  assert.ok(Number(/db1:keys=(\d+)/.exec(await redis.info('keyspace'))?.[1]) > 0);
});

test('ingest that started without Redis ends when the one that comes is none to work on', async () => {
  const evicting = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] });
  evicting.kill('SIGKILL');
  const ingest = services.start('ingest', settings({ NODE_ENV: 'production', REDIS_URL: evicting.url }));
  await line(ingest, 'ingest listens');
  await evicting.restart();
  assert.is(await ingest.exitCode(), 1);
  await evicting.stop();
  const [fatal] = ingest.lines().filter(({ level }) => level === 60);
  assert.match(fatal!.msg, 'This Redis cannot be used:\n  maxmemory-policy allkeys-lru');
});

test('while it runs it looks again: what turns dangerous is logged once and on the gauge, and nothing exits', async () => {
  const lines: { level: number; msg: string }[] = [];
  const log = pino({ level: 'info' }, { write: (text: string) => void lines.push(JSON.parse(text)) });
  const config = parseConfig({ REDIS_URL: server.url, KEY_PREFIX: keys.prefix });
  await redis.config('SET', 'maxmemory', '100mb');
  const watch = await watchRedis({ redis, keys, config, log, everyMs: 20 });
  const registry = new Registry();
  watch.addMetrics(registry);
  const gauges = () => registry.metrics();
  const began = lines.length;
  assert.match(await gauges(), 'gvi_redis_unsafe{reason="eviction"} 0');
  assert.match(await gauges(), /gvi_redis_memory_used_ratio 0\.0\d/);
  await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
  await waitFor('the gauge', async () => (await gauges()).includes('gvi_redis_unsafe{reason="eviction"} 1'));
  await redis.config('SET', 'maxmemory-policy', 'noeviction');
  await waitFor('the gauge', async () => (await gauges()).includes('gvi_redis_unsafe{reason="eviction"} 0'));
  watch.stop();
  assert.equal(
    lines.slice(began).map(({ level, msg }) => [level, msg]),
    [
      [50, 'redis may lose events: it drops keys when memory is full'],
      [30, 'redis keeps what it takes again'],
    ],
  );
});

test('memory that becomes scarce is told once for each line it crosses, and again only after there was room', async () => {
  const lines: { level: number; msg: string }[] = [];
  const log = pino({ level: 'info' }, { write: (text: string) => void lines.push(JSON.parse(text)) });
  const config = parseConfig({ REDIS_URL: server.url, KEY_PREFIX: keys.prefix });
  // Made by Redis itself: what a command of that size takes on its way is given back little by little, and moves the share.
  await redis.setrange('ballast', 40_000_000, 'x');
  let asked = 0;
  const whileMemoryIsScarce = async () => {
    asked += 1;
  };
  const watch = await watchRedis({ redis, keys, config, log, everyMs: 20, whileMemoryIsScarce });
  const registry = new Registry();
  watch.addMetrics(registry);
  const began = lines.length;
  const isSeen = async (share: number) => {
    const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1]);
    await redis.config('SET', 'maxmemory', Math.round(used / share));
    await waitFor(`a look at ${share}`, async () => {
      const ratio = Number(/gvi_redis_memory_used_ratio ([\d.]+)/.exec(await registry.metrics())![1]);
      return Math.abs(ratio - share) < 0.02;
    });
  };
  const told = () => lines.slice(began).map(({ level, msg }) => `${level} ${/\d+ %|room/.exec(msg)?.[0]}`);
  const seen: string[] = [];
  for (const share of [0.5, 0.83, 0.77, 0.83, 0.93, 0.87, 0.93, 0.6, 0.95]) {
    await isSeen(share);
    seen.push(`${told().length} at ${share}`);
  }
  assert.equal(seen, [
    ...['0 at 0.5', '1 at 0.83', '1 at 0.77', '1 at 0.83', '2 at 0.93', '2 at 0.87', '2 at 0.93', '3 at 0.6'],
    '4 at 0.95',
  ]);
  assert.equal(told(), ['40 83 %', '50 93 %', '30 room', '50 95 %']);
  assert.is(asked, 3);
  await waitFor('the groups to be looked for again while it stays so', () => asked > 3);
  watch.stop();
});

test('ingest tells of abandoned groups when it finds memory scarce, also with no worker running', async () => {
  await redis.xgroup('CREATE', keys.stream('events:calendly'), 'left-over', '0', 'MKSTREAM');
  await redis.xadd(keys.stream('events:calendly'), '*', 'type', 'calendly.invitee.created');
  await redis.setrange('ballast', 40_000_000, 'x');
  await redis.config('SET', 'maxmemory', '50mb');
  const ingest = services.start('ingest', settings());
  await line(ingest, /^redis: Memory: .*8\d %/);
  assert.is((await line(ingest, 'a group that is none of this service')).level, 40);
});

test.run();
