/** What the operators' commands over whole streams share: one at a time, in bounded chunks, beside live traffic. */
import { randomBytes } from 'node:crypto';
import type { StreamName } from './event-id.js';
import type { Keys } from './keys.js';
import { makeLease } from './lease.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';
import { loadScript } from './scripts.js';

/** An entry without its data. */
export type SkimmedEntry = { id: string; fields: Record<string, string> };

/** Told how many entries were looked at since the last call. */
export type OnProgress = (entries: number) => void;

/** A process that was frozen may have lost its lease without knowing: what must not happen then looks at it first. */
export type Lease = { key: string; owner: string };

/** Another command that must not run beside this one is at work. */
export class BusyError extends Error {
  override readonly name = 'BusyError';
}

const LEASE_MS = 10_000;
const SCAN_COUNT = 500;
export const CHUNK = 200;

/**
 * Runs `work` while no other process trims or rebuilds: a rebuild must find every entry after its checkpoint. Throws
 * `BusyError`.
 */
export async function withMaintenanceLease<T>(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  work: (lease: Lease) => Promise<T>,
): Promise<T> {
  const key = keys.lease('maintenance');
  const owner = randomBytes(8).toString('hex');
  const lease = makeLease(redis, { key, owner, ms: LEASE_MS });
  if (!(await lease.hold())) {
    throw new BusyError('Another trim or rebuild is running, or was killed within the last 10 s');
  }
  // What ran out is not taken again: another may have had it in between, and what it did would go unseen.
  const keep = async () => void ((await redis.get(key)) === owner && (await redis.pexpire(key, LEASE_MS)));
  const keeping = setInterval(() => void keep().catch(() => {}), LEASE_MS / 3);
  try {
    return await work({ key, owner });
  } finally {
    clearInterval(keeping);
    await lease.release();
  }
}

/**
 * Walks a range of a stream, both ends included, in chunks of at most `count` and without the entries' data; with a `text`
 * those alone whose data holds it.
 */
export function makeSkim({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  const script = loadScript(redis, 'skim');
  return async function* skim(
    stream: StreamName,
    {
      from = '-',
      to = '+',
      count = CHUNK,
      text = '',
    }: { from?: string; to?: string; count?: number; text?: string } = {},
  ): AsyncGenerator<SkimmedEntry[]> {
    let start = from;
    for (;;) {
      const [isEnd, seen, flat] = (await script([keys.stream(stream)], [start, to, count, text])) as [
        number,
        string,
        [string, string[]][],
      ];
      if (flat.length > 0) yield flat.map(([id, fields]) => ({ id, fields: toRecord(fields) }));
      if (isEnd === 1) return;
      start = `(${seen}`;
    }
  };
}

/** The keys that begin with `start`, in batches; a key may come twice, as SCAN has it. */
export async function* scanKeys(redis: RedisClient, start: string): AsyncGenerator<string[]> {
  const pattern = `${start.replace(/[\\*?[\]]/g, '\\$&')}*`;
  // In a cluster the hash tag puts all keys on one node, and SCAN asks the node it is sent to.
  const nodes = 'nodes' in redis ? (redis.nodes as (role: 'master') => RedisClient[])('master') : [redis];
  for (const node of nodes) {
    let cursor = '0';
    do {
      const [next, found] = await node.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT);
      cursor = next;
      if (found.length > 0) yield found;
    } while (cursor !== '0');
  }
}

/** Redis' time in milliseconds: the ids of entries are of this clock. */
export async function readRedisTime(redis: RedisClient): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}
