/**
 * What one consumer group asks of Redis for its entries. Each verb is one round trip; every write is safe to send twice and
 * only touches entries that this consumer still owns.
 */
import { PROVIDERS, type Provider } from '../errors.js';
import { compareStreamIds, parseEventId, type StreamName } from '../event-id.js';
import { GROUPS, type GroupName, streamsOf } from '../events.js';
import type { Keys } from '../keys.js';
import type { RedisClient } from '../redis.js';
import { loadScript } from '../scripts.js';
import { type Entry, type FlatEntry, toEntry, toRecord } from './entry.js';

/** How many entries may be handed out: to the usual slots, and to the one for suspects. */
export type Room = { free: number; alone: number };

/** `entries` may be empty where there is more to be looked at (`again`), or where that must wait a moment (`hold`). */
export type Taken = { entries: Entry[]; next: 'again' | 'hold' | 'end' };
/** `waitsForRoom`: some wait for nothing but a slot of those that need their provider. */
export type Due = {
  now: number;
  nextDueAt: number | undefined;
  entries: Entry[];
  waitsForRoom: boolean;
  /** Event ids. */
  vanished: string[];
};
/** How many more entries may need a provider now, and whether one may that probes it. */
export type ProviderRoom = { usual: number; mayProbe: boolean };
export type Found = { entries: Entry[]; vanished: string[]; left: number };
/** `left` of suspects alone; `isBehind`: others were left behind for want of room. */
export type Reclaimed = Found & { cursor: string; isBehind: boolean };

export type GroupStore = ReturnType<typeof makeGroupStore>;

export type GroupStoreOptions = {
  redis: RedisClient;
  keys: Keys;
  group: GroupName;
  consumer: string;
  /** Redis time in ms. */
  now: () => number;
  visibilityTimeoutMs: number;
  /** Crashes after which an entry that crashed its worker alone may be condemned. */
  crashesMax: number;
};

