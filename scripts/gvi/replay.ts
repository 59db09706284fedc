import { recordOperation } from '../../src/lib/operations.js';
import {
  countHandedOver,
  type Decision,
  isHandedOver,
  type ReplayCounts,
  type ReplayOptions,
  type ReplayRun,
  replay as replayRange,
} from '../../src/lib/replay.js';
import { StalledError } from '../../src/lib/replay-room.js';
import { forgetReplay, readHandedOver } from '../../src/lib/unfinished-replays.js';
import { type Command, type CommandContext, refuse } from './command.js';
import { confirm } from './confirm.js';
import { printError } from './format.js';
import { startProgressBar } from './progress-bar.js';
import { type Asked, HELP, readCommandLine, UnknownReplayError } from './replay/command-line.js';
import { type ForeseenEntry, makeForeseeEntry } from './replay/foresee-entry.js';
import { addToTotals, describeForeseen, describeTotals, noTotals } from './replay/foreseen-text.js';
import { makeShareDone } from './replay/share-done.js';

type Listed = { eventId: string; decision: Decision } & ForeseenEntry;
type OnDecided = (decided: readonly Listed[]) => void | Promise<void>;

/** So many entries are listed with `--json`; all of them are counted. */
const LISTED_MAX = 10_000;
/** A meeting may be a megabyte. */
const FORESEEN_AT_ONCE = 10;

const TEXTS: Record<Decision, string> = {
  run: 'got stuck and is run',
  failed: 'failed and is run',
  again: 'is done and is run again',
  processed: 'is done: skipped',
  replayed: 'was done by this replay, or since it began: skipped',
  queued: 'is with its group already: left',
  moving: 'is on its way in a later stage: left',
  older: 'has a newer entry of its event after it: skipped',
  gone: 'is not in its stream any more',
};

/** Hands a range of a group's streams to it again. */
export const replay: Command = {
  name: 'replay',
  usage: 'replay --group <group> --from <id | time> [--to …]',
  summary: 'hands a range to a group again; also --force, --resume, --abandon, --dry-run (shows what it would do)',
  help: HELP,
  async run(argv, context) {
    try {
      return await doAsked(await readCommandLine(argv, context), context);
    } catch (error) {
      if (!(error instanceof UnknownReplayError)) throw error;
      return refuse(context, error.isJson, 'not_found', error.message);
    }
  },
};

async function doAsked(asked: Asked, context: CommandContext): Promise<number> {
  if (asked.isAbandoned) return abandon(context, asked);
  if (asked.isDryRun) return look(context, asked);
  if (!asked.isConfirmed) {
    const counts = await decideAll(context, asked, { isDryRun: true, label: 'Counting' });
    if (!(await confirm(askFor(counts, asked.options)))) return 1;
  }
  return handOver(context, asked);
}

async function look(context: CommandContext, asked: Asked): Promise<number> {
  const { options, limit, isJson } = asked;
  const again = makeForeseeEntry(context, options);
  const once = makeForeseeEntry(context, { ...options, replayId: undefined });
  const totals = noTotals();
  const listed: Listed[] = [];
  const now = Date.now();

  const counts = await decideAll(context, asked, {
    isDryRun: true,
    label: 'Looking',
    async onDecided(decided) {
      for (let start = 0; start < decided.length; start += FORESEEN_AT_ONCE) {
        const some = decided.slice(start, start + FORESEEN_AT_ONCE);
        for (const entry of await Promise.all(some.map(foreseeOne))) {
          addToTotals(totals, entry);
          if (listed.length === limit) continue;
          listed.push(entry);
          if (!isJson) context.print([lineOf(entry), ...describeForeseen(entry, now)].join('\n'));
        }
      }
    },
  });
  const isMore = countAll(counts) > listed.length;
  if (isJson) context.print(JSON.stringify({ dryRun: true, counts, totals, entries: listed, isMore }));
  else {
    if (isMore && listed.length > 0) context.print('… further entries are counted only; --limit shows more');
    context.print(
      [describeCounts(counts), ...(countHandedOver(counts) > 0 ? [describeTotals(totals)] : [])].join('\n'),
    );
  }
  return 0;

  async function foreseeOne(entry: Listed): Promise<Listed> {
    if (!isHandedOver(entry.decision)) return entry;
    return { ...entry, ...(await (entry.decision === 'again' ? again : once)(entry.eventId)) };
  }
}

