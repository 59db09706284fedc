/**
 * Rebuilds a projection beside the live one. It is folded anew under `rebuild:…`, with a position of its own, from its
 * checkpoint on; it is compared with the live one at the same position; and what differs takes its place. A run that was
 * killed is taken up where it stood.
 *
 * SCAN walks one server alone: where Redis was restarted or failed over meanwhile, what was walked is walked again.
 */
import { randomBytes } from 'node:crypto';
import { toCanonicalJson } from './canonical-json.js';
import { compareStreamIds, type StreamName } from './event-id.js';
import { type Keys, keysOfCopy } from './keys.js';
import { makeLease } from './lease.js';
import { BusyError, type Lease, type OnProgress, scanKeys } from './maintenance.js';
import {
  assertKnown,
  isNearEnd,
  makeProject,
  PROJECTOR_LEASE_MS,
  type Projection,
  parseState,
  readPositions,
  readSaved,
} from './projector.js';
import { makeRebuildRoom } from './rebuild-room.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';
import { changesOf, makeFinishSwap } from './swap.js';

export type ProjectionReport = {
  name: string;
  states: number;
  /** States in which the live projection differed; null where it was too far behind to be compared. */
  differed: number | null;
};

type Positions = ReadonlyMap<StreamName, string>;

export type RebuildOptions = { redis: RedisClient; keys: Keys; projections: readonly Projection[] };

/** The rebuilt projection could not overtake the live one. */
export class TooBusyError extends Error {
  override readonly name = 'TooBusyError';
}

/** A live projection further behind than so many chunks is not waited for. */
const LIVE_CHUNKS_MAX = 20;
const BEGINS_MAX = 100;
const MISSING = 'A trim ran meanwhile, or may have: run it again';
const COMPARED_AT_ONCE = 500;

