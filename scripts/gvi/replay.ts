import { UsageError } from '../../src/lib/command-line.js';
import { GROUPS, type GroupName, streamsOf } from '../../src/lib/events.js';
import { recordOperation } from '../../src/lib/redrive.js';
import {
  countHandedOver,
  type Decision,
  makeReplayId,
  type ReplayCounts,
  type ReplayOptions,
  replay as replayRange,
  StalledError,
} from '../../src/lib/replay.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';
import { startProgressBar } from './progress-bar.js';

type Listed = { eventId: string; decision: Decision };

/** So many entries are listed with `--json`; all of them are counted. */
const LISTED_MAX = 10_000;

const USAGE =
  'replay --group <group> --from <redis id | ISO time> [--to <redis id | ISO time>] [--force] [--resume <replay id>] [--dry-run] [--yes]';

const HELP = `Usage: gvi ${USAGE}
Hands the entries of that range, both ends included, to the group again; the group goes on working meanwhile.
What is processed is skipped, what failed is run, what is queued, held or parked is left to its owner. While DRY_RUN is
false, what ended as a dry run is run as well.
--force does what is processed again. Such entries carry the id of the replay; --resume <replay id> goes on with a replay
that was interrupted, and skips what it has done.
--dry-run changes nothing: it says for each entry what would be done. It does not show the requests to the CRM, nor how
they differ from what stands there.`;

const TEXTS: Record<Decision, string> = {
  run: 'got stuck and is run',
  failed: 'failed and is run',
  again: 'is done and is run again',
  processed: 'is done: skipped',
  replayed: 'was done by this replay: skipped',
  queued: 'is with its group already: left',
  moving: 'is on its way in a later stage: left',
  older: 'has a newer entry of its event after it: skipped',
  gone: 'is not in its stream any more',
};

/** Hands a range of a group's streams to it again. */
export const replay: Command = {
  name: 'replay',
  usage: 'replay --group <group> --from <id | time> [--to …]',
  summary: 'hands a range to a group again; also --force, --resume, --dry-run (without the requests to the CRM)',
  async run(argv, context) {
    const { values, positionals } = parseCommandLine({ usage: USAGE }, argv, {
      ...{ group: { type: 'string' }, from: { type: 'string' }, to: { type: 'string' }, resume: { type: 'string' } },
      ...{ force: { type: 'boolean', default: false }, 'dry-run': { type: 'boolean', default: false } },
    });
    if (positionals.length > 0 || values.from === undefined) throw new UsageError(HELP);
    const options: ReplayOptions = {
      group: readGroup(values.group),
      from: readBound('--from', values.from),
      to: values.to === undefined ? '+' : readBound('--to', values.to),
      isForced: values.force || values.resume !== undefined,
      takesDryRuns: !context.config.dryRun,
      replayId: values.resume ?? makeReplayId(),
    };
    if (values['dry-run']) return look(context, options, values.json);
    const expected = values.yes ? undefined : await decideAll(context, options, { isDryRun: true, label: 'Counting' });
    if (expected !== undefined && !(await confirm(askFor(expected.counts, options)))) return 1;
    return handOver(context, options, values.json);
  },
};

async function look(context: CommandContext, options: ReplayOptions, isJson: boolean): Promise<number> {
  const print = ({ eventId, decision }: Listed) => context.print(`${eventId} ${TEXTS[decision]}`);
  const { counts, listed } = await decideAll(context, options, {
    ...{ isDryRun: true, label: 'Looking' },
    ...(isJson ? {} : { onEach: print }),
  });
  if (isJson) context.print(JSON.stringify({ dryRun: true, counts, entries: listed, isMore: isMore(counts, listed) }));
  else context.print(describe(counts));
  return 0;
}

async function handOver(context: CommandContext, options: ReplayOptions, isJson: boolean): Promise<number> {
  const { replayId } = options;
  try {
    const { counts, listed } = await decideAll(context, options, { isDryRun: false, label: 'Replaying' });
    const count = countHandedOver(counts);
    await recordOperation(context, { operation: 'replay', by: 'gvi', count });
    if (isJson) context.print(JSON.stringify({ replayId, counts, entries: listed, isMore: isMore(counts, listed) }));
    else context.print(`${describe(counts)}${(counts.again ?? 0) > 0 ? `\nThis replay is ${replayId}` : ''}`);
    return 0;
  } catch (error) {
    if (!(error instanceof StalledError)) throw error;
    await recordOperation(context, { operation: 'replay', by: 'gvi', count: error.handedOver });
    const advice = `${error.message} To go on, say the same again${options.isForced ? ` with --resume ${replayId}` : ''}.`;
    if (isJson) context.print(JSON.stringify({ replayId, error: { code: 'stalled', message: advice } }));
    else process.stderr.write(`${advice}\n`);
    return 1;
  }
}

async function decideAll(
  { redis, keys }: CommandContext,
  options: ReplayOptions,
  { isDryRun, label, onEach }: { isDryRun: boolean; label: string; onEach?: (entry: Listed) => void },
): Promise<{ counts: ReplayCounts; listed: Listed[] }> {
  const lengths = await Promise.all(streamsOf(options.group).map((stream) => redis.xlen(keys.stream(stream))));
  const bar = startProgressBar(
    label,
    lengths.reduce((total, length) => total + length, 0),
  );
  const listed: Listed[] = [];
  try {
    const counts = await replayRange({ redis, keys }, options, {
      isDryRun,
      onDecisions(decisions) {
        for (const [eventId, decision] of decisions) {
          onEach?.({ eventId, decision });
          if (listed.length < LISTED_MAX) listed.push({ eventId, decision });
        }
        bar.add(decisions.length);
      },
    });
    return { counts, listed };
  } finally {
    bar.end();
  }
}

function readGroup(text: string | undefined): GroupName {
  const found = GROUPS.find((group) => group === text);
  if (found === undefined) throw new UsageError(`--group: should be one of ${GROUPS.join(', ')}\n\n${HELP}`);
  return found;
}

/** A redis id as it is; of a time the milliseconds, which XRANGE takes for a whole millisecond. */
function readBound(option: string, text: string): string {
  if (/^\d+(-\d+)?$/.test(text)) return text;
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) {
    throw new UsageError(
      `${option}: should be a Redis id such as 1763900000000-0, or a time such as 2026-11-23T12:00:00Z`,
    );
  }
  return String(ms);
}

function askFor(counts: ReplayCounts, { group }: ReplayOptions): string {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const { again = 0, failed = 0 } = counts;
  return `Hand ${countHandedOver(counts)} of ${total} entries to ${group} again (${failed} failed, ${again} done already)?`;
}

function isMore(counts: ReplayCounts, listed: readonly Listed[]): boolean {
  return Object.values(counts).reduce((sum, count) => sum + count, 0) > listed.length;
}

function describe(counts: ReplayCounts): string {
  const lines = Object.entries(counts).map(([decision, count]) => `${count} × ${TEXTS[decision as Decision]}`);
  return lines.length === 0 ? 'There is no entry in that range.' : lines.join('\n');
}
