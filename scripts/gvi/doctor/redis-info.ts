/** What a Redis tells of itself. Hosted ones often forbid CONFIG. */
import type { RedisClient } from '../../../src/lib/redis.js';

export type RedisFacts = {
  version: string;
  role: string;
  replicas: number;
  maxmemoryPolicy: string;
  usedBytes: number;
  /** 0: no limit. */
  limitBytes: number;
  hasAppendOnlyFile: boolean;
  /** False after a write of the file failed: Redis then refuses writes. */
  isDiskWritable: boolean;
  /** `undefined` where CONFIG is forbidden. */
  appendfsync: string | undefined;
  /** The snapshot rules, empty for none; `undefined` where CONFIG is forbidden. */
  save: string | undefined;
  /** Redis' clock less ours; the time on the way is taken off. */
  clockAheadMs: number;
};

export async function readFacts(redis: RedisClient): Promise<RedisFacts> {
  const [info, appendfsync, save, clockAheadMs] = await Promise.all([
    readInfo(redis),
    readConfig(redis, 'appendfsync'),
    readConfig(redis, 'save'),
    readClock(redis),
  ]);
  const number = (name: string) => Number(info.get(name) ?? 0);
  const isGood = (name: string) => (info.get(name) ?? 'ok') === 'ok';
  return {
    version: info.get('redis_version') ?? '0',
    role: info.get('role') ?? 'master',
    replicas: number('connected_slaves'),
    maxmemoryPolicy: info.get('maxmemory_policy') ?? '',
    usedBytes: number('used_memory'),
    limitBytes: number('maxmemory'),
    hasAppendOnlyFile: info.get('aof_enabled') === '1',
    isDiskWritable: isGood('aof_last_write_status') && isGood('rdb_last_bgsave_status'),
    ...{ appendfsync, save, clockAheadMs },
  };
}

async function readInfo(redis: RedisClient): Promise<Map<string, string>> {
  const lines = (await redis.info()).split('\r\n').filter((line) => line.includes(':'));
  return new Map(
    lines.map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  );
}

async function readConfig(redis: RedisClient, name: string): Promise<string | undefined> {
  try {
    const [, value] = (await redis.config('GET', name)) as string[];
    return value;
  } catch (error) {
    if (error instanceof Error && error.name === 'ReplyError') return undefined;
    throw error;
  }
}

async function readClock(redis: RedisClient): Promise<number> {
  const before = Date.now();
  const [seconds, micros] = await redis.time();
  const after = Date.now();
  const theirs = Number(seconds) * 1000 + Number(micros) / 1000;
  if (theirs >= before && theirs <= after) return 0;
  return Math.round(theirs < before ? theirs - before : theirs - after);
}