export async function rebuildProjection(
  { redis, keys, lease }: RebuildOptions & { lease: Lease },
  projection: Projection,
  onProgress: OnProgress,
): Promise<ProjectionReport> {
  const copy = keysOfCopy(keys, 'rebuild');
  const checkpoint = keysOfCopy(keys, 'checkpoint');
  const { name } = projection;
  const liveStart = keys.projection(name, '');
  const rebuiltStart = copy.projection(name, '');
  const changes = changesOf(keys, name);
  const project = makeProject({ redis, keys: copy, lease });
  const projectLive = makeProject({ redis, keys });
  const finishSwap = makeFinishSwap({ redis, keys });
  const room = makeRebuildRoom({ redis, keys, name });
  const beginSwap = loadScript(redis, 'begin-swap');
  const changeRebuilt = loadScript(redis, 'change-rebuilt');

  // Of a run that was killed while it swapped.
  await finishSwap(name);
  const trimmedTo = (await resume()) ?? (await begin());
  for (;;) {
    await catchUp();
    const server = await change(['UNLINK', changes]);
    const isComparable = await withProjectorLease({ redis, keys }, bringLiveNear);
    const states = isComparable ? await noteAll(differingOf) : await noteAll(async (ids) => ids);
    const done = await withProjectorLease({ redis, keys }, async () => {
      const isAligned = isComparable && (await align());
      const differed = isAligned ? await countDifferences() : null;
      return (await swapIn(server)) ? { differed } : undefined;
    });
    if (done === undefined) continue;
    await discard();
    return { name, states, ...done };
  }

  /** Returns the id of the server; in another one than `server` nothing is done. */
  async function change(command: readonly (string | number)[], server = ''): Promise<string> {
    const answer = await changeRebuilt([lease.key, keys.swaps()], [lease.owner, name, server, ...command]);
    if (answer === 'refused') throw new BusyError(MISSING);
    return answer as string;
  }

  /**
   * A run that was killed is taken up where it stood, unless another version of the projection began it, or a trim has since
   * dropped what it had still to read. Returns where the checkpoint is.
   */
  async function resume(): Promise<Positions | undefined> {
    if ((await redis.exists(copy.projector(name))) === 0) return undefined;
    const rebuilt = await readSaved(redis, copy, projection);
    const trimmed = await readPositions(redis, checkpoint, projection);
    const isBeyond = [...trimmed].every(([stream, id]) => compareStreamIds(id, rebuilt.positions.get(stream)!) <= 0);
    return rebuilt.version === projection.version && isBeyond ? trimmed : undefined;
  }

  /**
   * Starts from the checkpoint: the entries before it may be trimmed. The position comes last, so a kill begins anew; and a
   * trim that was frozen and does not know that it lost its lease may move the checkpoint meanwhile. Returns where it is.
   */
  async function begin(): Promise<Positions> {
    let server = await discard();
    await room.assertFree(await room.estimateBytes());
    for (;;) {
      const start = await readSaved(redis, checkpoint, projection);
      assertKnown(projection, start.version);
      await copyStates();
      const after = await readPositions(redis, checkpoint, projection);
      const hasMoved = [...after].some(([stream, id]) => id !== start.positions.get(stream));
      if (!hasMoved && (await setPosition(start.positions, server)) === server) return start.positions;
      server = await discard();
    }
  }

  /** Returns the id of the server, as `change` does. */
  async function setPosition(positions: Positions, server: string): Promise<string> {
    const saved = [...positions].filter(([, id]) => id !== '0-0').flat();
    // Without a checkpoint it begins where there is no position.
    if (saved.length === 0) return change(['EXISTS', copy.projector(name)], server);
    return change(['HSET', copy.projector(name), ...saved, 'version', projection.version], server);
  }

  /** Returns the id of the server, as `change` does. */
  async function discard(): Promise<string> {
    const server = await change(['UNLINK', copy.projector(name), changes]);
    for await (const found of scanKeys(redis, rebuiltStart)) await change(['UNLINK', ...found]);
    return server;
  }

  async function copyStates(): Promise<void> {
    const start = checkpoint.projection(name, '');
    for await (const found of scanKeys(redis, start)) {
      const states = await redis.mget(found);
      const copies = found.flatMap((from, index) => {
        const json = states[index];
        if (typeof json !== 'string') return [];
        return [`${rebuiltStart}${from.slice(start.length)}`, toCanonicalJson(parseState(projection, json))];
      });
      if (copies.length > 0) await change(['MSET', ...copies]);
    }
  }

  /** Folds to where the streams end. */
  async function catchUp(): Promise<void> {
    for (let isNear = false; !isNear; ) {
      const count = await project(projection);
      onProgress(count);
      isNear = isNearEnd(count);
      await stopWithoutRoom();
    }
  }

  /** What was built so far is what fills Redis. */
  async function stopWithoutRoom(): Promise<void> {
    try {
      await room.assertFree(0);
    } catch (error) {
      await discard();
      throw error;
    }
  }

  /** Folds the live projection as well, so that it can be compared; false where it is far behind, or of a newer version. */
  async function bringLiveNear(): Promise<boolean> {
    if ((await readSaved(redis, keys, projection)).version > projection.version) return false;
    for (let chunks = 0; chunks < LIVE_CHUNKS_MAX; chunks += 1) {
      const count = await projectLive(projection);
      // What it folded is not saved where another projector was faster.
      if (count === 0 || (isNearEnd(count) && (await isLiveBeyond()))) return true;
    }
    return false;
  }

  async function isLiveBeyond(): Promise<boolean> {
    const [rebuilt, live] = await Promise.all([copy, keys].map((of) => readPositions(redis, of, projection)));
    return [...rebuilt!].every(([stream, id]) => compareStreamIds(live!.get(stream)!, id) >= 0);
  }

  /**
   * Notes what `choose` says of all states, while the live projection moves on: what it folds meanwhile is folded here as
   * well, and looked at again. That holds of a live one that is as far as this one alone: one that is behind comes to what
   * this one has folded already, so states that are equal now may differ when they are swapped.
   */
  async function noteAll(choose: (ids: readonly string[]) => Promise<readonly string[]>): Promise<number> {
    let states = 0;
    for await (const found of scanKeys(redis, rebuiltStart)) {
      states += found.length;
      await note(await choose(found.map((key) => key.slice(rebuiltStart.length))));
    }
    for await (const found of scanKeys(redis, liveStart)) {
      await note(await choose(found.map((key) => key.slice(liveStart.length))));
    }
    return states;
  }

  async function differingOf(ids: readonly string[]): Promise<readonly string[]> {
    return (await compare(ids)).differing;
  }

  async function note(ids: readonly string[]): Promise<void> {
    for (let from = 0; from < ids.length; from += COMPARED_AT_ONCE) {
      await change(['ZADD', changes, ...ids.slice(from, from + COMPARED_AT_ONCE).flatMap((id) => ['0', id])]);
    }
  }

  async function compare(ids: readonly string[]): Promise<{ differing: string[]; same: string[] }> {
    const [rebuilt, live] = await Promise.all(
      [copy, keys].map((of) => redis.mget(ids.map((id) => of.projection(name, id)))),
    );
    const isSame = ids.map((_, index) => isSameState(rebuilt![index], live![index]));
    return { differing: ids.filter((_, index) => !isSame[index]), same: ids.filter((_, index) => isSame[index]) };
  }

  /** Brings both to one position, under the lease; false where the live projection is too far behind. */
  async function align(): Promise<boolean> {
    if (!(await bringLiveNear())) return false;
    const live = await readPositions(redis, keys, projection);
    while ((await projectTail(live)) > 0);
    const rebuilt = await readPositions(redis, copy, projection);
    return [...live].every(([stream, id]) => compareStreamIds(rebuilt.get(stream)!, id) <= 0);
  }

  /** Of what was noted only what differs at one position counts. */
  async function countDifferences(): Promise<number> {
    for (let from = 0; ; ) {
      const ids = await redis.zrange(changes, String(from), String(from + COMPARED_AT_ONCE - 1));
      if (ids.length === 0) return redis.zcard(changes);
      const { differing, same } = await compare(ids);
      if (same.length > 0) await change(['ZREM', changes, ...same]);
      from += differing.length;
    }
  }

  /** False where Redis is another server than when the differences were noted. */
  async function swapIn(server: string): Promise<boolean> {
    const names = [
      ...[keys.swaps(), keys.projector(name), copy.projector(name), checkpoint.projector(name), lease.key],
      ...[...trimmedTo.keys()].map((stream) => keys.stream(stream)),
    ];
    for (let i = 0; i < BEGINS_MAX; i += 1) {
      const answer = await beginSwap(names, [name, lease.owner, server, ...[...trimmedTo].flat()]);
      if (answer === -1) throw new BusyError(MISSING);
      if (answer === -2) return false;
      if (answer === 1) {
        await finishSwap(name);
        return true;
      }
      await projectTail();
    }
    throw new TooBusyError('The live projection could not be overtaken; run it again at a quieter time');
  }

  /** Folds the next entries, and notes what they touch. */
  async function projectTail(until?: Positions): Promise<number> {
    const touched = new Set<string>();
    const noting: Projection = {
      ...projection,
      evolve(state, event, id) {
        touched.add(id);
        return projection.evolve(state, event, id);
      },
    };
    const count = await project(noting, until);
    await note([...touched]);
    return count;
  }
}

/** A former release may have saved it with its members in another order. */
function isSameState(a: string | null | undefined, b: string | null | undefined): boolean {
  if (typeof a !== 'string' || typeof b !== 'string') return a === b;
  return a === b || toCanonicalJson(JSON.parse(a)) === toCanonicalJson(JSON.parse(b));
}

/** Takes the lease from the worker that projects; it gets it back afterwards, or when this process dies. */
async function withProjectorLease<T>(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  work: () => Promise<T>,
): Promise<T> {
  const key = keys.lease('projector');
  const owner = `rebuild-${randomBytes(6).toString('hex')}`;
  const lease = makeLease(redis, { key, owner, ms: PROJECTOR_LEASE_MS });
  await redis.set(key, owner, 'PX', PROJECTOR_LEASE_MS);
  const keeping = setInterval(() => void lease.hold().catch(() => {}), PROJECTOR_LEASE_MS / 4);
  try {
    return await work();
  } finally {
    clearInterval(keeping);
    await lease.release();
  }
}
