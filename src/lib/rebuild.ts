/**
 * Rebuilds what follows from the streams, with no outside call and beside live traffic. A projection is folded anew under
 * `rebuild:…`, with a position of its own, from its checkpoint on; when it has caught up it is compared with the live one
 * at the same position, and takes its place in one atomic step. A run that was killed is taken up where it stood.
 */
import { randomBytes } from 'node:crypto';
import { toCanonicalJson } from './canonical-json.js';
import { compareStreamIds } from './event-id.js';
import { type Keys, keysOfCopy } from './keys.js';
import { makeLease } from './lease.js';
import { BusyError, deleteKeys, type Lease, type OnProgress, scanKeys, withMaintenanceLease } from './maintenance.js';
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
import { type ChainsReport, rebuildChains } from './rebuild-chains.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type ProjectionReport = {
  name: string;
  states: number;
  /** States in which the live projection differed; null where it was too far behind to be compared. */
  differed: number | null;
};

export type RebuildReport = { projections: ProjectionReport[]; chains: ChainsReport };

export type RebuildOptions = {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
  idempotencyTtlS: number;
};

/** The rebuilt projection could not overtake the live one. */
export class TooBusyError extends Error {
  override readonly name = 'TooBusyError';
}

/** A live projection further behind than so many chunks is not waited for. */
const LIVE_CHUNKS_MAX = 20;
const SWAPS_MAX = 100;

/** Throws `BusyError` beside a trim or another rebuild, and `TooBusyError`; then the live projections stay as they are. */
export async function rebuild(options: RebuildOptions, onProgress: OnProgress = () => {}): Promise<RebuildReport> {
  return withMaintenanceLease(options, async (lease) => {
    const reports: ProjectionReport[] = [];
    for (const projection of options.projections) {
      reports.push(await rebuildProjection({ ...options, lease }, projection, onProgress));
    }
    return { projections: reports, chains: await rebuildChains(options, onProgress) };
  });
}

async function rebuildProjection(
  { redis, keys, lease }: RebuildOptions & { lease: Lease },
  projection: Projection,
  onProgress: OnProgress,
): Promise<ProjectionReport> {
  const copy = keysOfCopy(keys, 'rebuild');
  const checkpoint = keysOfCopy(keys, 'checkpoint');
  const { name } = projection;
  const liveStart = keys.projection(name, '');
  const rebuiltStart = copy.projection(name, '');
  const changes = copy.projection('changes', name);
  const project = makeProject({ redis, keys: copy });
  const swap = loadScript(redis, 'swap-projection');

  if (!(await canResume())) await begin();
  await redis.del(changes);
  for (let isNear = false; !isNear; ) {
    const count = await project(projection);
    onProgress(count);
    isNear = isNearEnd(count);
  }
  const report = await withProjectorLease({ redis, keys }, async () => {
    const compared = await compare();
    await swapIn();
    return { name, ...compared };
  });
  await deleteKeys(redis, rebuiltStart);
  return report;

  /**
   * A run that was killed is taken up where it stood, unless another version of the projection began it, or a trim has since
   * dropped what it had still to read.
   */
  async function canResume(): Promise<boolean> {
    if ((await redis.exists(copy.projector(name))) === 0) return false;
    const rebuilt = await readSaved(redis, copy, projection);
    const trimmed = await readPositions(redis, checkpoint, projection);
    const isBeyond = [...trimmed].every(([stream, id]) => compareStreamIds(id, rebuilt.positions.get(stream)!) <= 0);
    return rebuilt.version === projection.version && isBeyond;
  }

  /**
   * Starts from the checkpoint: the entries before it may be trimmed. The position comes last, so a kill begins anew; and a
   * trim that was frozen and does not know that it lost its lease may move the checkpoint meanwhile.
   */
  async function begin(): Promise<void> {
    for (;;) {
      const start = await redis.hgetall(checkpoint.projector(name));
      assertKnown(projection, Number(start.version ?? 0));
      await discard();
      await copyStates();
      if (toCanonicalJson(await redis.hgetall(checkpoint.projector(name))) !== toCanonicalJson(start)) continue;
      const hasCheckpoint = Object.keys(start).length > 0;
      if (hasCheckpoint) await redis.hset(copy.projector(name), { ...start, version: projection.version });
      return;
    }
  }

  async function discard(): Promise<void> {
    await redis.del(copy.projector(name));
    await deleteKeys(redis, rebuiltStart);
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
      if (copies.length > 0) await redis.mset(copies);
    }
  }

  /** Notes the states that differ; under the lease the live projection moves only as far as it is moved here. */
  async function compare(): Promise<Pick<ProjectionReport, 'states' | 'differed'>> {
    const isComparable = await alignLive();
    let states = 0;
    for await (const found of scanKeys(redis, rebuiltStart)) {
      states += found.length;
      await noteDifferences(found.map((key) => key.slice(rebuiltStart.length)));
    }
    for await (const found of scanKeys(redis, liveStart)) {
      await noteDifferences(found.map((key) => key.slice(liveStart.length)));
    }
    return { states, differed: isComparable ? await redis.scard(changes) : null };
  }

  /** Brings both to one position; false where the live projection is too far behind, or of a newer version. */
  async function alignLive(): Promise<boolean> {
    if ((await readSaved(redis, keys, projection)).version > projection.version) return false;
    const projectLive = makeProject({ redis, keys });
    let chunks = 0;
    while (!isNearEnd(await projectLive(projection))) {
      chunks += 1;
      if (chunks === LIVE_CHUNKS_MAX) return false;
    }
    const live = await readPositions(redis, keys, projection);
    while ((await project(projection, live)) > 0);
    const rebuilt = await readPositions(redis, copy, projection);
    return JSON.stringify([...rebuilt]) === JSON.stringify([...live]);
  }

  async function noteDifferences(ids: readonly string[]): Promise<void> {
    const [rebuilt, live] = await Promise.all(
      [copy, keys].map((of) => redis.mget(ids.map((id) => of.projection(name, id)))),
    );
    const differing = ids.filter((_, index) => rebuilt![index] !== live![index]);
    if (differing.length > 0) await redis.sadd(changes, ...differing);
  }

  async function swapIn(): Promise<void> {
    const streams = [...(await readPositions(redis, copy, projection)).keys()];
    const names = [
      keys.projector(name),
      copy.projector(name),
      changes,
      lease.key,
      ...streams.map((stream) => keys.stream(stream)),
    ];
    for (let i = 0; i < SWAPS_MAX; i += 1) {
      const answer = await swap(names, [keys.prefix, name, lease.owner, ...streams]);
      if (answer === 1) return;
      if (answer === -1)
        throw new BusyError('This process was held up for so long that another one may trim or rebuild');
      await projectTail();
    }
    throw new TooBusyError('The live projection could not be overtaken; run it again at a quieter time');
  }

  /** Folds the next entries; what they touch is taken over without being compared. */
  async function projectTail(): Promise<number> {
    const touched = new Set<string>();
    const count = await project({
      ...projection,
      evolve(state, event, id) {
        touched.add(id);
        return projection.evolve(state, event, id);
      },
    });
    if (touched.size > 0) await redis.sadd(changes, ...touched);
    return count;
  }
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
