/**
 * Hands a range of a group's streams to that group again, while it goes on working. Its cursor never moves; entries are
 * parked as due and taken back by the runtime (`scripts/replay.lua` decides for each). Doing it again skips what is done.
 */
import { randomBytes } from 'node:crypto';
import { chainKeyOf } from './chain-facts.js';
import type { Provider } from './errors.js';
import { makeEventId, type StreamName } from './event-id.js';
import { type GroupName, readersByStream, streamsOf } from './events.js';
import type { Keys } from './keys.js';
import { CHUNK, makeSkim, type SkimmedEntry } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { assertMemory, makeWaitForRoom } from './replay-room.js';
import { loadScript } from './scripts.js';
import { forgetReplay, readHandedOver, rememberReplay } from './unfinished-replays.js';

/**
 * - `run`: it got stuck, `failed`: it stood failed, `again`: it is processed and runs as part of the replay;
 * - `processed`, `replayed` (by this very replay, or since it began): skipped;
 * - `queued`: not delivered yet, held by a worker or parked, left to its owner; `moving`: in a later stage;
 * - `older`: a newer entry of its chain stands in the stream; `gone`: not in the stream any more.
 */
export type Decision = 'run' | 'failed' | 'again' | 'processed' | 'replayed' | 'queued' | 'moving' | 'older' | 'gone';

export type ReplayRange = {
  group: GroupName;
  /** Redis ids or their time parts, both included; `-` and `+` are the ends. */
  from: string;
  to: string;
};

export type ReplayOptions = ReplayRange & {
  /** Also what is processed. */
  isForced: boolean;
  /** Also what ended as a dry run: the CRM is written now. */
  takesDryRuns: boolean;
  /** Names the replay in `again` entries and in their marks; to go on with one, the same id. */
  replayId: string;
};

export type ReplayCounts = Partial<Record<Decision, number>>;

export type Decided = readonly (readonly [eventId: string, decision: Decision])[];

export type ReplayRun = {
  /** Only decides. */
  isDryRun: boolean;
  onDecisions?: (decisions: Decided) => void | Promise<void>;
  /** Told once of each provider that has to be back before it can go on. */
  onPaused?: (provider: Provider) => void;
  /** Told of all that was handed over, by earlier runs as well. Only then the replay is forgotten. */
  onEnd?: (handedOver: number) => void | Promise<void>;
  /** No worker was heard for so long. */
  stalledMs?: number;
};

const STALLED_MS = 10_000;
const REMEMBER_EVERY_MS = 30_000;
const SEQUENCE_MAX = '18446744073709551615';
const HANDED_OVER: readonly Decision[] = ['run', 'failed', 'again'];

export function isHandedOver(decision: Decision): boolean {
  return HANDED_OVER.includes(decision);
}

export function makeReplayId(): string {
  return `${new Date().toISOString().replace(/[-:]|\.\d+Z$/g, '')}-${randomBytes(3).toString('hex')}`;
}

export function countHandedOver(counts: ReplayCounts): number {
  return HANDED_OVER.reduce((sum, decision) => sum + (counts[decision] ?? 0), 0);
}

/**
 * A few hundred entries at a time: handed over here, or waiting in the groups that go on with what comes of them. The group's
 * live events do not wait behind them, as both take turns (`runtime/take-over.ts`); in the later groups, where all stand in
 * one stream, they wait behind those few hundred.
 * Throws `StalledError`. Until it comes to its end, `readUnfinishedReplays` names it.
 */
export async function replay(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  options: ReplayOptions,
  { isDryRun, onDecisions = () => {}, onPaused = () => {}, onEnd = () => {}, stalledMs = STALLED_MS }: ReplayRun,
): Promise<ReplayCounts> {
  const { group, isForced, takesDryRuns, replayId } = options;
  const { from, to } = toRedisIds(options);
  const script = loadScript(redis, 'replay');
  const skim = makeSkim({ redis, keys });
  const waitForRoom = makeWaitForRoom({ redis, keys }, group, { stalledMs, onPaused, onWait: remember });
  const readers = JSON.stringify(readersByStream());
  const counts: ReplayCounts = {};
  let rememberedAt = Number.NEGATIVE_INFINITY;
  let mayBeFull = false;

  if (!isDryRun) await remember();
  for (const stream of streamsOf(group)) {
    for await (const entries of skim(stream, { from, to, count: CHUNK })) {
      if (mayBeFull) await waitForRoom();
      if (isForced && !isDryRun) await assertMemory({ redis, keys });
      if (!isDryRun) await remember();
      const decisions = await decide(stream, entries);
      mayBeFull = !isDryRun && decisions.some(isHandedOver);
      for (const decision of decisions) counts[decision] = (counts[decision] ?? 0) + 1;
      await onDecisions(entries.map(({ id }, index) => [makeEventId(stream, id), decisions[index]!] as const));
    }
  }
  if (!isDryRun) {
    await onEnd(await readHandedOver({ redis, keys }, replayId));
    await forgetReplay({ redis, keys }, replayId);
  }
  return counts;

  async function remember(): Promise<void> {
    if (performance.now() - rememberedAt < REMEMBER_EVERY_MS) return;
    rememberedAt = performance.now();
    await rememberReplay({ redis, keys }, { replayId, group, from, to, isForced });
  }

  async function decide(stream: StreamName, entries: readonly SkimmedEntry[]): Promise<Decision[]> {
    const flags = [isForced, takesDryRuns, isDryRun].map((flag) => (flag ? 1 : 0));
    const perEntry = entries.flatMap(({ id, fields }) => [id, keyOf(stream, id, fields), fields.replay ?? '']);
    return (await script(
      [keys.stream(stream), keys.parked(group), keys.attempts(group), keys.replay(group), keys.replays()],
      [keys.prefix, group, stream, replayId, ...flags, readers, ...perEntry],
    )) as Decision[];
  }

  /** Under it the progress stands that tells what became of an entry: that of an alert under its own. */
  function keyOf(stream: StreamName, id: string, fields: SkimmedEntry['fields']): string {
    return (group === 'alert' ? fields.key : chainKeyOf(makeEventId(stream, id), stream, fields)) ?? '';
  }
}

/** Bounds as whole ids: of a time alone all of that millisecond is meant. */
export function toRedisIds({ from, to }: Pick<ReplayRange, 'from' | 'to'>): { from: string; to: string } {
  return { from: toRedisId(from, '0'), to: toRedisId(to, SEQUENCE_MAX) };
}

function toRedisId(bound: string, sequence: string): string {
  if (bound === '-') return '0-0';
  if (bound === '+') return `${SEQUENCE_MAX}-${SEQUENCE_MAX}`;
  return bound.includes('-') ? bound : `${bound}-${sequence}`;
}
