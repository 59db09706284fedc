/**
 * Keeps the projections: folds over the streams whose state is saved together with the position it was folded to, so that
 * a crash, a replay from zero and a resume all give the same answer. It is no consumer group; it runs in any worker, in
 * one at a time by a lease.
 *
 * A projection is one file: what it hears, which states an event changes, and a pure fold. Entries of one stream come in
 * order; between streams the fold must not depend on the order. A state is saved as canonical JSON: equal states are equal
 * bytes, whichever way they were folded.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { toCanonicalJson } from './canonical-json.js';
import { decodeEntry } from './codec.js';
import { NotYetError, TerminalError } from './errors.js';
import { compareStreamIds, type StreamName } from './event-id.js';
import { catalogue, type EventType, type StoredEvent } from './events.js';
import type { Keys } from './keys.js';
import { makeLease } from './lease.js';
import { BusyError, type Lease } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { toRecord } from './runtime/entry.js';
import { loadScript } from './scripts.js';
import { isSwapping, makeFinishSwap } from './swap.js';

export type Projection<State = unknown> = {
  /** Also the first part of its keys: `<name>:<id>`. */
  name: string;
  /** Raised with every change of what `ids` or `evolve` answer: what an older release has begun to rebuild is begun anew. */
  version: number;
  on: readonly EventType[];
  /** The states that an event changes, by id; none where it does not concern the projection. */
  ids: (event: StoredEvent) => readonly string[];
  /** Pure and total: what it reads has happened. */
  evolve: (state: State | undefined, event: StoredEvent, id: string) => State;
  /**
   * Needed with the first change of a state's shape: brings a state of any former version up to this one, and leaves one of
   * this version as it is. What was folded from entries that are trimmed by now cannot be folded anew.
   */
  upcast?: (state: unknown) => State;
};

export type Projector = { stop: () => Promise<void> };

const CHUNK = 500;
/** So many states are changed by one save, unless one event alone changes more. */
const STATES_MAX = 5_000;
const IDLE_MS = 400;
/** Between two chunks: time for those who do the work. */
const BUSY_MS = 20;
const LEASE_LOST = 'Another trim or rebuild may be running: run it again';
/** When the worker that holds it dies, another one has the projections at rest within two seconds. */
export const PROJECTOR_LEASE_MS = 1_200;

export function startProjector(options: {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
  owner: string;
  log: Logger;
}): Projector {
  const { redis, keys, projections, owner, log } = options;
  const stopping = new AbortController();
  const lease = makeLease(redis, { key: keys.lease('projector'), owner, ms: PROJECTOR_LEASE_MS });
  const project = makeProject({ redis, keys });
  const loop = run();
  return {
    async stop() {
      stopping.abort();
      await loop;
    },
  };

  async function run(): Promise<void> {
    let isFailing = false;
    while (!stopping.signal.aborted) {
      try {
        const count = await projectAll();
        isFailing = false;
        await sleep(count === 0 ? IDLE_MS : BUSY_MS, undefined, { signal: stopping.signal }).catch(() => {});
      } catch (error) {
        if (!isFailing) log.warn({ err: error }, 'projector failed; trying again');
        isFailing = true;
        // What a newer version wrote: a worker that knows it must be able to take over.
        if (error instanceof NotYetError) await giveUpLease();
        const waitMs = error instanceof NotYetError ? PROJECTOR_LEASE_MS : IDLE_MS;
        await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => {});
      }
    }
    await giveUpLease();
  }

  async function giveUpLease(): Promise<void> {
    await lease.release().catch(() => {});
  }

  /** The lease is asked for before each step: it is shorter than many steps. Returns the most entries of a step. */
  async function projectAll(): Promise<number> {
    let most = 0;
    for (const projection of projections) {
      if (await lease.hold()) most = Math.max(most, await project(projection));
    }
    return most;
  }
}

/**
 * Makes the step that folds the next entries into a projection, none beyond `until`; it returns how many there were.
 * Beside live traffic there may always be one more: `isNearEnd` says when to leave off. A rebuild names its lease: without
 * it, or where its states are being swapped in, the step throws `BusyError`.
 */