export function makeGroupStore(options: GroupStoreOptions) {
  const { redis, keys, group, consumer, now, visibilityTimeoutMs, crashesMax } = options;
  const streams = streamsOf(group);
  const reportsLoss = group === 'alert' ? 0 : 1;
  const scripts = {
    take: loadScript(redis, 'take'),
    takeDue: loadScript(redis, 'take-due'),
    reclaim: loadScript(redis, 'reclaim'),
    adopt: loadScript(redis, 'adopt'),
    keep: loadScript(redis, 'keep'),
    restoreClaims: loadScript(redis, 'restore-claims'),
    noteStart: loadScript(redis, 'note-start'),
    handBack: loadScript(redis, 'hand-back'),
  };
  const working = [keys.attempts(group), keys.strikes(group)];
  /** Up to where each stream was read: a cursor behind it was moved. Where it is not known it is looked up. */
  const known = new Map<StreamName, string>();
  /** Where the group was when it was last found with nothing new. */
  const ends = new Map<StreamName, string>(streams.map((stream) => [stream, '0-0']));
  let turn = 0;
  let dueTurn = 0;

  return {
    group,
    streams,

    /** New entries over all streams, beginning with another stream each time so that none starves. */
    async takeNew({ free, alone }: Room): Promise<Taken> {
      turn += 1;
      const rotated = streams.map((_, index) => streams[(turn + index) % streams.length]!);
      const reply = (await scripts.take(
        [keys.cursors(group), ...working, ...rotated.map((stream) => keys.stream(stream))],
        [group, consumer, free, keys.prefix, alone, ...rotated.flatMap((name) => [name, known.get(name) ?? ''])],
      )) as string | [number, FlatEntry][];
      if (typeof reply === 'string') return { entries: [], next: readNext(rotated, reply) };
      const entries = reply.map(([place, flat]) => {
        noteRead(rotated[place]!, flat);
        return toEntry(rotated[place]!, flat, now());
      });
      return { entries, next: 'again' };
    },

    /** From where on an entry is new to the group, for each stream, as last found by `takeNew`. */
    ends: (): ReadonlyMap<StreamName, string> => ends,

    /** Parked entries that are due, and waiting ones whose provider is up or is to be probed, in turns. */
    async takeDue({ free, alone }: Room, roomFor: (provider: Provider) => ProviderRoom): Promise<Due> {
      dueTurn += 1;
      const providerKeys = PROVIDERS.flatMap((provider) => [keys.pause(provider), keys.waiting(group, provider)]);
      const rooms = PROVIDERS.flatMap((provider) => {
        const { usual, mayProbe } = roomFor(provider);
        return [provider, Math.min(usual, free), mayProbe ? 1 : 0];
      });
      const [redisNow, nextDue, taken, waitsForRoom, vanished] = (await scripts.takeDue(
        [keys.parked(group), ...working, keys.cursors(group), ...providerKeys],
        [group, consumer, free, keys.prefix, reportsLoss, alone, dueTurn, ...rooms],
      )) as [number, number, [string, string[], number, string, string, string][], number, string[]];
      const entries = taken.map(([eventId, flat, done, record, strikes, probes]) => {
        const ref = parseEventId(eventId)!;
        return {
          ...toEntry(ref.stream, [ref.id, flat, done, record, strikes], redisNow),
          probes: (probes || undefined) as Provider | undefined,
        };
      });
      const nextDueAt = nextDue < 0 ? undefined : nextDue;
      return { now: redisNow, nextDueAt, entries, waitsForRoom: waitsForRoom === 1, vanished };
    },

    /** Entries that nobody keeps alive, from `cursor` on; `0-0` as the next cursor means that the end was reached. */
    async reclaim(stream: StreamName, cursor: string, { free, alone }: Room): Promise<Reclaimed> {
      const [next, flat, [vanished, left, isBehind]] = (await scripts.reclaim(
        [keys.stream(stream), keys.attempts(group), keys.alive(group), keys.strikes(group)],
        [
          ...[group, consumer, visibilityTimeoutMs, cursor, free, keys.prefix],
          ...[reportsLoss, shortOf(stream), alone, crashesMax, GROUPS.join(',')],
        ],
      )) as [string, FlatEntry[], [string[], number, number]];
      const entries = flat.map((entry) => toEntry(stream, entry, now()));
      return { cursor: next, entries, vanished, left, isBehind: isBehind === 1 };
    },

    /** What is pending to this consumer but for `held`: the reply that handed it out was lost. */
    async adopt(stream: StreamName, held: readonly string[], { free, alone }: Room): Promise<Found> {
      const [flat, vanished, left] = (await scripts.adopt(
        [keys.stream(stream), ...working],
        [group, consumer, free, keys.prefix, reportsLoss, shortOf(stream), alone, ...held],
      )) as [FlatEntry[], string[], number];
      return { entries: flat.map((entry) => toEntry(stream, entry, now())), vanished, left };
    },

    /** Says that this consumer lives, and keeps its claims. Returns the event ids that it has no claim on. */
    async keep(held: ReadonlyMap<StreamName, readonly string[]>): Promise<string[]> {
      const perStream = streams.flatMap((stream) => {
        const ids = sorted(held.get(stream) ?? []);
        return [shortOf(stream), ids.length, ...ids];
      });
      return (await scripts.keep(
        [keys.alive(group), ...streams.map((stream) => keys.stream(stream))],
        [group, consumer, visibilityTimeoutMs, keys.prefix, GROUPS.join(','), ...perStream],
      )) as string[];
    },

    /** Claims anew what nobody has a claim on. Returns the event ids for which that could not be. */
    async restoreClaims(eventIds: readonly string[]): Promise<string[]> {
      return (await scripts.restoreClaims(
        [keys.attempts(group)],
        [group, consumer, keys.prefix, ...eventIds],
      )) as string[];
    },

    /** Notes that an entry which was in a crash before begins to run; or says how long it must wait (ms). */
    async noteStart({ stream, id, eventId }: Entry, state: 'begun' | 'alone'): Promise<'noted' | 'lost' | number> {
      const answer = (await scripts.noteStart(
        [keys.stream(stream), keys.strikes(group), keys.alive(group)],
        [group, consumer, id, eventId, state],
      )) as number;
      if (answer < 0) return -answer;
      return answer === 1 ? 'noted' : 'lost';
    },

    /** Notes that it does not run any more, though it is still to be done. */
    async noteStopped({ stream, id, eventId }: Entry): Promise<true> {
      await scripts.noteStart(
        [keys.stream(stream), keys.strikes(group), keys.alive(group)],
        [group, consumer, id, eventId, 'stopped'],
      );
      return true;
    },

    /** Gives entries to whoever reclaims next, without counting the delivery. */
    async handBack(stream: StreamName, ids: readonly string[]): Promise<number> {
      return (await scripts.handBack([keys.stream(stream)], [group, consumer, ...sorted(ids)])) as number;
    },

    async readEntry(
      eventId: string,
    ): Promise<{ stream: StreamName; id: string; fields: Record<string, string> } | undefined> {
      const ref = parseEventId(eventId);
      if (ref === undefined) return undefined;
      const [found] = await redis.xrange(keys.stream(ref.stream), ref.id, ref.id);
      return found === undefined ? undefined : { ...ref, fields: toRecord(found[1]) };
    },
  };

  /** An entry that was looked at one by one says that the cursor is behind: what was known of it counts no more. */
  function noteRead(stream: StreamName, [id, , , record]: FlatEntry): void {
    if (record === undefined) known.set(stream, id);
    else known.delete(stream);
  }

  function readNext(rotated: readonly StreamName[], reply: string): Taken['next'] {
    if (reply === 'again' || reply === 'hold') {
      known.clear();
      return reply;
    }
    reply.split(' ').forEach((id, index) => {
      ends.set(rotated[index]!, id);
      known.set(rotated[index]!, id);
    });
    return 'end';
  }
}

/** The mark that says the pipeline is done with an entry's event; a forced replay has one of its own. */
export function markKey(keys: Keys, fields: Readonly<Record<string, string>>): string {
  const mark = keys.idemProcessed(fields.key ?? '');
  return fields.replay === undefined ? mark : `${mark}:replay:${fields.replay}`;
}

function shortOf(stream: StreamName): string {
  return stream.slice('events:'.length);
}

function sorted(ids: readonly string[]): string[] {
  return [...ids].sort(compareStreamIds);
}
