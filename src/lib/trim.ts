/**
 * Drops what is old and done from the streams. An entry goes only together with its whole chain, when every entry of that
 * is older than the retention, finished in every group and folded into the projections (`scripts/trim.lua`, one atomic
 * step for each chain). One old entry that must stay keeps nothing else behind it.
 *
 * Before entries go, the projections are folded into a checkpoint of their own, where a rebuild starts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { chainKeyOf } from './chain-facts.js';
import { makeEventId, type StreamName } from './event-id.js';
import { readersByStream, STREAMS } from './events.js';
import { type Keys, keysOfCopy } from './keys.js';
import {
  CHUNK,
  makeSkim,
  type OnProgress,
  readRedisTime,
  type SkimmedEntry,
  withMaintenanceLease,
} from './maintenance.js';
import { makeProject, type Projection, streamsHeardBy } from './projector.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';
import { REMEMBERED_MS } from './unfinished-replays.js';

/**
 * Why old entries stay: a part of their chain is `young`, or in a group `undelivered`, `pending` or `waiting`;
 * `open_failure`: it stands failed, and is kept as long again; `replaying`: a replay of its range is not at its end;
 * `unfolded`: a projection has not come to it; `unknown`: no progress tells of its chain (`rebuild` restores it);
 * `unended`: no group holds it, yet it ended neither processed nor failed, as when a consumer was removed by hand.
 */
export type KeepReason =
  | 'young'
  | 'open_failure'
  | 'undelivered'
  | 'pending'
  | 'waiting'
  | 'replaying'
  | 'unfolded'
  | 'unknown'
  | 'unended';
type Verdict = KeepReason | 'dropped' | 'gone';

export type TrimCursor = { stream: StreamName; id: string };

export type TrimReport = {
  /** Entries that were dropped, or would be. */
  dropped: number;
  kept: Partial<Record<KeepReason, number>>;
  /** Entries before this time, ISO 8601, are old. */
  before: string;
  /** Where to go on, when the budget was used up before the end. */
  next?: TrimCursor;
};

export type TrimOptions = {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
  retentionMs: number;
  /** Redis' time in ms, unless told otherwise. */
  now?: number | undefined;
};

export type TrimRun = {
  /** Only counts. */
  isDryRun: boolean;
  /** Told once nothing else may trim or rebuild, and before anything is dropped, what is old: entries before this time, ISO 8601. */
  onBegin?: (before: string) => Promise<void>;
  onProgress?: OnProgress;
  /** Looks at about so many entries, begins where an earlier run has left off, and gives way between chunks. */
  budget?: { entriesMax: number; pauseMs: number; from: TrimCursor | undefined; signal: AbortSignal };
};

/** Throws `BusyError` beside another trim or a rebuild, unless it only counts. */
export async function trim(options: TrimOptions, run: TrimRun): Promise<TrimReport> {
  const { redis, retentionMs } = options;
  const now = options.now ?? (await readRedisTime(redis));
  const times = { oldBeforeMs: now - retentionMs, failedBeforeMs: now - 2 * retentionMs };
  const work = () => walk(options, times, run);
  return run.isDryRun ? work() : withMaintenanceLease(options, work);
}

type Times = { oldBeforeMs: number; failedBeforeMs: number };

async function walk(options: TrimOptions, times: Times, run: TrimRun): Promise<TrimReport> {
  const { isDryRun, onBegin = async () => {}, onProgress = () => {}, budget } = run;
  const before = new Date(times.oldBeforeMs).toISOString();
  await onBegin(before);
  if (!isDryRun) await keepCheckpoint(options, times, run);
  const drop = makeDrop(options, times, isDryRun);
  const skim = makeSkim(options);
  const report: TrimReport = { dropped: 0, kept: {}, before };
  let looked = 0;

  for (const stream of STREAMS.slice(budget?.from === undefined ? 0 : STREAMS.indexOf(budget.from.stream))) {
    const from = budget?.from?.stream === stream ? `(${budget.from.id}` : '-';
    for await (const entries of skim(stream, { from, to: String(times.oldBeforeMs - 1), count: CHUNK })) {
      // Sent together they go in one write; a chain is dropped once, its other entries are then gone.
      for (const [verdict, count] of await Promise.all(entries.map((entry) => drop(stream, entry)))) {
        if (verdict === 'dropped') report.dropped += count;
        else if (verdict !== 'gone') report.kept[verdict] = (report.kept[verdict] ?? 0) + 1;
      }
      onProgress(entries.length);
      looked += entries.length;
      if (budget === undefined) continue;
      if (looked >= budget.entriesMax || budget.signal.aborted) {
        return { ...report, next: { stream, id: entries.at(-1)!.id } };
      }
      await giveWay(budget);
    }
  }
  return report;
}

function makeDrop(options: TrimOptions, { oldBeforeMs, failedBeforeMs }: Times, isDryRun: boolean) {
  const { redis, keys } = options;
  const plan = JSON.stringify({ readers: readersByStream(), positions: positionsByStream(options, isDryRun) });
  const script = loadScript(redis, 'trim');
  return async (stream: StreamName, { id, fields }: SkimmedEntry): Promise<[Verdict, number]> => {
    const eventId = makeEventId(stream, id);
    const key = chainKeyOf(eventId, stream, fields) ?? fields.key ?? '';
    const times = [oldBeforeMs, failedBeforeMs];
    const args = [keys.prefix, key, eventId, ...times, isDryRun ? 1 : 0, plan, REMEMBERED_MS];
    return (await script([keys.progress(key)], args)) as [Verdict, number];
  };
}

/** Folds the checkpoint over all that may be dropped. */
async function keepCheckpoint(
  { redis, keys, projections }: TrimOptions,
  { oldBeforeMs }: Times,
  { budget }: TrimRun,
): Promise<void> {
  const project = makeProject({ redis, keys: keysOfCopy(keys, 'checkpoint') });
  const until = new Map(STREAMS.map((stream) => [stream, `${oldBeforeMs}-0`]));
  for (const projection of projections) {
    while ((await project(projection, until)) > 0 && !budget?.signal.aborted) {
      if (budget !== undefined) await giveWay(budget);
    }
  }
}

async function giveWay({ pauseMs, signal }: NonNullable<TrimRun['budget']>): Promise<void> {
  await sleep(pauseMs, undefined, { signal }).catch(() => {});
}

/**
 * Where it stands up to where each stream is folded: by the projections that hear it, and by their checkpoints. It is looked up
 * with each chain, as Redis may have gone back since the checkpoint was made.
 */
function positionsByStream({ keys, projections }: TrimOptions, isDryRun: boolean): Record<string, string[]> {
  const positions: Record<string, string[]> = {};
  for (const { projector } of isDryRun ? [keys] : [keys, keysOfCopy(keys, 'checkpoint')]) {
    for (const projection of projections) {
      for (const stream of streamsHeardBy(projection)) {
        positions[stream] = [...(positions[stream] ?? []), projector(projection.name)];
      }
    }
  }
  return positions;
}
