/** What a replay is asked to do. */
import { UsageError } from '../../../src/lib/command-line.js';
import { compareStreamIds, streamIdTime } from '../../../src/lib/event-id.js';
import { GROUPS, type GroupName } from '../../../src/lib/events.js';
import { readRedisTime } from '../../../src/lib/maintenance.js';
import { readOverview } from '../../../src/lib/overview.js';
import { makeReplayId, type ReplayOptions, toRedisIds } from '../../../src/lib/replay.js';
import { readUnfinishedReplays } from '../../../src/lib/unfinished-replays.js';
import { type CommandContext, operatorName, parseCommandLine } from '../command.js';
import { readTime } from '../read-time.js';

export type Asked = {
  options: ReplayOptions;
  /** It goes on with one that was interrupted. */
  isResumed: boolean;
  /** Nobody is to go on with it. */
  isAbandoned: boolean;
  isDryRun: boolean;
  /** So many entries are shown of a dry run. */
  limit: number;
  isJson: boolean;
  isConfirmed: boolean;
  by: string;
};

/** It is named rightly, but there is none of that name to go on with or to give up. */
export class UnknownReplayError extends Error {
  override readonly name = 'UnknownReplayError';
  readonly isJson: boolean;

  constructor(message: string, isJson: boolean) {
    super(message);
    this.isJson = isJson;
  }
}

const LIMIT = 20;
const LIMIT_MAX = 100_000;
const REPLAY_ID = /^[\w-]{1,64}$/;
const REDIS_ID = /^(\d+)(?:-(\d+))?$/;
const ID_PART_MAX = 2n ** 64n - 1n;
/** 2001 in milliseconds: a lower number was meant as seconds, but for 0, from which everything comes. */
const MS_MIN = 1_000_000_000_000n;

const USAGE =
  'replay --group <group> --from <redis id | ISO time> [--to …] [--force] [--dry-run [--limit <n>]] [--yes] | --resume <replay id> | --abandon <replay id>';

export const HELP = `Usage: gvi ${USAGE}
Hands the entries of that range, both ends included, to the group again; the group goes on working meanwhile.
A time says where on earth it is meant, by Z or an offset; a date alone is its first moment in UTC. Without --to it is now.
What is processed is skipped, what failed is run, what is queued, held or parked is left to its owner. While DRY_RUN is
false, what ended as a dry run is run as well.
--force does what is processed again. Such entries carry the id of the replay. --resume goes on with a replay that was
interrupted, and skips what it has done; its range is remembered for three days, after that say it again. So long nothing of
it is trimmed, unless --abandon gives it up: what it has handed over runs all the same, the rest is not handed over.
--dry-run changes nothing and calls nobody: it shows the first entries [${LIMIT}] with the requests to the CRM, how they differ
from what this service last saw there, and what the model would be asked; over all of them it shows the sums.`;

/** Throws `UsageError` and `UnknownReplayError`. */
export async function readCommandLine(argv: readonly string[], context: CommandContext): Promise<Asked> {
  const { values, positionals } = parseCommandLine({ usage: USAGE }, argv, {
    ...{ group: { type: 'string' }, from: { type: 'string' }, to: { type: 'string' } },
    ...{ resume: { type: 'string' }, abandon: { type: 'string' } },
    ...{ force: { type: 'boolean', default: false }, 'dry-run': { type: 'boolean', default: false } },
    limit: { type: 'string' },
  });
  const { resume, abandon } = values;
  const wanted = abandon ?? resume;
  if (wanted !== undefined && !REPLAY_ID.test(wanted)) {
    const option = abandon === undefined ? '--resume' : '--abandon';
    throw new UsageError(`${option}: should be the id of a replay, as it was printed when that began`);
  }
  const others = [resume, values.group, values.from, values.to, values.limit];
  if (abandon !== undefined && (values.force || values['dry-run'] || others.some((value) => value !== undefined))) {
    throw new UsageError(`--abandon: goes with --yes, --by and --json alone\n\n${HELP}`);
  }
  const known =
    wanted === undefined
      ? undefined
      : (await readUnfinishedReplays(context)).find(({ replayId }) => replayId === wanted);
  const from = values.from ?? known?.from;
  if (positionals.length > 0) throw new UsageError(HELP);
  if (from === undefined) {
    if (wanted === undefined) throw new UsageError(HELP);
    const what =
      abandon === undefined ? 'say its --group and --from, and --force if it had that' : 'nothing to give up';
    throw new UnknownReplayError(`No replay ${wanted} is unfinished here: ${what}`, values.json);
  }
  const group = readGroup(values.group ?? known?.group);
  const to = values.to ?? known?.to ?? (await readEnd(context));
  const range = { group, from: readBound('--from', from), to: readBound('--to', to) };
  const ids = toRedisIds(range);
  if (compareStreamIds(ids.from, ids.to) > 0) {
    throw new UsageError(`--from: should not be after --to${values.to === undefined ? ', which is now' : ''}`);
  }
  return {
    options: {
      ...range,
      isForced: values.force || (known?.isForced ?? false),
      takesDryRuns: !context.config.dryRun,
      replayId: wanted ?? makeReplayId(),
    },
    isResumed: resume !== undefined,
    isAbandoned: abandon !== undefined,
    isDryRun: values['dry-run'],
    limit: readLimit(values.limit),
    ...{ isJson: values.json, isConfirmed: values.yes, by: operatorName(values.by) },
  };
}

/** As it is now: what comes meanwhile is no part of the range. Ids may be ahead of a clock that was set back. */
async function readEnd({ redis, keys }: CommandContext): Promise<string> {
  const { streams } = await readOverview({ redis, keys, countFailed: async () => new Map() });
  const ends = Object.values(streams).map(({ lastId }) => streamIdTime(lastId));
  return String(Math.max(await readRedisTime(redis), ...ends));
}

function readGroup(text: string | undefined): GroupName {
  const found = GROUPS.find((group) => group === text);
  if (found === undefined) throw new UsageError(`--group: should be one of ${GROUPS.join(', ')}\n\n${HELP}`);
  return found;
}

/** A redis id as it is; of a time the milliseconds, which stand for the whole millisecond. */
function readBound(option: string, text: string): string {
  const ms = readTime(text);
  if (ms !== undefined) return String(ms);
  if (text === '+') return text;
  const [, time, sequence] = REDIS_ID.exec(text) ?? [];
  if (time === undefined || [time, sequence ?? '0'].some((part) => BigInt(part) > ID_PART_MAX)) {
    throw new UsageError(
      `${option}: should be a Redis id such as 1763900000000-0, or a time such as 2026-11-23T12:00:00Z (with Z or an offset)`,
    );
  }
  if (sequence === undefined && BigInt(time) > 0n && BigInt(time) < MS_MIN) {
    throw new UsageError(`${option}: should be in milliseconds since 1970; ${text} looks like seconds`);
  }
  return text;
}

function readLimit(text: string | undefined): number {
  const limit = Number(text ?? LIMIT);
  if (Number.isInteger(limit) && limit >= 0 && limit <= LIMIT_MAX) return limit;
  throw new UsageError(`--limit: should be a whole number up to ${LIMIT_MAX}`);
}
