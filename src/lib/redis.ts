/**
 * Connections to Redis, by what they are for; the URL says whether it is one server, Sentinel or Cluster.
 *
 * A link can die without a word: the peer frozen, its machine gone, a firewall that forgot. So a connection that owes an
 * answer and stays silent is closed and made again, the first greeting included. Whatever had no answer is then sent once
 * more, which is safe: see `scripts.ts`.
 */
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { Logger } from 'pino';
import { allowSmallWritesAtLimit } from './redis-at-limit.js';
import { judgeRedisError } from './redis-errors.js';
import { parseNodeList } from './redis-url.js';

/** One client type for all deployments: the commands are the same. */
export type RedisClient = Redis;

/**
 * - `ingest`: answers at once or fails at once; a webhook's sender tries again.
 * - `drain`: what was taken in already; nobody waits for it, and a slow link may take its time over a large body.
 * - `worker`: waits for Redis' return; what it sends is safe to send twice.
 * - `blocking`: for blocking reads alone, as they would hold up everything behind them; waits as well.
 * - `queries`: what operators look at while the process takes webhooks; fails soon, no queue while Redis is away.
 * - `tool`: a person waits; a Redis that cannot be reached is given up after a few seconds, one that is silent after half a minute.
 * - `look`: the same, where nothing is changed and so nothing is lost by giving up within seconds.
 */
export type ConnectionRole = 'ingest' | 'drain' | 'worker' | 'blocking' | 'queries' | 'tool' | 'look';

export type ConnectOptions = {
  url: string;
  role: ConnectionRole;
  log?: Logger;
  /** The longest blocking read that will be sent [500]. */
  blockMsMax?: number;
};

const RECONNECT_MS_MAX = 1_000;
/** Silence after which a link is taken for dead. With a new connection and its wait this stays under 5 s. */
const SILENCE_MS = 3_000;
const BLOCK_MS_MAX = 500;
/** Enough for ten megabytes at 10 Mbit/s; a link that has died is noticed as late. */
const DRAIN_MS = 8_000;
/** A connection must hold so long before Redis counts as back: one that comes and goes is no news each time. */
const STABLE_MS = 500;
/** Longer than a connection that has died is silent, so that there is time for another one. */
const LOOK_MS = 5_000;
/** A tool gives up on nodes and sentinels after so many rounds. */
const TOOL_ROUNDS_MAX = 3;

export function connectRedis({ url, role, log, blockMsMax = BLOCK_MS_MAX }: ConnectOptions): RedisClient {
  let isGivenUp = false;
  const nextRoundMs = (times: number) => {
    isGivenUp = (role === 'tool' || role === 'look') && times > TOOL_ROUNDS_MAX;
    return isGivenUp ? null : reconnectMs(times);
  };
  const client = makeClient(url, optionsOf(role, blockMsMax), nextRoundMs);
  reportStateChanges(client, log);
  leaveOnce(client);
  leaveWrongDb(client);
  reviveAfterEnd(client, () => isGivenUp);
  if (role === 'worker' || role === 'tool') allowSmallWritesAtLimit(client);
  return client;
}

/** Not in good order: the far end of a dead link would never agree to it. A client of one server then begins anew by itself. */
export function cutLinks(client: RedisClient): void {
  const nodes = client.isCluster ? (client as unknown as Cluster).nodes() : [client];
  for (const { stream } of nodes) stream?.destroy();
}

/** Gives all of its links up for new ones; in a cluster also what it knew of the nodes. */
export function replaceLinks(client: RedisClient): void {
  cutLinks(client);
  if (client.isCluster) client.disconnect(true);
}

function optionsOf(role: ConnectionRole, blockMsMax: number): Options {
  const common = {
    // ioredis 6 speaks RESP3 unless told not to; one protocol everywhere, also behind proxies that reject HELLO.
    protocol: 2,
    connectionName: `gvi-${role}`,
    disableClientInfo: true,
    connectTimeout: 2_000,
    /** How long a connection that is being left may take to close. */
    disconnectTimeout: 500,
    keepAlive: 10_000,
    socketTimeout: SILENCE_MS,
    retryStrategy: reconnectMs,
    reconnectOnError: makeReconnectOnError(),
    maxLoadingRetryTime: 1_000,
  } satisfies Options;
  switch (role) {
    case 'ingest':
      return {
        ...common,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        commandTimeout: 900,
        socketTimeout: 1_500,
      };
    case 'drain':
      return {
        ...common,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        commandTimeout: DRAIN_MS,
        socketTimeout: DRAIN_MS,
      };
    case 'queries':
      return { ...common, enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 3_000 };
    case 'tool':
      return { ...common, maxRetriesPerRequest: 3, commandTimeout: 30_000, socketTimeout: 10_000 };
    case 'look':
      return { ...common, maxRetriesPerRequest: 3, commandTimeout: LOOK_MS };
    case 'worker':
      return { ...common, maxRetriesPerRequest: null };
    case 'blocking':
      return { ...common, maxRetriesPerRequest: null, socketTimeout: blockMsMax + SILENCE_MS - BLOCK_MS_MAX };
  }
}

