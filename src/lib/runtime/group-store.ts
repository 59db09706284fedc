/**
 * What one consumer group asks of Redis. Each verb is one round trip; every write is safe to send twice and only touches
 * entries that this consumer still owns.
 */
import type { Provider } from '../errors.js';
import { compareStreamIds, parseEventId, type StreamName } from '../event-id.js';
import { type GroupName, streamsOf } from '../events.js';
import type { Keys } from '../keys.js';
import type { RedisClient } from '../redis.js';
import { loadScript } from '../scripts.js';
import { type Entry, parseRecord, toEntry, toRecord } from './entry.js';

/** The providers in the order in which the scripts are told of them. */
const PROVIDERS: readonly Provider[] = ['gemini', 'zoho', 'slack'];

export type Due = { now: number; nextDueAt: number | undefined; entries: Entry[] };

export type GroupStore = ReturnType<typeof makeGroupStore>;

type FlatEntries = Parameters<typeof toEntry>[1][];

export function makeGroupStore(options: {
  redis: RedisClient;
  /** Used for blocking reads alone. */
  blocking: RedisClient;
  keys: Keys;
  group: GroupName;
  consumer: string;
  /** Redis time in ms. */
  now: () => number;
}) {
  const { redis, blocking, keys, group, consumer } = options;
  const streams = streamsOf(group);
  const reportsLoss = group === 'alert' ? 0 : 1;
  const take = loadScript(redis, 'take');
  const takeDueScript = loadScript(redis, 'take-due');
  const reclaimScript = loadScript(redis, 'reclaim');
  const keepScript = loadScript(redis, 'keep');
  const handBackScript = loadScript(redis, 'hand-back');
  const removeConsumerScript = loadScript(redis, 'remove-consumer');

  return {
    group,
    streams,

    /** Creates the group at the start of its streams where it is missing: `$` would skip what came before. */
    async ensureGroups(): Promise<void> {
      for (const stream of streams) {
        await redis.xgroup('CREATE', keys.stream(stream), group, '0', 'MKSTREAM').catch((error: Error) => {
          if (!error.message.startsWith('BUSYGROUP')) throw error;
        });
      }
    },

    /** New entries of one stream, at most `count`, at once. */
    async takeNew(stream: StreamName, count: number): Promise<Entry[]> {
      const flat = (await take([keys.stream(stream)], [group, consumer, count, keys.prefix])) as FlatEntries;
      return flat.map((entry) => toEntry(stream, entry, options.now()));
    },

    /** Waits until a new entry comes, at most `blockMs`; one entry of each stream at the most. */
    async waitForNew(blockMs: number): Promise<Entry[]> {
      const names = streams.map((stream) => keys.stream(stream));
      const reply = (await blocking.xreadgroup(
        ...([
          'GROUP',
          group,
          consumer,
          'COUNT',
          1,
          'BLOCK',
          blockMs,
          'STREAMS',
          ...names,
          ...names.map(() => '>'),
        ] as unknown as Parameters<typeof blocking.xreadgroup>),
      )) as [string, [string, string[]][]][] | null;
      const entries = (reply ?? []).flatMap(([name, items]) => {
        const stream = streams[names.indexOf(name)]!;
        return items.map(([id, flat]) => toEntry(stream, [id, flat, 0], options.now()));
      });
      await markDone(entries);
      return entries;
    },

    /** Parked entries that are due, and waiting ones whose provider is up or is to be probed. */
    async takeDue(limit: number): Promise<Due> {
      const providerKeys = PROVIDERS.flatMap((provider) => [keys.pause(provider), keys.waiting(group, provider)]);
      const [now, nextDue, taken] = (await takeDueScript(
        [keys.parked(group), keys.attempts(group), ...providerKeys],
        [group, consumer, limit, keys.prefix, reportsLoss, ...PROVIDERS],
      )) as [number, number, [string, string[], number, string, string][]];
      const entries = taken.map(([eventId, flat, done, record, probes]) => {
        const ref = parseEventId(eventId)!;
        return {
          ...toEntry(ref.stream, [ref.id, flat, done, 1, record], now),
          probes: (probes || undefined) as Provider | undefined,
        };
      });
      return { now, nextDueAt: nextDue < 0 ? undefined : nextDue, entries };
    },

    /** Entries idle for `idleMs`, from `cursor` on; `0-0` as the next cursor means that the end was reached. */
    async reclaim(stream: StreamName, { idleMs, cursor, count }: { idleMs: number; cursor: string; count: number }) {
      const short = stream.slice('events:'.length);
      const [next, flat, vanished] = (await reclaimScript(
        [keys.stream(stream), keys.attempts(group)],
        [group, consumer, idleMs, cursor, count, keys.prefix, reportsLoss, short],
      )) as [string, FlatEntries, string[]];
      return { cursor: next, entries: flat.map((entry) => toEntry(stream, entry, options.now())), vanished };
    },

    /** Resets the idle time of what this consumer holds. Returns the ids whose claim is lost. */
    async keep(stream: StreamName, ids: readonly string[]): Promise<string[]> {
      return (await keepScript([keys.stream(stream)], [group, consumer, ...sorted(ids)])) as string[];
    },

    /** Gives entries to whoever reclaims next, without counting the delivery. */
    async handBack(stream: StreamName, ids: readonly string[]): Promise<number> {
      return (await handBackScript([keys.stream(stream)], [group, consumer, ...sorted(ids)])) as number;
    },

    /** True for one worker in each span of time. */
    async leaseTick(ms: number): Promise<boolean> {
      return (await redis.set(keys.lease(`tick:${group}`), consumer, 'PX', ms, 'NX')) === 'OK';
    },

    /** Takes this consumer out of the group where it holds nothing. */
    async leave(): Promise<void> {
      for (const stream of streams) await removeConsumerScript([keys.stream(stream)], [group, consumer]);
    },

    /** Removes consumers of dead workers that hold nothing any more. */
    async removeIdleConsumers(idleMs: number): Promise<void> {
      for (const stream of streams) {
        const consumers = (await redis.xinfo('CONSUMERS', keys.stream(stream), group)) as (string | number)[][];
        for (const info of consumers) {
          const { name, pending, idle } = toRecord(info.map(String));
          if (name !== undefined && name !== consumer && pending === '0' && Number(idle) > idleMs) {
            await removeConsumerScript([keys.stream(stream)], [group, name]);
          }
        }
      }
    },

    async readEntry(
      eventId: string,
    ): Promise<{ stream: StreamName; id: string; fields: Record<string, string> } | undefined> {
      const ref = parseEventId(eventId);
      if (ref === undefined) return undefined;
      const [found] = await redis.xrange(keys.stream(ref.stream), ref.id, ref.id);
      return found === undefined ? undefined : { ...ref, fields: toRecord(found[1]) };
    },

    async readRecord(eventId: string) {
      return parseRecord((await redis.hget(keys.attempts(group), eventId)) ?? '');
    },
  };

  async function markDone(entries: Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const marks = await redis.mget(entries.map(({ fields }) => markKey(keys, fields)));
    entries.forEach((entry, index) => {
      entry.isDone = marks[index] !== null;
    });
  }
}

/** The mark that says the pipeline is done with an entry's event; a forced replay has one of its own. */
export function markKey(keys: Keys, fields: Readonly<Record<string, string>>): string {
  const mark = keys.idemProcessed(fields.key ?? '');
  return fields.replay === undefined ? mark : `${mark}:replay:${fields.replay}`;
}

function sorted(ids: readonly string[]): string[] {
  return [...ids].sort(compareStreamIds);
}
