import { NotYetError } from '../../src/lib/errors.js';
import { STREAMS } from '../../src/lib/events.js';
import { BusyError } from '../../src/lib/maintenance.js';
import { recordOperation } from '../../src/lib/operations.js';
import {
  countRebuildSteps,
  NoRoomError,
  type RebuildReport,
  rebuild as rebuildAll,
  TooBusyError,
} from '../../src/lib/rebuild.js';
import { projections } from '../../src/projections/index.js';
import { type Command, operatorName, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';
import { startProgressBar } from './progress-bar.js';

/** Makes the projections, `idem:*` and the progress of events anew from the streams. */
export const rebuild: Command = {
  name: 'rebuild',
  usage: 'rebuild [--yes]',
  summary: 'makes projections, idem:* and progress:* anew from the streams, while the pipeline works',
  async run(argv, context) {
    const { values } = parseCommandLine(rebuild, argv, {}, { isBare: true });
    const { redis, keys, config, print } = context;
    const lengths = await Promise.all(STREAMS.map((stream) => redis.xlen(keys.stream(stream))));
    const entries = lengths.reduce((total, length) => total + length, 0);
    if (!values.yes && !(await confirm(`Rebuild everything from ${entries} entries?`))) return 1;
    const bar = startProgressBar('Rebuilding', await countRebuildSteps({ redis, keys, projections }), {
      isJson: values.json,
    });
    // Also as it begins: one that is killed says no more.
    const record = (phase: 'begun' | 'ended', count: number) =>
      recordOperation(context, { operation: 'rebuild', by: operatorName(values.by), count, details: { phase } });
    try {
      const options = { redis, keys, projections, idempotencyTtlS: config.idempotencyTtlS };
      const report = await rebuildAll(options, bar.add, () => record('begun', 0));
      bar.end();
      await record('ended', entries);
      print(values.json ? JSON.stringify({ entries, ...report }) : describe(entries, report));
      return report.chains.left === 0 ? 0 : 1;
    } catch (error) {
      bar.end();
      const code = codeOf(error);
      if (code === undefined || !(error instanceof Error)) throw error;
      if (values.json) print(JSON.stringify({ error: { code, message: error.message } }));
      else process.stderr.write(`${error.message}\n`);
      return 1;
    }
  },
};

/** Of what keeps a rebuild from its end and harms nothing. */
function codeOf(error: unknown): string | undefined {
  if (error instanceof BusyError || error instanceof TooBusyError) return 'busy';
  if (error instanceof NoRoomError) return 'no_room';
  return error instanceof NotYetError ? 'newer_version' : undefined;
}

function describe(entries: number, { projections: rebuilt, chains }: RebuildReport): string {
  const lines = [`Rebuilt from ${entries} entries`];
  for (const { name, states, differed } of rebuilt) {
    const difference = differed === null ? 'the former ones were too far behind to compare' : `${differed} differed`;
    lines.push(`${name}: ${states} states, ${difference}`);
  }
  lines.push(`progress and idem: ${chains.keys} events, ${chains.restored} restored`);
  if (chains.left > 0) lines.push(`${chains.left} changed all the time and were left as they are: run it again`);
  return lines.join('\n');
}
