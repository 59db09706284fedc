/**
 * Groups that nobody serves: what they have not finished is never trimmed, and one day Redis is full. They are reported;
 * dropping one is for a person (`gvi drop-group`).
 */
import type { Logger } from 'pino';
import { type StreamName, streamIdTime } from './event-id.js';
import { type GroupName, readersByStream, STREAMS } from './events.js';
import type { Keys } from './keys.js';
import { readRedisTime } from './maintenance.js';
import { readPutOff } from './put-off.js';
import type { RedisClient } from './redis.js';
import { isGroupMissing } from './redis-errors.js';
import { toRecord } from './runtime/entry.js';
import { parseLag, readUnread } from './unread.js';

export type AbandonedGroup = {
  stream: StreamName;
  group: string;
  /** False for a group that this service does not have: it is told of always. */
  isKnown: boolean;
  consumers: number;
  pending: number;
  /** Entries not yet handed out, see `unread.ts`. */
  backlog: number;
  /** What it has put off, of all its streams. */
  parked: number;
  /** Age of the oldest entry that it has not finished, 0 where there is none. */
  oldestAgeMs: number;
};

type Store = { redis: RedisClient; keys: Keys };

/** A group of ours is left alone when nobody has read for it for so long, and entries of that age wait. */
const IDLE_MS = 3_600_000;

export async function findAbandonedGroups(
  { redis, keys }: Store,
  { idleMs = IDLE_MS }: { idleMs?: number } = {},
): Promise<AbandonedGroup[]> {
  const now = await readRedisTime(redis);
  const readers = readersByStream();
  const perStream = await Promise.all(
    STREAMS.map(async (stream) => {
      const groups = await readGroups({ redis, keys }, stream);
      const unmade = (readers[stream] ?? []).filter((group) => !groups.some(({ name }) => name === group));
      const described = groups.map(async (info) => {
        const { name: group } = info;
        const isKnown = isReader(readers[stream], group);
        if (isKnown && (await readIdleMs({ redis, keys }, stream, group)) <= idleMs) return undefined;
        return describe({ redis, keys }, { stream, info, now });
      });
      // Nobody has ever run for these, or somebody destroyed them: all of the stream waits for them.
      const missing = unmade.map((name) => describe({ redis, keys }, { stream, info: { ...UNMADE, name }, now }));
      return Promise.all([...described, ...missing]);
    }),
  );
  const described = perStream.flat().filter((group) => group !== undefined);
  return described.filter(({ isKnown, oldestAgeMs }) => !isKnown || oldestAgeMs > idleMs);
}

export async function tellAbandonedGroups({ redis, keys, log }: Store & { log: Logger }): Promise<void> {
  for (const found of await findAbandonedGroups({ redis, keys })) {
    const { stream, group, isKnown, pending, backlog, parked, oldestAgeMs } = found;
    if (pending + backlog + parked === 0) continue;
    log.warn(
      { stream, group, pending, backlog, parked, oldestAgeMs },
      isKnown
        ? 'nobody reads for a group: its entries are never trimmed; start a worker for it'
        : 'a group that is none of this service keeps entries from being trimmed; gvi drop-group removes it',
    );
  }
}

/** `undefined` where the stream has no such group. */
export async function describeGroup(
  { redis, keys }: Store,
  { stream, group, now }: { stream: StreamName; group: string; now: number },
): Promise<AbandonedGroup | undefined> {
  const info = (await readGroups({ redis, keys }, stream)).find(({ name }) => name === group);
  return info && describe({ redis, keys }, { stream, info, now });
}

async function describe(
  { redis, keys }: Store,
  { stream, info, now }: { stream: StreamName; info: GroupInfo; now: number },
): Promise<AbandonedGroup> {
  const { name: group, consumers } = info;
  const [summary, unread, putOff] = await Promise.all([
    redis.xpending(keys.stream(stream), group).catch(nothingPending) as Promise<[number, string | null]>,
    readUnread({ redis, keys }, stream, info),
    readPutOff({ redis, keys }, group as GroupName),
  ]);
  const ids = [summary[1], unread.first].filter((id) => typeof id === 'string');
  const times = [...ids.map(streamIdTime), putOff.oldestAt(stream)].filter((at) => at !== undefined);
  return {
    ...{ stream, group, isKnown: isReader(readersByStream()[stream], group), consumers },
    pending: Number(summary[0]),
    backlog: unread.count,
    parked: putOff.oldestAt(stream) === undefined ? 0 : putOff.count,
    oldestAgeMs: times.length === 0 ? 0 : Math.max(0, now - Math.min(...times)),
  };
}

type GroupInfo = {
  name: string;
  consumers: number;
  delivered: string;
  lag: number | undefined;
};

async function readGroups({ redis, keys }: Store, stream: StreamName): Promise<GroupInfo[]> {
  const infos = (await redis.xinfo('GROUPS', keys.stream(stream)).catch(noSuchKey)) as (string | number | null)[][];
  return infos.map((flat) => {
    const { name = '', consumers, lag, 'last-delivered-id': delivered = '0-0' } = toRecord(flat.map(String));
    return { name, consumers: Number(consumers), delivered, lag: parseLag(lag) };
  });
}

const UNMADE = { consumers: 0, delivered: '0-0', lag: undefined };

function nothingPending(error: unknown): [number, null] {
  if (isGroupMissing(error)) return [0, null];
  throw error;
}

function noSuchKey(error: Error): [] {
  if (/no such key/i.test(error.message)) return [];
  throw error;
}

/** The shortest time since one of its consumers was last heard of; without consumers for ever. */
async function readIdleMs({ redis, keys }: Store, stream: StreamName, group: string): Promise<number> {
  const infos = (await redis.xinfo('CONSUMERS', keys.stream(stream), group)) as (string | number)[][];
  return Math.min(...infos.map((flat) => Number(toRecord(flat.map(String)).idle)));
}

function isReader(readers: readonly GroupName[] | undefined, name: string): boolean {
  return (readers as readonly string[] | undefined)?.includes(name) ?? false;
}
