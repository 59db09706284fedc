/** Each row of the table of Redis' errors, raised by a real server: what it is taken for, what ingest and workers do. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Redis } from 'ioredis';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isAway } from '../../src/ingest/spool/refusal.js';
import { type Append, makeAppend, shortHash, type WebhookEvent } from '../../src/lib/append.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { judgeRedisError } from '../../src/lib/redis-errors.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, startTestWorker, type TestWorker } from '../helpers/worker.js';

/** Loading takes a moment, and Redis answers meanwhile; a script that runs on is said to be busy soon. */
const SLOW_LOADING = ['--key-load-delay', '400', '--loading-process-events-interval-bytes', '1024'];
const ARGS = [...SLOW_LOADING, '--busy-reply-threshold', '50'];

let server: TestRedis;
let raw: Redis;
let ingest: RedisClient;
let worker: TestWorker;
let append: Append;
/** By a connection that waits long, for what Redis is to say itself. */
let patient: RedisClient;
let appendPatiently: Append;

const enrich = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  async handle({ data }) {
    const email = data.payload.email ?? '';
    const facts = { kind: 'booked' as const, happenedAt: data.created_at, email, facts: {} };
    return [{ type: 'lead.enriched' as const, data: facts }];
  },
});

async function start(): Promise<void> {
  server = await startRedis({ args: ARGS });
  raw = server.connect({ retryStrategy: () => 20 });
  ingest = connectRedis({ url: server.url, role: 'ingest' });
  append = makeAppend({ redis: ingest, keyPrefix: '', idempotencyTtlS: 60 });
  patient = connectRedis({ url: server.url, role: 'drain' });
  appendPatiently = makeAppend({ redis: patient, keyPrefix: '', idempotencyTtlS: 60, timeoutMs: 8_000 });
  worker = await startTestWorker({ redisUrl: server.url, consumers: [enrich] });
  await waitFor('ingest to be connected', () => ingest.status === 'ready' && patient.status === 'ready');
}

async function stop(): Promise<void> {
  await worker.stop();
  ingest.disconnect();
  patient.disconnect();
  await server.stop();
}

function webhook(id: string): WebhookEvent {
  const data = JSON.stringify(booking(id));
  return {
    ...{ kind: 'event', source: 'calendly', type: 'calendly.invitee.created', otherContent: 'kept' },
    ...{ key: id, contentHash: shortHash(data), requestId: undefined, data: Buffer.from(data) },
  };
}

/** What the error of a call is called in the table; `undefined` when there is none. */
async function codeOf(call: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return judgeRedisError(error)?.code ?? `not of Redis: ${error}`;
  }
}

/** Ingest takes it, soon if not at once, and the worker does it once. */
async function goesThrough(id: string): Promise<void> {
  await waitFor(`${id} to be taken in`, () => append(webhook(id)).catch(() => false as const), 20_000);
  await waitFor(`${id} to be done`, async () => {
    const entries = await raw.xrange('events:enriched', '-', '+');
    return entries.filter(([, fields]) => fields.includes(id)).length === 1;
  });
  const taken = await raw.xrange('events:calendly', '-', '+');
  assert.is(taken.filter(([, fields]) => fields.includes(id)).length, 1, `${id} is one entry`);
}

/** Ingest refuses, and would spool. */
async function isSpooled(id: string): Promise<void> {
  const error = await append(webhook(id)).then(
    () => undefined,
    (cause: unknown) => cause,
  );
  assert.ok(isAway(error), `${id}: ${error}`);
}

const outages = suite('Redis in trouble: ingest would spool, workers wait and go on');

outages.before(start);
outages.after(stop);

type Trouble = {
  begin: () => Promise<unknown>;
  /** Fails with the row's error. */
  ask: () => Promise<unknown>;
  end: () => Promise<unknown>;
};