async function handOver(context: CommandContext, asked: Asked): Promise<number> {
  const { options, isResumed, isJson } = asked;
  const { replayId, isForced } = options;
  const resume = `npm run -s gvi -- replay --resume ${replayId}${isForced ? ' --force' : ''}`;
  process.stderr.write(`This replay is ${replayId}. To go on with it when it is interrupted: ${resume}\n`);
  const listed: Listed[] = [];
  await record(context, asked, isResumed ? 'resumed' : 'begun');
  try {
    const counts = await decideAll(context, asked, {
      ...{ isDryRun: false, label: 'Replaying' },
      onDecided: (decided) => void listed.push(...decided.slice(0, LISTED_MAX - listed.length)),
      onEnd: () => record(context, asked, 'ended'),
    });
    const isMore = countAll(counts) > listed.length;
    context.print(isJson ? JSON.stringify({ replayId, counts, entries: listed, isMore }) : describeCounts(counts));
    return 0;
  } catch (error) {
    if (!(error instanceof StalledError)) throw error;
    await record(context, asked, 'stalled');
    const message = `${error.message} To go on: ${resume}`;
    if (isJson) context.print(JSON.stringify({ replayId, error: { code: 'stalled', message } }));
    else printError(message);
    return 1;
  }
}

/** Nobody goes on with it; its range may be trimmed. */
async function abandon(context: CommandContext, asked: Asked): Promise<number> {
  const { options, isJson, isConfirmed } = asked;
  const { replayId, group } = options;
  const question = `Give up the replay ${replayId} of ${group}? One that still runs goes on: end it first.`;
  if (!isConfirmed && !(await confirm(question))) return 1;
  await record(context, asked, 'abandoned');
  await forgetReplay(context, replayId);
  context.print(isJson ? JSON.stringify({ abandoned: replayId }) : `The replay ${replayId} is given up.`);
  return 0;
}

/** Also as it begins: one that is killed says no more. It counts what was handed over so far, by all runs of it. */
async function record(
  context: CommandContext,
  { options, by }: Asked,
  phase: 'begun' | 'resumed' | 'stalled' | 'abandoned' | 'ended',
): Promise<void> {
  const { group, from, to, replayId, isForced } = options;
  const details = { phase, group, from, to, replayId, ...(isForced ? { force: 'true' } : {}) };
  const count = await readHandedOver(context, replayId);
  await recordOperation(context, { operation: 'replay', by, count, details });
}

async function decideAll(
  context: CommandContext,
  { options, isJson }: Asked,
  {
    label,
    onDecided = () => {},
    ...run
  }: Pick<ReplayRun, 'isDryRun' | 'onEnd'> & { label: string; onDecided?: OnDecided },
): Promise<ReplayCounts> {
  const shareDone = await makeShareDone(context, options);
  const bar = startProgressBar(label, undefined, { isJson });
  try {
    return await replayRange(context, options, {
      ...run,
      async onDecisions(decisions) {
        await onDecided(decisions.map(([eventId, decision]) => ({ eventId, decision })));
        bar.add(decisions.length, shareDone(decisions.at(-1)![0]));
      },
      onPaused: (provider) => bar.say(`${provider} is paused: this replay goes on when it is back.`),
    });
  } finally {
    bar.end();
  }
}

function askFor(counts: ReplayCounts, { group }: ReplayOptions): string {
  const { again = 0, failed = 0 } = counts;
  return `Hand ${countHandedOver(counts)} of ${countAll(counts)} entries to ${group} again (${failed} failed, ${again} done already)?`;
}

function countAll(counts: ReplayCounts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

function lineOf({ eventId, decision }: Listed): string {
  return `${eventId} ${TEXTS[decision]}`;
}

function describeCounts(counts: ReplayCounts): string {
  const lines = Object.entries(counts).map(([decision, count]) => `${count} × ${TEXTS[decision as Decision]}`);
  return lines.length === 0 ? 'There is no entry in that range.' : lines.join('\n');
}