/** Left out is how a reply of RESP3 would look, on which the client's type depends. */
type Options = Omit<RedisOptions, 'replyMapping'> & { protocol: 2 };

/** `nextRoundMs` tells when to ask the nodes or sentinels once more after a round of them, `null` for never. */
function makeClient(url: string, options: Options, nextRoundMs: (times: number) => number | null): RedisClient {
  if (url.startsWith('redis-sentinel:')) {
    const { hosts, name, credentials, sentinelCredentials, tls, db } = parseNodeList(url);
    return new Redis({
      ...{ ...options, ...credentials, ...sentinelCredentials },
      sentinels: hosts,
      name: name || 'mymaster',
      db,
      // A sentinel that hangs must not be waited for: there are others.
      sentinelCommandTimeout: 1_000,
      sentinelRetryStrategy: nextRoundMs,
      failoverDetector: true,
      ...(tls ? { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true } : {}),
    });
  }
  if (url.startsWith('redis-cluster:')) {
    const { hosts, credentials, tls } = parseNodeList(url);
    return new Cluster(hosts, {
      redisOptions: { ...options, ...credentials, ...(tls ? { tls: {} } : {}) },
      enableOfflineQueue: options.enableOfflineQueue ?? true,
      clusterRetryStrategy: nextRoundMs,
      // A certificate is for the host's name, so that must not be resolved before.
      ...(tls ? { dnsLookup: (address, callback) => callback(null, address) } : {}),
    }) as unknown as Redis;
  }
  return new Redis(url, options);
}

/** With jitter, so that a restarted Redis does not meet all workers in one moment. */
function reconnectMs(times: number): number {
  return Math.min(50 * 2 ** Math.min(times, 6), RECONNECT_MS_MAX) * (0.7 + Math.random() * 0.3);
}

/**
 * After a failover the former master refuses writes on a connection that still looks ready: another one is made, and the
 * command sent again. Where that leads to the same server, those who asked are told, and the next try is a second later.
 */
function makeReconnectOnError(): (error: Error) => false | 2 {
  const VOLLEY_MS = 50;
  let leftAt = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (judgeRedisError(error)?.kind !== 'reconnect') return false;
    const sinceMs = performance.now() - leftAt;
    if (sinceMs >= RECONNECT_MS_MAX) leftAt = performance.now();
    return sinceMs < VOLLEY_MS || sinceMs >= RECONNECT_MS_MAX ? 2 : false;
  };
}

/**
 * ioredis gives a connection up for good where a failover is announced while it asks a sentinel for the master. Ours end
 * only when we say so, or when a tool has given up.
 */
function reviveAfterEnd(client: RedisClient, isGivenUp: () => boolean): void {
  let isClosed = false;
  const disconnect = client.disconnect.bind(client);
  client.disconnect = (reconnect = false) => {
    isClosed ||= !reconnect;
    disconnect(reconnect);
  };
  client.on('end', () => {
    if (isClosed || isGivenUp()) return;
    setTimeout(() => {
      if (!isClosed) client.connect().catch(() => {});
    }, reconnectMs(1));
  });
}

/** Each refused command of a volley asks to leave the same connection; ioredis would begin to close it as often. */
function leaveOnce(client: RedisClient): void {
  let isLeaving = false;
  const disconnect = client.disconnect.bind(client);
  client.disconnect = (reconnect = false) => {
    if (reconnect && isLeaving) return;
    if (reconnect && client.status === 'ready') {
      isLeaving = true;
      client.once('close', () => {
        isLeaving = false;
      });
    }
    disconnect(reconnect);
  };
}

/**
 * Where SELECT is refused ioredis tells so and goes on in database 0, which may be another installation's. Ours leaves the
 * connection and tries again, as after a refused login, and whoever waits for it is told.
 */
function leaveWrongDb(client: RedisClient): void {
  const select = client.select.bind(client);
  client.select = async (db: number | string) => {
    const { stream } = client;
    try {
      return await select(db);
    } catch (error) {
      // A login refused before it says more.
      await new Promise(setImmediate);
      if (stream.writable) client.recoverFromFatalError(error as Error, error as Error, {});
      return new Promise<never>(() => {});
    }
  };
}

/** One line when Redis goes and one when it is back, not one for each failed attempt. */
function reportStateChanges(client: RedisClient, log: Logger | undefined): void {
  let goneAt: number | undefined;
  let stable: NodeJS.Timeout | undefined;
  client.on('error', (error: Error) => {
    clearTimeout(stable);
    if (goneAt !== undefined) return;
    goneAt = Date.now();
    const fault = judgeRedisError(error);
    const code = (error as NodeJS.ErrnoException).code ?? fault?.code ?? error.name;
    if (fault?.kind === 'configuration') log?.error({ code }, 'redis refuses us; see REDIS_URL');
    else log?.warn({ code }, 'redis is not reachable');
  });
  client.on('ready', () => {
    clearTimeout(stable);
    stable = setTimeout(() => {
      if (goneAt === undefined) return;
      log?.info({ afterMs: Date.now() - goneAt }, 'redis is reachable again');
      goneAt = undefined;
    }, STABLE_MS).unref();
  });
}