const TROUBLES: Record<string, () => Trouble> = {
  READONLY: () => ({
    begin: () => raw.call('REPLICAOF', '127.0.0.1', '1'),
    ask: () => raw.set('a', '1'),
    end: () => raw.call('REPLICAOF', 'NO', 'ONE'),
  }),
  MASTERDOWN: () => ({
    async begin() {
      await raw.config('SET', 'replica-serve-stale-data', 'no');
      await raw.call('REPLICAOF', '127.0.0.1', '1');
    },
    ask: () => raw.get('a'),
    end: () => raw.call('REPLICAOF', 'NO', 'ONE'),
  }),
  OOM: () => ({
    begin: () => raw.config('SET', 'maxmemory', '1mb'),
    ask: () => raw.set('a', '1'),
    end: () => raw.config('SET', 'maxmemory', '0'),
  }),
  MISCONF: () => ({
    async begin() {
      // A directory in the place of the snapshot: it cannot be written, also by root.
      mkdirSync(join(server.dir, 'dump.rdb'));
      await raw.config('SET', 'save', '3600 1');
      await raw.bgsave();
      await waitFor('the snapshot to fail', async () =>
        (await raw.info('persistence')).includes('rdb_last_bgsave_status:err'),
      );
    },
    ask: () => raw.set('a', '1'),
    end: () => raw.config('SET', 'save', ''),
  }),
  NOREPLICAS: () => ({
    begin: () => raw.config('SET', 'min-replicas-to-write', '1'),
    ask: () => raw.set('a', '1'),
    end: () => raw.config('SET', 'min-replicas-to-write', '0'),
  }),
  BUSY: () => ({
    async begin() {
      void server
        .connect()
        .eval('while true do end', 0)
        .catch(() => {});
      await waitFor('Redis to say that it is busy', async () => (await codeOf(() => raw.ping())) === 'BUSY');
    },
    ask: () => raw.ping(),
    end: () => raw.script('KILL'),
  }),
  LOADING: () => {
    let restarted: Promise<void>;
    const early = server.connect({ enableReadyCheck: false, retryStrategy: () => 10, maxRetriesPerRequest: null });
    return {
      async begin() {
        await raw.eval("for i = 1, 8000 do redis.call('SET', 'filler:' .. i, string.rep('x', 50)) end", 0);
        restarted = server.restart();
        await waitFor('Redis to load', async () => (await codeOf(() => early.get('a'))) === 'LOADING');
      },
      ask: () => early.get('a'),
      async end() {
        await restarted;
        early.disconnect();
      },
    };
  },
  TIMEOUT: () => ({
    begin: async () => server.kill('SIGSTOP'),
    ask: () => ingest.set('a', '1'),
    end: async () => server.kill('SIGCONT'),
  }),
};

outages(
  'every trouble is known by its word; a webhook refused meanwhile is taken and done once afterwards',
  async () => {
    await goesThrough('at-first');
    for (const [code, make] of Object.entries(TROUBLES)) {
      const trouble = make();
      await trouble.begin();
      assert.is(await codeOf(trouble.ask), code);
      await isSpooled(`during-${code}`);
      await trouble.end();
      await goesThrough(`during-${code}`);
      await goesThrough(`after-${code}`);
    }
  },
);

outages('a group or a stream that is gone is made again; ingest does not notice', async () => {
  for (const [code, destroy] of [
    ['NOGROUP', () => raw.xgroup('DESTROY', 'events:calendly', 'enrich')],
    ['NOGROUP', () => raw.del('events:calendly')],
  ] as const) {
    const [call] = await Promise.all([
      codeOf(() => raw.xreadgroup('GROUP', 'none', 'c', 'STREAMS', 'none', '>')),
      destroy(),
    ]);
    assert.is(call, code);
    await goesThrough(`after-${destroy}`);
  }
});

outages('a script that Redis has lost is loaded again without anybody noticing', async () => {
  assert.is(await codeOf(() => raw.evalsha('0'.repeat(40), 0)), 'NOSCRIPT');
  for (let i = 0; i < 3; i += 1) {
    await raw.script('FLUSH');
    assert.is((await appendPatiently(webhook(`flushed-${i}`))).status, 'accepted');
    await goesThrough(`flushed-${i}`);
  }
});

outages.run();

const limit = suite('Redis at its memory limit');

limit.before(start);
limit.after(stop);

limit('a worker can start then, and its small writes go through; those of ingest do not', async () => {
  await appendPatiently(webhook('waiting'));
  await worker.stop();
  await raw.del('events:enriched');
  await raw.xgroup('DESTROY', 'events:calendly', 'enrich');
  await raw.config('SET', 'maxmemory', '1mb');
  worker = await startTestWorker({ redisUrl: server.url, consumers: [enrich] });
  await waitFor('the entry to be done', async () => (await raw.xlen('events:enriched')) === 1);
  const { redis } = worker;
  assert.is(await redis.set('lease', 'me', 'PX', 60_000, 'NX'), 'OK');
  assert.is(await redis.set('lease', 'you', 'PX', 60_000, 'NX'), null);
  assert.is(await redis.sadd('set', 'a'), 1);
  assert.is(await redis.hset('hash', 'a', '1'), 1);
  const again = await redis.xgroup('CREATE', 'events:calendly', 'enrich', '0').catch((error: Error) => error.message);
  assert.match(String(again), /^BUSYGROUP/);
  assert.is(await codeOf(() => patient.set('a', '1')), 'OOM');
  await raw.config('SET', 'maxmemory', '0');
});

limit.run();

const rows = suite('the other rows of the table');

rows.before(start);
rows.after(stop);

/** Of a connection of its own, which is ended. */
async function codeAsUser(url: string, ask: (client: Redis) => Promise<unknown>): Promise<string | undefined> {
  const client = new Redis(url, {
    ...{ protocol: 2, disableClientInfo: true, retryStrategy: () => null, maxRetriesPerRequest: 0 },
  });
  let raised: string | undefined;
  client.on('error', (error) => {
    raised ??= judgeRedisError(error)?.code;
  });
  const code = await codeOf(() => ask(client));
  client.disconnect();
  return raised ?? code;
}

