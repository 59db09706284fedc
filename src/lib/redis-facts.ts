/** What a Redis tells of itself. Hosted ones often forbid CONFIG, and some leave things out. */
import type { Cluster } from 'ioredis';
import { type StreamName, streamIdTime } from './event-id.js';
import { STREAMS } from './events.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';

/** What may change while it runs. */
export type RedisHealth = {
  role: string;
  /** '' where it is not told. */
  maxmemoryPolicy: string;
  usedBytes: number;
  /** 0: no limit. */
  limitBytes: number;
  /** False after a write of a file failed: Redis then refuses writes. */
  isDiskWritable: boolean;
};

export type RedisFacts = RedisHealth & {
  /** `Redis`, or `Valkey`. */
  product: string;
  version: string;
  /** A node of a cluster. */
  isCluster: boolean;
  replicas: number;
  clients: number;
  /** 0 where it is not told. */
  clientsMax: number;
  hasAppendOnlyFile: boolean;
  /** `undefined` where CONFIG is forbidden. */
  appendfsync: string | undefined;
  /** The file is not synced while it is rewritten. */
  skipsFsyncOnRewrite: boolean;
  /** The snapshot rules, empty for none; `undefined` where CONFIG is forbidden. */
  save: string | undefined;
  /** Redis' clock less ours; the time on the way is taken off. */
  clockAheadMs: number;
  /** Streams of ours whose last id lies ahead of Redis' own clock. */
  aheadStreams: { stream: StreamName; aheadMs: number }[];
};

/** In a cluster: of the node that holds our slot. */
export async function readFacts(redis: RedisClient, keys: Keys): Promise<RedisFacts> {
  const node = await nodeOf(redis, keys);
  const [info, config, clock] = await Promise.all([readInfo(node), readConfig(node), readClock(node)]);
  const number = (name: string) => Number(info.get(name) ?? 0);
  return {
    ...toHealth(info),
    product: info.get('server_name') === 'valkey' ? 'Valkey' : 'Redis',
    version: info.get('valkey_version') ?? info.get('redis_version') ?? '0',
    isCluster: info.get('redis_mode') === 'cluster' || info.get('cluster_enabled') === '1',
    replicas: number('connected_slaves'),
    clients: number('connected_clients'),
    clientsMax: number('maxclients'),
    hasAppendOnlyFile: info.get('aof_enabled') === '1',
    appendfsync: config?.appendfsync,
    skipsFsyncOnRewrite: config?.['no-appendfsync-on-rewrite'] === 'yes',
    save: config?.save,
    clockAheadMs: clock.aheadMs,
    aheadStreams: await readAheadStreams(redis, keys, clock.now),
  };
}

export async function readHealth(redis: RedisClient, keys: Keys): Promise<RedisHealth> {
  return toHealth(await readInfo(await nodeOf(redis, keys)));
}

/** Of its memory limit so much is left to those who do the work. */
const RESERVE = 0.05;

/** What a command over whole streams may still fill; negative where it is more than full, infinite without a limit. */
export async function readSpareBytes(redis: RedisClient, keys: Keys): Promise<number> {
  const { usedBytes, limitBytes } = await readHealth(redis, keys);
  return limitBytes === 0 ? Number.POSITIVE_INFINITY : limitBytes * (1 - RESERVE) - usedBytes;
}

function toHealth(info: ReadonlyMap<string, string>): RedisHealth {
  const isGood = (name: string) => (info.get(name) ?? 'ok') === 'ok';
  return {
    role: info.get('role') ?? 'master',
    maxmemoryPolicy: info.get('maxmemory_policy') ?? '',
    usedBytes: Number(info.get('used_memory') ?? 0),
    limitBytes: Number(info.get('maxmemory') ?? 0),
    isDiskWritable: isGood('aof_last_write_status') && isGood('rdb_last_bgsave_status'),
  };
}

/** What has no key would go to any node of a cluster, also to one that has nothing to do with us. */
async function nodeOf(redis: RedisClient, keys: Keys): Promise<RedisClient> {
  if (!redis.isCluster) return redis;
  const cluster = redis as unknown as Cluster;
  const [slot, ranges] = await Promise.all([cluster.cluster('KEYSLOT', keys.readiness()), cluster.cluster('SLOTS')]);
  const [, , owner] = ranges.find(([first, last]) => slot >= first && slot <= last) ?? [];
  const [host, port] = owner ?? [];
  return cluster.nodes('master').find(({ options }) => options.host === host && options.port === port) ?? redis;
}

async function readInfo(node: RedisClient): Promise<Map<string, string>> {
  const lines = (await node.info()).split('\r\n').filter((line) => line.includes(':'));
  return new Map(
    lines.map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  );
}

async function readConfig(node: RedisClient): Promise<Record<string, string> | undefined> {
  try {
    const flat = await node.config('GET', 'appendfsync', 'save', 'no-appendfsync-on-rewrite');
    return toRecord(flat as string[]);
  } catch (error) {
    if (error instanceof Error && error.name === 'ReplyError') return undefined;
    throw error;
  }
}

async function readClock(node: RedisClient): Promise<{ now: number; aheadMs: number }> {
  const before = Date.now();
  const [seconds, micros] = await node.time();
  const after = Date.now();
  const now = Number(seconds) * 1000 + Number(micros) / 1000;
  if (now >= before && now <= after) return { now, aheadMs: 0 };
  return { now, aheadMs: Math.round(now < before ? now - before : now - after) };
}

async function readAheadStreams(redis: RedisClient, keys: Keys, now: number): Promise<RedisFacts['aheadStreams']> {
  const lastIds = await Promise.all(STREAMS.map((stream) => readLastId(redis, keys.stream(stream))));
  return STREAMS.flatMap((stream, index) => {
    const aheadMs = Math.round(streamIdTime(lastIds[index]!) - now);
    return aheadMs > 0 ? [{ stream, aheadMs }] : [];
  });
}

async function readLastId(redis: RedisClient, stream: string): Promise<string> {
  try {
    const info = toRecord(((await redis.xinfo('STREAM', stream)) as unknown[]).map(String));
    return info['last-generated-id'] ?? '0-0';
  } catch (error) {
    if (error instanceof Error && /no such key/.test(error.message)) return '0-0';
    throw error;
  }
}
