/** How the pipeline stands: streams, groups, what waits and what failed. Read by `gvi status`, `/debug/info` and `/metrics`. */
import { type AbandonedGroup, findAbandonedGroups } from './abandoned-groups.js';
import { PROVIDERS, type Provider } from './errors.js';
import { type StreamName, streamIdTime } from './event-id.js';
import { GROUPS, type GroupName, STREAMS, streamsOf } from './events.js';
import type { Keys } from './keys.js';
import { countOpenFailures } from './open-failures.js';
import { readPutOff } from './put-off.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';
import { parseLag, readUnread } from './unread.js';

export type StreamState = { length: number; lastId: string };
export type GroupState = {
  /** Entries not yet handed out, see `unread.ts`; `lag` is the same by the name that Redis gives it. */
  backlog: number;
  lag: number;
  /** Handed out and not settled. */
  pending: number;
  /** Waiting for their next attempt, or for a provider. */
  parked: number;
  /** Failed for good and neither redriven nor delivered again since. */
  failed: number;
  /** Age of the oldest entry that is not done, 0 where there is none. */
  oldestAgeMs: number;
};
export type PauseState = { provider: Provider; kind: string; reason: string; since: string };
export type Overview = {
  streams: Record<string, StreamState>;
  groups: Record<string, GroupState>;
  pauses: PauseState[];
  /** Groups that nobody serves. */
  abandoned: AbandonedGroup[];
};

export type CountFailed = () => Promise<ReadonlyMap<GroupName, number>>;

/** `countFailed`: where there is a cheaper way to know what stands failed than to look at each, or nobody asks. */
export async function readOverview({
  redis,
  keys,
  countFailed = () => countOpenFailures({ redis, keys }),
}: {
  redis: RedisClient;
  keys: Keys;
  countFailed?: CountFailed | undefined;
}): Promise<Overview> {
  const [streams, failed, pauses, abandoned] = await Promise.all([
    Promise.all(STREAMS.map((stream) => readStream(redis, keys, stream))),
    countFailed(),
    readPauses(redis, keys),
    findAbandonedGroups({ redis, keys }),
  ]);
  const groups = await Promise.all(GROUPS.map((group) => readGroup(redis, keys, group, failed.get(group) ?? 0)));
  return {
    streams: Object.fromEntries(STREAMS.map((stream, index) => [stream, streams[index]!])),
    groups: Object.fromEntries(GROUPS.map((group, index) => [group, groups[index]!])),
    pauses,
    abandoned,
  };
}

/** A worker says several times a second that it lives. */
export const DEAD_MS = 60_000;

/** Whether a worker of the group lives. `now` is Redis' time. */
export async function isServed(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  group: GroupName,
  now: number,
): Promise<boolean> {
  const last = await redis.hget(keys.alive(group), '*last');
  return last !== null && now - Number(last) < DEAD_MS;
}

async function readStream(redis: RedisClient, keys: Keys, stream: StreamName): Promise<StreamState> {
  const [length, last] = await Promise.all([
    redis.xlen(keys.stream(stream)),
    redis.xrevrange(keys.stream(stream), '+', '-', 'COUNT', 1),
  ]);
  return { length, lastId: last[0]?.[0] ?? '0-0' };
}

async function readGroup(redis: RedisClient, keys: Keys, group: GroupName, failed: number): Promise<GroupState> {
  const parts = await Promise.all(streamsOf(group).map((stream) => readGroupOfStream(redis, keys, group, stream)));
  const [now, putOff] = await Promise.all([readTime(redis), readPutOff({ redis, keys }, group)]);
  const backlog = sum(parts.map((part) => part.backlog));
  const times = [...parts.map(({ oldestAt }) => oldestAt), putOff.oldestAt()].filter((at) => at !== undefined);
  return {
    backlog,
    lag: backlog,
    pending: sum(parts.map((part) => part.pending)),
    parked: putOff.count,
    failed,
    oldestAgeMs: times.length === 0 ? 0 : Math.max(0, now - Math.min(...times)),
  };
}

async function readGroupOfStream(redis: RedisClient, keys: Keys, group: GroupName, stream: StreamName) {
  const infos = (await redis.xinfo('GROUPS', keys.stream(stream)).catch(() => [])) as (string | number | null)[][];
  const info = infos.map((flat) => toRecord(flat.map(String))).find(({ name }) => name === group);
  const delivered = info?.['last-delivered-id'] ?? '0-0';
  const [summary, unread] = await Promise.all([
    redis.xpending(keys.stream(stream), group).catch(() => [0, null]) as Promise<[number, string | null]>,
    readUnread({ redis, keys }, stream, { delivered, lag: parseLag(info?.lag) }),
  ]);
  const ids = [summary[1], unread.first].filter((id): id is string => typeof id === 'string');
  return {
    backlog: unread.count,
    pending: Number(summary[0]),
    oldestAt: ids.length === 0 ? undefined : Math.min(...ids.map(streamIdTime)),
  };
}

async function readPauses(redis: RedisClient, keys: Keys): Promise<PauseState[]> {
  const found = await Promise.all(PROVIDERS.map((provider) => redis.hgetall(keys.pause(provider))));
  return PROVIDERS.flatMap((provider, index) => {
    const { kind, reason, since } = found[index]!;
    return since === undefined ? [] : [{ provider, kind: kind ?? '', reason: reason ?? '', since }];
  });
}

async function readTime(redis: RedisClient): Promise<number> {
  const [seconds] = await redis.time();
  return Number(seconds) * 1000;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
