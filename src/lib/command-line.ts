/** `--name value` and `--name=value` of a `main.ts`, checked. */
import { parseArgs } from 'node:util';
import { GROUPS, type GroupName } from './events.js';

/** The command line can't be used; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** `--group enrich,summarize --concurrency 4`; all groups without `--group`. Throws `UsageError`. */
export function parseWorkerArgs(argv: readonly string[]): {
  groups: readonly GroupName[];
  concurrency: number | undefined;
} {
  const { values } = parseOrExplain(argv);
  const groups = values.group
    ?.flatMap((item) => item.split(','))
    .map((item) => item.trim())
    .filter((item) => item !== '');
  const unknown = groups?.filter((group) => !(GROUPS as readonly string[]).includes(group)) ?? [];
  if (unknown.length > 0 || groups?.length === 0) {
    throw new UsageError(`--group: should be some of ${GROUPS.join(', ')}, separated by commas`);
  }
  const concurrency = values.concurrency === undefined ? undefined : Number(values.concurrency);
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= 1_000)) {
    throw new UsageError('--concurrency: should be a whole number from 1 to 1000');
  }
  return { groups: (groups as GroupName[] | undefined) ?? GROUPS, concurrency };
}

function parseOrExplain(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: { group: { type: 'string', multiple: true }, concurrency: { type: 'string' } },
      allowPositionals: false,
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