export function makeProject({
  redis,
  keys,
  lease,
}: {
  redis: RedisClient;
  keys: Keys;
  lease?: Lease;
}): (projection: Projection, until?: ReadonlyMap<StreamName, string>) => Promise<number> {
  const script = loadScript(redis, 'project');
  const finishSwap = makeFinishSwap({ redis, keys });

  return async (projection, until) => {
    let saved = await readForStep(projection);
    assertKnown(projection, saved.version);
    const found = await readAfter(redis, keys, saved.positions);
    const batch = until === undefined ? found : found.filter((entry) => isWithin(entry, until));
    for (const part of inParts(batch.map((entry) => hear(projection, entry)))) {
      const next = { ...saved, version: projection.version, positions: new Map(saved.positions) };
      for (const { stream, id } of part) next.positions.set(stream, id);
      if (!(await save(projection, await fold(projection, part), saved, next))) break;
      saved = next;
    }
    return batch.length;
  };

  /** A swap that its rebuild did not live to end is ended first. */
  async function readForStep(projection: Projection): Promise<Basis> {
    for (;;) {
      // Before the rest: a swap that begins in between makes the save fail.
      const swaps = (await redis.hget(keys.swaps(), projection.name)) ?? '';
      if (!isSwapping(swaps)) return { ...(await readSaved(redis, keys, projection)), swaps };
      if (lease !== undefined) throw new BusyError(LEASE_LOST);
      await finishSwap(projection.name);
    }
  }

  async function fold(projection: Projection, part: readonly Heard[]): Promise<Map<string, unknown>> {
    const ids = [...new Set(part.flatMap((heard) => heard.ids))];
    const states = new Map<string, unknown>();
    if (ids.length === 0) return states;
    const saved = await redis.mget(ids.map((id) => keys.projection(projection.name, id)));
    ids.forEach((id, index) => {
      const json = saved[index];
      if (typeof json === 'string') states.set(id, parseState(projection, json));
    });
    for (const { event, ids } of part) {
      for (const id of ids) states.set(id, projection.evolve(states.get(id), event!, id));
    }
    return states;
  }

  /** False where the projection is not as it was read any more. */
  async function save(
    { name }: Projection,
    states: ReadonlyMap<string, unknown>,
    from: Basis,
    to: Saved,
  ): Promise<boolean> {
    const moves = [...from.positions].flatMap(([stream, at]) => [stream, at, to.positions.get(stream)!]);
    const expected = [name, lease?.owner ?? '', from.swaps, from.version, to.version, from.positions.size, ...moves];
    const guards = [keys.swaps(), lease?.key ?? keys.lease('maintenance')];
    const answer = await script(
      [keys.projector(name), ...guards, ...[...states.keys()].map((id) => keys.projection(name, id))],
      [...expected, ...[...states.values()].map(toCanonicalJson)],
    );
    if (answer === -1) throw new BusyError(LEASE_LOST);
    return answer === 1;
  }
}

/** What a step began with; `swaps`: see `Keys`. */
type Basis = Saved & { swaps: string };

/** An entry as the projection hears it: which states it changes, none where it does not concern it. */
type Heard = { stream: StreamName; id: string; event: StoredEvent | undefined; ids: readonly string[] };

function hear(projection: Projection, entry: RawEntry): Heard {
  const { stream, id } = entry;
  const [event] = decodeOrSkip(entry);
  if (event === undefined || !projection.on.includes(event.type)) return { stream, id, event: undefined, ids: [] };
  return { stream, id, event, ids: projection.ids(event) };
}

/** One meeting may concern hundreds of people: what is saved at once is bounded by the states, not by the entries. */
function* inParts(batch: readonly Heard[]): Generator<Heard[]> {
  let part: Heard[] = [];
  let states = 0;
  for (const heard of batch) {
    if (part.length > 0 && states + heard.ids.length > STATES_MAX) {
      yield part;
      part = [];
      states = 0;
    }
    part.push(heard);
    states += heard.ids.length;
  }
  if (part.length > 0) yield part;
}

/** True when a step that folded so many entries has read the streams to their ends. */
export function isNearEnd(count: number): boolean {
  return count < CHUNK;
}

function isWithin({ stream, id }: RawEntry, until: ReadonlyMap<StreamName, string>): boolean {
  return compareStreamIds(id, until.get(stream) ?? '0-0') <= 0;
}

/** Where a projection stands in each stream it hears. */
export async function readPositions(
  redis: RedisClient,
  keys: Keys,
  projection: Projection,
): Promise<Map<StreamName, string>> {
  return (await readSaved(redis, keys, projection)).positions;
}

/** `version`: of the projection that saved it last, 0 where none is known. */
export type Saved = { version: number; positions: Map<StreamName, string> };

export async function readSaved(redis: RedisClient, keys: Keys, projection: Projection): Promise<Saved> {
  const { version = '0', ...saved } = await redis.hgetall(keys.projector(projection.name));
  const positions = streamsHeardBy(projection).map((stream): [StreamName, string] => [stream, saved[stream] ?? '0-0']);
  return { version: Number(version), positions: new Map(positions) };
}

/** Throws `NotYetError` for what a newer release has saved: this one must not fold into states that it does not know. */
export function assertKnown({ name, version }: Projection, saved: number): void {
  if (saved <= version) return;
  throw new NotYetError(`The projection ${name} was saved by a newer version of this service`, {
    delayMs: PROJECTOR_LEASE_MS,
  });
}

export function parseState(projection: Projection, json: string): unknown {
  const state: unknown = JSON.parse(json);
  return projection.upcast === undefined ? state : projection.upcast(state);
}

type RawEntry = { stream: StreamName; id: string; fields: Record<string, string> };

async function readAfter(
  redis: RedisClient,
  keys: Keys,
  positions: ReadonlyMap<StreamName, string>,
): Promise<RawEntry[]> {
  const streams = [...positions.keys()];
  const names = streams.map((stream) => keys.stream(stream));
  const reply = await redis.xread('COUNT', CHUNK, 'STREAMS', ...names, ...positions.values());
  const entries = (reply ?? []).flatMap(([name, items]) => {
    const stream = streams[names.indexOf(name)]!;
    return items.map(([id, flat]) => ({ stream, id, fields: toRecord(flat) }));
  });
  return entries.sort((a, b) => compareStreamIds(a.id, b.id));
}

/**
 * None for an entry that nobody can read, which is a dead letter of its group already; throws `NotYetError` for one of a
 * newer version.
 */
export function decodeOrSkip({ stream, id, fields }: RawEntry): StoredEvent[] {
  try {
    return [decodeEntry(stream, id, fields)];
  } catch (error) {
    if (error instanceof TerminalError) return [];
    throw error;
  }
}

export function streamsHeardBy(projection: Projection): StreamName[] {
  return [...new Set(projection.on.map((type): StreamName => catalogue[type].stream))];
}
