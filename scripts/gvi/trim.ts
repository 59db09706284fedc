import { STREAMS } from '../../src/lib/events.js';
import { BusyError } from '../../src/lib/maintenance.js';
import { recordOperation } from '../../src/lib/operations.js';
import { type KeepReason, type TrimReport, type TrimRun, trim as trimStreams } from '../../src/lib/trim.js';
import { projections } from '../../src/projections/index.js';
import { type Command, type CommandContext, operatorName, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';
import { startProgressBar } from './progress-bar.js';

const REASONS: Record<KeepReason, string> = {
  young: 'belong to an event that went on later',
  open_failure: 'belong to a failure that stands open (redrive it, or it goes after as long again)',
  undelivered: 'wait to be read by a group',
  pending: 'are being worked on',
  waiting: 'wait for a retry or for a provider',
  replaying:
    'stand in the range of a replay that is not at its end: gvi status names it, gvi replay --resume goes on with it, --abandon gives it up',
  unfolded: 'are not in the projections yet: is a worker running?',
  unknown: 'belong to no known event: run gvi rebuild',
  unended: 'came to no end, though no group holds them: gvi replay runs them',
};

/** Drops old entries of events that are done. */
export const trim: Command = {
  name: 'trim',
  usage: 'trim [--dry-run] [--yes]',
  summary: 'drops events older than RETENTION_DAYS that are done in every group',
  async run(argv, context) {
    const options = { 'dry-run': { type: 'boolean', default: false } } as const;
    const { values } = parseCommandLine(trim, argv, options, { isBare: true });
    const isDryRun = values['dry-run'];
    if (!isDryRun && !values.yes) {
      const { dropped, before } = await run(context, { isDryRun: true, isJson: values.json });
      const question = `Drop ${dropped} entries older than ${before}?`;
      if (!(await confirm(question))) return 1;
    }
    // Also as it begins: one that is killed says no more.
    const record = async (phase: 'begun' | 'ended', before: string, count: number) => {
      if (isDryRun) return;
      const details = { phase, before };
      await recordOperation(context, { operation: 'trim', by: operatorName(values.by), count, details });
    };
    try {
      const onBegin = (before: string) => record('begun', before, 0);
      const report = await run(context, { isDryRun, isJson: values.json, onBegin });
      await record('ended', report.before, report.dropped);
      context.print(values.json ? JSON.stringify({ ...report, dryRun: isDryRun }) : describe(report, isDryRun));
      return 0;
    } catch (error) {
      if (!(error instanceof BusyError)) throw error;
      if (values.json) context.print(JSON.stringify({ error: { code: 'busy', message: error.message } }));
      else process.stderr.write(`${error.message}\n`);
      return 1;
    }
  },
};

async function run(
  { redis, keys, config }: CommandContext,
  { isJson, ...asked }: Pick<TrimRun, 'isDryRun' | 'onBegin'> & { isJson: boolean },
): Promise<TrimReport> {
  const lengths = await Promise.all(STREAMS.map((stream) => redis.xlen(keys.stream(stream))));
  const bar = startProgressBar(
    asked.isDryRun ? 'Counting' : 'Trimming',
    lengths.reduce((total, length) => total + length, 0),
    { isJson },
  );
  try {
    const options = { redis, keys, projections, retentionMs: config.retentionMs };
    return await trimStreams(options, { ...asked, onProgress: bar.add });
  } finally {
    bar.end();
  }
}

function describe({ dropped, kept, before }: TrimReport, isDryRun: boolean): string {
  const lines = [`${isDryRun ? 'Would drop' : 'Dropped'} ${dropped} entries older than ${before}`];
  for (const [reason, count] of Object.entries(kept)) {
    lines.push(`${count} of that age stay: they ${REASONS[reason as KeepReason]}`);
  }
  return lines.join('\n');
}
