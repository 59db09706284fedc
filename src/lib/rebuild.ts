/**
 * Rebuilds what follows from the streams, with no outside call and beside live traffic: each projection anew beside the live
 * one (`rebuild-projection.ts`), then `progress:*` and `idem:*` in their places (`rebuild-chains.ts`).
 */
import type { StreamName } from './event-id.js';
import { STREAMS } from './events.js';
import { keysOfCopy } from './keys.js';
import { type OnProgress, withMaintenanceLease } from './maintenance.js';
import { streamsHeardBy } from './projector.js';
import { type ChainsOptions, type ChainsReport, countPasses, rebuildChains } from './rebuild-chains.js';
import { type ProjectionReport, type RebuildOptions, rebuildProjection } from './rebuild-projection.js';

export { TooBusyError } from './rebuild-projection.js';
export { NoRoomError } from './rebuild-room.js';

export type RebuildReport = { projections: ProjectionReport[]; chains: ChainsReport };

/**
 * Throws `BusyError` beside a trim or another rebuild, `NoRoomError`, `TooBusyError`, and `NotYetError` where a newer version
 * was at work; then the live projections stay as they are. `onBegin` is told once nothing else may trim or rebuild.
 */
export async function rebuild(
  options: RebuildOptions & ChainsOptions,
  onProgress: OnProgress = () => {},
  onBegin: () => Promise<void> = async () => {},
): Promise<RebuildReport> {
  return withMaintenanceLease(options, async (lease) => {
    await onBegin();
    const reports: ProjectionReport[] = [];
    for (const projection of options.projections) {
      reports.push(await rebuildProjection({ ...options, lease }, projection, onProgress));
    }
    return { projections: reports, chains: await rebuildChains(options, onProgress) };
  });
}

export const REBUILD_COMMAND = 'npm run -s gvi -- rebuild';

/**
 * Whether one was killed, and what it had built stands beside the live states. It is told by how far that is folded, which
 * costs a look: one that was killed before it folded anything, or within the last seconds, is not told of.
 */
export async function isRebuildInterrupted({ redis, keys, projections }: RebuildOptions): Promise<boolean> {
  const copy = keysOfCopy(keys, 'rebuild');
  const [begun, running] = await Promise.all([
    redis.exists(projections.map(({ name }) => copy.projector(name))),
    redis.exists(keys.lease('maintenance')),
  ]);
  return begun > 0 && running === 0;
}

/** About how many entries `onProgress` will be told of: each counts as often as it is read, and once when it is restored. */
export async function countRebuildSteps({ redis, keys, projections }: RebuildOptions): Promise<number> {
  const lengths = new Map(
    await Promise.all(STREAMS.map(async (stream) => [stream, await redis.xlen(keys.stream(stream))] as const)),
  );
  const sum = (streams: readonly StreamName[]) => streams.reduce((total, stream) => total + lengths.get(stream)!, 0);
  const folded = projections.map((projection) => sum(streamsHeardBy(projection)));
  const entries = sum(STREAMS);
  return folded.reduce((total, count) => total + count, 0) + entries * (countPasses(entries) + 1);
}
