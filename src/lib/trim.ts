/**
 * Drops what is old and done from the streams. An entry goes only together with its whole chain, when every entry of that
 * is older than the retention, finished in every group and folded into the projections (`scripts/trim.lua`, one atomic
 * step for each chain). One old entry that must stay keeps nothing else behind it.
 *
 * Before entries go, the projections are folded into a checkpoint of their own, where a rebuild starts.
 */

import type { StreamName } from './event-id.js';
import { readersByStream, STREAMS } from './events.js';
import { type Keys, keysOfCopy } from './keys.js';
import {
  CHUNK,
  earlier,
  makeSkim,
  type OnProgress,
  readRedisTime,
  type SkimmedEntry,
  withMaintenanceLease,
} from './maintenance.js';
import { isNearEnd, makeProject, type Projection, readPositions } from './projector.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

/**
 * Why old entries stay: a part of their chain is `young`, or in a group `undelivered`, `pending` or `waiting`;
 * `open_failure`: it stands failed, and is kept as long again; `unfolded`: a projection has not come to it;
 * `unknown`: no progress tells of its chain (`rebuild` restores it).
 */
export type KeepReason = 'young' | 'open_failure' | 'undelivered' | 'pending' | 'waiting' | 'unfolded' | 'unknown';
type Verdict = KeepReason | 'dropped' | 'gone';

export type TrimReport = {
  /** Entries that were dropped, or would be. */
  dropped: number;
  kept: Partial<Record<KeepReason, number>>;
  /** Entries before this time, ISO 8601, are old. */
  before: string;
};

type TrimOptions = {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
  retentionMs: number;
  /** Redis' time in ms, unless told otherwise. */
  now?: number | undefined;
};

/** With `isDryRun` it only counts. Throws `BusyError` beside another trim or a rebuild. */
export async function trim(
  options: TrimOptions,
  { isDryRun, onProgress = () => {} }: { isDryRun: boolean; onProgress?: OnProgress },
): Promise<TrimReport> {
  const { redis, retentionMs } = options;
  const now = options.now ?? (await readRedisTime(redis));
  const times = { oldBeforeMs: now - retentionMs, failedBeforeMs: now - 2 * retentionMs };
  const work = () => walk(options, { ...times, isDryRun, onProgress });
  return isDryRun ? work() : withMaintenanceLease(options, work);
}

async function walk(
  options: TrimOptions,
  times: { oldBeforeMs: number; failedBeforeMs: number; isDryRun: boolean; onProgress: OnProgress },
): Promise<TrimReport> {
  const { oldBeforeMs, failedBeforeMs, isDryRun, onProgress } = times;
  const { redis, keys } = options;
  if (!isDryRun) await keepCheckpoint(options);
  const plan = JSON.stringify({ readers: readersByStream(), folded: await readFolded(options, isDryRun) });
  const script = loadScript(redis, 'trim');
  const skim = makeSkim(options);
  const report: TrimReport = { dropped: 0, kept: {}, before: new Date(oldBeforeMs).toISOString() };

  for (const stream of STREAMS) {
    for await (const entries of skim(stream, { to: String(oldBeforeMs - 1), count: CHUNK })) {
      // Sent together they go in one write; a chain is dropped once, its other entries are then gone.
      for (const [verdict, count] of await Promise.all(entries.map((entry) => ask(stream, entry)))) {
        if (verdict === 'dropped') report.dropped += count;
        else if (verdict !== 'gone') report.kept[verdict] = (report.kept[verdict] ?? 0) + 1;
      }
      onProgress(entries.length);
    }
  }
  return report;

  async function ask(stream: StreamName, { id, fields: { key = '' } }: SkimmedEntry): Promise<[Verdict, number]> {
    const eventId = `${stream.slice('events:'.length)}-${id}`;
    const args = [keys.prefix, key, eventId, oldBeforeMs, failedBeforeMs, isDryRun ? 1 : 0, plan];
    return (await script([keys.progress(key)], args)) as [Verdict, number];
  }
}

/** Folds the checkpoint up to the ends of the streams. */
async function keepCheckpoint({ redis, keys, projections }: TrimOptions): Promise<void> {
  const project = makeProject({ redis, keys: keysOfCopy(keys, 'checkpoint') });
  for (const projection of projections) while (!isNearEnd(await project(projection)));
}

/** Up to where each stream is folded: by the slowest of the projections that hear it, and by their checkpoints. */
async function readFolded({ redis, keys, projections }: TrimOptions, isDryRun: boolean) {
  const folded: Record<string, string> = {};
  for (const copy of isDryRun ? [keys] : [keys, keysOfCopy(keys, 'checkpoint')]) {
    for (const projection of projections) {
      for (const [stream, id] of await readPositions(redis, copy, projection)) {
        folded[stream] = earlier(folded[stream], id);
      }
    }
  }
  return folded;
}