rows('login and rights', async () => {
  const at = (user: string) => server.url.replace('//', `//${user}@`);
  await raw.acl('SETUSER', 'few', 'on', '>right', '~mine:*', '+get', '+info');
  assert.is(await codeAsUser(at('few:wrong'), (client) => client.ping()), 'WRONGPASS');
  assert.is(await codeAsUser(at('few:right'), (client) => client.set('mine:a', '1')), 'NOPERM');
  assert.is(await codeAsUser(at('few:right'), (client) => client.get('yours:a')), 'NOPERM');
  await raw.acl('SETUSER', 'few', '+eval');
  const inScript = (key: string) => (client: Redis) => client.eval(`return redis.call('SET', KEYS[1], '1')`, 1, key);
  assert.is(await codeAsUser(at('few:right'), inScript('mine:a')), 'NOPERM');
  await raw.acl('SETUSER', 'few', '+set');
  const elsewhere = (client: Redis) => client.eval(`return redis.call('SET', 'yours:a', '1')`, 0);
  assert.is(await codeAsUser(at('few:right'), elsewhere), 'NOPERM');
  await raw.config('SET', 'requirepass', 'secret');
  assert.is(await codeAsUser(server.url, (client) => client.ping()), 'NOAUTH');
  await raw.config('SET', 'requirepass', '');
});

rows('a wrong address', async () => {
  assert.is(await codeAsUser('redis://127.0.0.1:1', (client) => client.ping()), 'ECONNREFUSED');
  assert.is(await codeAsUser('redis://nowhere.invalid', (client) => client.ping()), 'ENOTFOUND');
  assert.is(await codeAsUser(`${server.url}/99`, (client) => client.ping()), 'NO_SUCH_DB');
  const cluster = new Cluster([{ host: '127.0.0.1', port: server.port }], { clusterRetryStrategy: () => null });
  const error = await new Promise((resolve) => cluster.once('error', resolve));
  assert.is(judgeRedisError(error)?.code, 'NO_CLUSTER');
  cluster.disconnect();
});

rows('no connection left to give', async () => {
  const [, most] = (await raw.config('GET', 'maxclients')) as [string, string];
  await raw.config('SET', 'maxclients', '1');
  // The refusal and the end of the connection may arrive in one moment.
  await waitFor('the refusal', async () => {
    const code = await codeAsUser(server.url, (client) => client.ping());
    assert.match(String(code), /^(MAXCLIENTS|EPIPE|ECONNRESET|CONNECTION_CLOSED)$/);
    return code === 'MAXCLIENTS';
  });
  await raw.config('SET', 'maxclients', most);
});

rows('blocked reads that Redis ends itself', async () => {
  const read = (client: Redis) =>
    codeOf(() => client.xreadgroup('GROUP', 'g', 'c', 'COUNT', 1, 'BLOCK', 0, 'STREAMS', 's', '>'));
  const isBlocked = async () => (await raw.info('clients')).includes('blocked_clients:1');
  await worker.stop();
  await raw.xgroup('CREATE', 's', 'g', '0', 'MKSTREAM');
  const unblocked = read(server.connect());
  await waitFor('the read to block', isBlocked);
  await raw.del('s');
  assert.match(String(await unblocked), /^(UNBLOCKED|NOGROUP)$/);
  await raw.xgroup('CREATE', 's', 'g', '0', 'MKSTREAM');
  const demoted = read(server.connect());
  await waitFor('the read to block', isBlocked);
  await raw.call('REPLICAOF', '127.0.0.1', '1');
  assert.is(await demoted, 'UNBLOCKED_DEMOTED');
  await raw.call('REPLICAOF', 'NO', 'ONE');
});

rows('commands of ours that are at fault', async () => {
  await raw.set('text', 'x');
  assert.is(await codeOf(() => raw.hget('text', 'a')), 'WRONGTYPE');
  assert.is(await codeOf(() => raw.eval("return redis.call('HGET', 'text', 'a')", 0)), 'WRONGTYPE');
  assert.is(await codeOf(() => raw.incr('text')), 'ERR');
  assert.is(await codeOf(() => raw.eval('return nothing.at_all', 0)), 'ERR');
  assert.is(await codeOf(() => raw.call('NOSUCH')), 'UNKNOWN_COMMAND');
  assert.is(await codeOf(() => raw.eval("return redis.call('NOSUCH')", 0)), 'UNKNOWN_COMMAND');
  await raw.xgroup('CREATE', 'twice', 'g', '0', 'MKSTREAM');
  assert.is(await codeOf(() => raw.xgroup('CREATE', 'twice', 'g', '0')), 'BUSYGROUP');
});

rows('a webhook that Redis refuses for its own sake is not spooled', async () => {
  await raw.set('progress:odd', 'no hash');
  const error = await appendPatiently(webhook('odd')).catch((cause: unknown) => cause);
  assert.is(isAway(error), false);
});

rows.run();
