/** Connections to Redis, by what they are for; the URL says whether it is one server, Sentinel or Cluster. */
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { Logger } from 'pino';

/** One client type for all deployments: the commands are the same. */
export type RedisClient = Redis;

/**
 * - `ingest`: answers at once or fails at once; a webhook's sender tries again.
 * - `worker`: waits for Redis' return; what it sends is safe to send twice.
 * - `blocking`: for blocking reads alone, as they would hold up everything behind them; no deadline of the client.
 * - `queries`: what operators look at while the process takes webhooks; fails soon, no queue while Redis is away.
 * - `tool`: a person waits; fails after a few seconds.
 */
export type ConnectionRole = 'ingest' | 'worker' | 'blocking' | 'queries' | 'tool';

const RECONNECT_MS_MAX = 1_000;

export function connectRedis({ url, role, log }: { url: string; role: ConnectionRole; log?: Logger }): RedisClient {
  const client = makeClient(url, optionsOf(role));
  reportStateChanges(client, log);
  return client;
}

function optionsOf(role: ConnectionRole) {
  const common = {
    // ioredis 6 speaks RESP3 unless told not to; one protocol everywhere, also behind proxies that reject HELLO.
    protocol: 2 as const,
    connectTimeout: 3_000,
    keepAlive: 10_000,
    // Jitter, so that a restarted Redis does not meet all workers in one moment.
    retryStrategy: (times: number) =>
      Math.min(50 * 2 ** Math.min(times, 6), RECONNECT_MS_MAX) * (0.7 + Math.random() * 0.3),
    // After a failover the former master answers READONLY on a connection that still looks ready.
    reconnectOnError: (error: Error) => (/^(READONLY|MASTERDOWN)/.test(error.message) ? (2 as const) : false),
    maxLoadingRetryTime: 2_000,
  } satisfies RedisOptions;
  switch (role) {
    case 'ingest':
      // A link that swallows everything is only found dead by its silence.
      return {
        ...common,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        commandTimeout: 900,
        socketTimeout: 1_500,
      };
    case 'queries':
      return { ...common, enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 3_000 };
    case 'tool':
      return { ...common, maxRetriesPerRequest: 3, commandTimeout: 30_000 };
    case 'worker':
    case 'blocking':
      return { ...common, maxRetriesPerRequest: null };
  }
}

function makeClient(url: string, options: ReturnType<typeof optionsOf>): RedisClient {
  if (url.startsWith('redis-sentinel:')) {
    const { hosts, name, username, password } = splitHosts(url);
    return new Redis({
      ...options,
      sentinels: hosts,
      name: name || 'mymaster',
      ...credentials(username, password),
      failoverDetector: true,
    });
  }
  if (url.startsWith('redis-cluster:')) {
    const { hosts, username, password } = splitHosts(url);
    const cluster = new Cluster(hosts, {
      redisOptions: { ...options, ...credentials(username, password) },
      enableOfflineQueue: !('enableOfflineQueue' in options),
      clusterRetryStrategy: (times) => Math.min(100 * times, RECONNECT_MS_MAX),
    });
    return cluster as unknown as Redis;
  }
  return new Redis(url, options);
}

/** `redis-sentinel://user:password@h1:26379,h2:26379/mymaster`: several hosts, which `URL` does not take. */
function splitHosts(url: string) {
  const match = /^[a-z-]+:\/\/(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?(?<hosts>[^/]+)(?:\/(?<name>[^?]*))?/.exec(
    url,
  );
  const { user = '', password = '', hosts = '', name = '' } = match?.groups ?? {};
  return {
    hosts: hosts.split(',').map((item) => {
      const [host = '127.0.0.1', port = '6379'] = item.split(':');
      return { host, port: Number(port) };
    }),
    name,
    username: decodeURIComponent(user),
    password: decodeURIComponent(password),
  };
}

function credentials(username: string, password: string): { username?: string; password?: string } {
  return { ...(username ? { username } : {}), ...(password ? { password } : {}) };
}

/** One line when the connection goes and one when it is back, not one for each failed attempt. */
function reportStateChanges(client: RedisClient, log: Logger | undefined): void {
  let isDown = false;
  client.on('error', (error: Error) => {
    if (!isDown) log?.warn({ code: (error as NodeJS.ErrnoException).code ?? error.name }, 'redis is not reachable');
    isDown = true;
  });
  client.on('ready', () => {
    if (isDown) log?.info('redis is reachable again');
    isDown = false;
  });
}
