/** What stands failed: failed for good and neither redriven, delivered again nor replayed with success since. */
import { progressKeyOf } from './chain-facts.js';
import { tryDecodeEntry } from './codec.js';
import type { EventFailed, GroupName } from './events.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';

export type OpenFailure = EventFailed & {
  /** The `event.failed` itself. */
  failureId: string;
  at: string;
  /** The id of the replay that failed; the first time stays processed. */
  replay?: string;
};

type Store = { redis: RedisClient; keys: Keys };

const CHUNK = 500;

/** Newest first, in chunks, one for each event. */
export async function* walkOpenFailures({ redis, keys }: Store): AsyncGenerator<OpenFailure[]> {
  for await (const found of walkNewestOfEach({ redis, keys })) {
    const isOpen = await Promise.all(found.map((failure) => standsOpen({ redis, keys }, failure)));
    yield found.filter((_, index) => isOpen[index]);
  }
}

/** Newest first. */
export async function readOpenFailures(store: Store): Promise<OpenFailure[]> {
  const failures: OpenFailure[] = [];
  for await (const found of walkOpenFailures(store)) failures.push(...found);
  return failures;
}

/** However old: one that is not counted is one that nobody looks for. */
export async function countOpenFailures(store: Store): Promise<ReadonlyMap<GroupName, number>> {
  const counts = new Map<GroupName, number>();
  for await (const found of walkOpenFailures(store)) {
    for (const { group } of found) counts.set(group, (counts.get(group) ?? 0) + 1);
  }
  return counts;
}

/** The newest failure of an event is the one that may stand. */
async function* walkNewestOfEach({ redis, keys }: Store): AsyncGenerator<OpenFailure[]> {
  const seen = new Set<string>();
  let end = '+';
  for (;;) {
    const entries = await redis.xrevrange(keys.stream('events:failed'), end, '-', 'COUNT', CHUNK);
    const found = entries.flatMap(([id, flat]) => {
      const failure = toFailure(id, toRecord(flat));
      if (failure === undefined || seen.has(failure.key)) return [];
      seen.add(failure.key);
      return [failure];
    });
    if (found.length > 0) yield found;
    if (entries.length < CHUNK) return;
    end = `(${entries.at(-1)![0]}`;
  }
}

async function standsOpen({ redis, keys }: Store, failure: OpenFailure): Promise<boolean> {
  const [state, replayFailed] = await redis.hmget(keys.progress(progressKeyOf(failure)), 'state', 'replayFailed');
  return state === 'failed' || state === 'lost' || (failure.replay !== undefined && replayFailed === failure.eventId);
}

function toFailure(id: string, fields: Record<string, string>): OpenFailure | undefined {
  const event = tryDecodeEntry('events:failed', id, fields);
  if (event?.type !== 'event.failed') return undefined;
  const { replay } = fields;
  return { ...event.data, failureId: event.id, at: event.at, ...(replay === undefined ? {} : { replay }) };
}
