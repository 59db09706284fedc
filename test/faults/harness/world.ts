/** The whole system on one machine: a Redis, ingests, workers, the providers' stand-ins, and proxies between them all. */
import { setMaxListeners } from 'node:events';
import { existsSync, mkdtempSync, statfsSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { findFreePort } from '../../../scripts/lib/redis-server.js';
import { makeEventId } from '../../../src/lib/event-id.js';
import { GROUPS, type GroupName, streamsOf } from '../../../src/lib/events.js';
import { type Keys, makeKeys } from '../../../src/lib/keys.js';
import { findBundled } from '../../helpers/bundle.js';
import { startRedis, type TestRedis } from '../../helpers/redis-server.js';
import { removeDir } from '../../helpers/remove-dir.js';
import { CALENDLY_KEY, READAI_KEY } from '../../helpers/webhooks.js';
import { type GeminiStandin, type GeminiStandinOptions, startGemini } from '../../standins/gemini.js';
import { SLACK_CHANNEL, SLACK_TOKEN, type SlackStandin, startSlack } from '../../standins/slack.js';
import { startZoho, type ZohoOptions, type ZohoStandin } from '../../standins/zoho.js';
import { type InjectedFault, makeFaultLog } from './fault-log.js';
import { type History, makeHistory } from './history.js';
import { makeLinks } from './links.js';
import { makePart, type Part } from './parts.js';
import { makeRandom, type Random, seedOfRun } from './random.js';
import { isLong } from './scenario.js';
import type { Link } from './wire.js';
import { logWire } from './wire-log.js';

export type WorkerSpec = {
  /** `w1`, `w2`, … where left out. */
  name?: string;
  /** All of them where left out. */
  groups?: readonly GroupName[];
  concurrency?: number;
  env?: Record<string, string>;
  /** Another entry than the service's own, relative to the project, as in `test/faults/workers/burn.cjs`. */
  entry?: string;
};

export type WorldOptions = {
  /** A seed of its own where left out. */
  random?: Random;
  redis?: {
    /** [always] With `everysec` a Redis whose disk is busy holds writes back for up to two seconds, which a SIGKILL then costs. */
    appendfsync?: 'everysec' | 'always' | 'no';
    args?: readonly string[];
    /** Another Redis than one server; it ends with the world. */
    start?: () => Promise<TestRedis>;
  };
  /** [1 worker with all groups] */
  workers?: number | readonly WorkerSpec[];
  /** [1] */
  ingests?: number;
  /** Gives each ingest a `SPOOL_DIR` of its own. */
  spool?: boolean;
  /** Settings of every process; they win over the world's. */
  env?: Record<string, string>;
  /** `false`: no model is asked. */
  gemini?: GeminiStandinOptions | false;
  zoho?: ZohoOptions;
  slack?: { latencyMs?: number };
  /** Whether what dies is started again [true]. */
  isSupervised?: boolean;
  /** Processes reach Redis and the providers without a proxy: faster, but no fault on a link and no crash point. */
  isDirect?: boolean;
};

export type World = Awaited<ReturnType<typeof startWorld>>;

/** Short times: a second of the suite stands for ten in production. */
export const SHORT_TIMES = {
  VISIBILITY_TIMEOUT_MS: '1500',
  RETRY_BASE_MS: '100',
  RETRY_MAX_MS: '1000',
  MAX_ATTEMPTS: '4',
  SHUTDOWN_GRACE_MS: '1000',
};
const KEY_PREFIX = 'f:';
const HELD_MS = 10_000;
const LEFT_MS = 500;

// Many slow calls at once wait for the end of a stand-in, each with a listener.
setMaxListeners(0);

/** Where other tests do not keep the disk busy: ingest answers 503 when its spool's is too slow. */
const MEMORY_DIR = '/dev/shm';
/** For all that Redis writes in the short form, several times over. */
const MEMORY_BYTES_MIN = 512 * 1_024 * 1_024;

export async function startWorld(options: WorldOptions = {}) {
  const random = options.random ?? makeRandom(seedOfRun());
  const dir = mkdtempSync(join(tmpdir(), 'gvi-world-'));
  const spoolsDir = mkdtempSync(join(existsSync(MEMORY_DIR) ? MEMORY_DIR : tmpdir(), 'gvi-spools-'));
  const redisArgs = ['--appendfsync', options.redis?.appendfsync ?? 'always', ...(options.redis?.args ?? [])];
  const redisDir = mkdtempSync(join(hasRoomInMemory() ? MEMORY_DIR : tmpdir(), 'gvi-redis-'));
  const [redis, zoho, gemini, slack] = await Promise.all([
    options.redis?.start?.() ?? startRedis({ args: redisArgs, dir: redisDir }),
    startZoho({ refreshesMax: 1_000, ...options.zoho }),
    startGemini(options.gemini === false ? {} : options.gemini),
    startSlack(options.slack),
  ]);
  const keys = makeKeys(KEY_PREFIX);
  const client = redis.connect({ maxRetriesPerRequest: null });
  const faultLog = makeFaultLog();
  const targets = targetsOf({ redis, zoho, gemini, slack });
  const links = makeLinks({ targets, random: random.fork('links') });
  const wire = logWire(links);
  const parts = new Map<string, Part>();
  const retired: Part[] = [];
  /** What the process with this id holds. Where it has just died nobody waits long for the answer. */
  const findHeld = (pid: number, waitMs = HELD_MS) => findPendingOf({ redis: client, keys }, pid, waitMs);
  const findLeft = (pid: number) => findHeld(pid, LEFT_MS);
  const isSupervised = options.isSupervised ?? true;
  let hasSpool = false;

  async function envOf(name: string, role: Part['role']): Promise<Record<string, string>> {
    const proxies = options.isDirect ? undefined : await links.open(name);
    const at = (link: Link) => `127.0.0.1:${proxies?.[link].port ?? targets[link]().port}`;
    return {
      ...SHORT_TIMES,
      ...{ NODE_ENV: 'test', LOG_LEVEL: 'info', KEY_PREFIX, REDIS_URL: proxies ? `redis://${at('redis')}` : redis.url },
      ...{ CALENDLY_SIGNING_KEY: CALENDLY_KEY, READAI_SIGNING_KEY: READAI_KEY, INTERNAL_DOMAINS: 'seller.example' },
      ...(role === 'ingest' ? {} : providerSettings(at)),
      ...options.env,
    };
  }

  function providerSettings(at: (link: Link) => string): Record<string, string> {
    const { clientId, clientSecret, refreshToken } = zoho.credentials;
    return {
      ...{ ZOHO_ACCOUNTS_URL: `http://${at('zoho')}`, ZOHO_API_URL: `http://${at('zoho')}` },
      ...{ ZOHO_CLIENT_ID: clientId, ZOHO_CLIENT_SECRET: clientSecret, ZOHO_REFRESH_TOKEN: refreshToken },
      ...{ SLACK_BOT_TOKEN: SLACK_TOKEN, SLACK_CHANNEL, SLACK_API_URL: `http://${at('slack')}/api/` },
      ...(options.gemini === false ? {} : { GEMINI_API_KEY: 'key', GEMINI_BASE_URL: `http://${at('gemini')}` }),
    };
  }

  /** Resolves at once; `untilReady` of the part waits. */
  async function addWorker(spec: WorkerSpec = {}): Promise<Part> {
    const name = spec.name ?? nextName('w', parts);
    const args = [
      ...(spec.groups === undefined ? [] : ['--group', spec.groups.join(',')]),
      ...(spec.concurrency === undefined ? [] : ['--concurrency', String(spec.concurrency)]),
    ];
    const script = findBundled(spec.entry ?? 'src/consumers/main.cjs');
    const env = { ...(await envOf(name, 'worker')), ...spec.env };
    const launch = { script, args, env, cwd: dir };
    const groups = spec.groups === undefined ? {} : { groups: spec.groups };
    const part = makePart({
      name,
      role: 'worker',
      url: '',
      ...groups,
      launch,
      isSupervised,
      faultLog,
      findHeld: findLeft,
    });
    parts.set(name, part);
    return part;
  }

  async function addIngest({ spool = options.spool ?? false } = {}): Promise<Part> {
    const name = nextName('i', parts);
    const port = await findFreePort();
    hasSpool ||= spool;
    const settings: Record<string, string> = spool ? { SPOOL_DIR: join(spoolsDir, name) } : {};
    const env = { ...(await envOf(name, 'ingest')), ...settings, PORT: String(port) };
    const launch = { script: findBundled('src/ingest/main.cjs'), args: [], env, cwd: dir };
    const url = `http://127.0.0.1:${port}`;
    const part = makePart({ name, role: 'ingest', url, launch, isSupervised, faultLog, findHeld: async () => [] });
    parts.set(name, part);
    return part;
  }

  const workerSpecs: readonly WorkerSpec[] =
    typeof options.workers === 'object' ? options.workers : Array.from({ length: options.workers ?? 1 }, () => ({}));
  for (let i = 0; i < (options.ingests ?? 1); i += 1) await addIngest();
  for (const spec of workerSpecs) await addWorker(spec);
  await Promise.all([...parts.values()].map((part) => part.untilReady()));

  const workers = () => [...parts.values()].filter(({ role }) => role === 'worker');
  const ingests = () => [...parts.values()].filter(({ role }) => role === 'ingest');
  const history: History = makeHistory();

  return {
    ...{ random, dir, redis, client, keys, zoho, gemini, slack, links, wire, faultLog, history },
    isDirect: options.isDirect ?? false,
    ...{ addWorker, addIngest, findHeld },
    /** Whether any ingest has one. */
    get hasSpool() {
      return hasSpool;
    },
    /** Where the spool of an ingest lies that has one. */
    spoolDir: (ingest: string) => join(spoolsDir, ingest),
    workers,
    ingests,
    part(name: string): Part {
      const found = parts.get(name);
      if (found === undefined) throw new Error(`there is no ${name}`);
      return found;
    },
    parts: () => [...parts.values()],
    /** Those that `scale` has ended are in it. */
    everyPart: () => [...parts.values(), ...retired],
    /** Brings the workers of exactly these groups to a number: new ones are started, the last ones ended by SIGTERM. */
    async scale(groups: readonly GroupName[] | undefined, count: number): Promise<void> {
      const wanted = (groups ?? GROUPS).join(',');
      const alike = workers().filter((part) => part.groups.join(',') === wanted);
      const started: Part[] = [];
      for (let n = alike.length; n < count; n += 1) {
        started.push(await addWorker(groups === undefined ? {} : { groups }));
      }
      const surplus = alike.slice(count);
      await Promise.all([...started.map((part) => part.untilReady()), ...surplus.map((part) => part.terminate())]);
      for (const part of surplus) {
        parts.delete(part.name);
        retired.push(part);
      }
    },
    async stop(): Promise<void> {
      await Promise.all([...parts.values()].map((part) => part.destroy()));
      await links.stop();
      await Promise.all([zoho.stop(), gemini.stop(), slack.stop(), redis.stop()]);
      for (const one of [dir, spoolsDir, redisDir]) removeDir(one);
    },
  };
}

/** Redis answers nobody while it waits for a slow disk. In the long form it has the disk for itself, and much to write. */
function hasRoomInMemory(): boolean {
  if (isLong || !existsSync(MEMORY_DIR)) return false;
  const { bavail, bsize } = statfsSync(MEMORY_DIR);
  return bavail * bsize >= MEMORY_BYTES_MIN;
}

function targetsOf(servers: {
  redis: TestRedis;
  zoho: ZohoStandin;
  gemini: GeminiStandin;
  slack: SlackStandin;
}): Record<Link, () => { host: string; port: number }> {
  const at = (link: Link) => () => ({ host: '127.0.0.1', port: servers[link].port });
  return { redis: at('redis'), zoho: at('zoho'), gemini: at('gemini'), slack: at('slack') };
}

function nextName(letter: string, parts: ReadonlyMap<string, Part>): string {
  for (let n = 1; ; n += 1) if (!parts.has(`${letter}${n}`)) return `${letter}${n}`;
}

/** A consumer is named after its host and process. */
export function pidOfConsumer(consumer: string): number {
  return Number(consumer.slice(hostname().length + 1).split('-', 1)[0]);
}

type PendingEntry = [id: string, consumer: string, idleMs: number, deliveries: number];

/** Redis may be down, too. */
async function findPendingOf(
  store: { redis: Redis; keys: Keys },
  pid: number,
  waitMs: number,
): Promise<InjectedFault['affected']> {
  const late = new Promise<never>((_, reject) => setTimeout(reject, waitMs, new Error('Redis is away')).unref());
  return Promise.race([readPendingOf(store, pid), late]);
}

async function readPendingOf({ redis, keys }: { redis: Redis; keys: Keys }, pid: number) {
  const held: InjectedFault['affected'] = [];
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) {
      // The group may be gone for a moment.
      const reply = redis.xpending(keys.stream(stream), group, '-', '+', 5_000).catch(() => []);
      const pending = (await reply) as PendingEntry[];
      for (const [id, consumer] of pending) {
        if (pidOfConsumer(consumer) === pid) held.push({ group, eventId: makeEventId(stream, id) });
      }
    }
  }
  return held;
}
