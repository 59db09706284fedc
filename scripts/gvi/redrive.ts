import { makeChains } from '../../src/lib/chain.js';
import { UsageError } from '../../src/lib/command-line.js';
import { GROUPS } from '../../src/lib/events.js';
import { type OpenFailure, walkOpenFailures } from '../../src/lib/open-failures.js';
import { recordOperation } from '../../src/lib/operations.js';
import { makeRedrive, type RedriveAnswer } from '../../src/lib/redrive.js';
import { type Command, type CommandContext, operatorName, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';
import { startProgressBar } from './progress-bar.js';
import { readTime } from './read-time.js';
import { makeRedriveRejected, type RejectedAnswer } from './redrive/rejected.js';

type Filter = { code?: string; group?: string; since?: string };
type Answer = { eventId: string; answer: RedriveAnswer | RejectedAnswer['answer']; as?: string };

const TEXTS: Record<Answer['answer'], string> = {
  redriven: 'is tried again',
  taken_in: 'is taken in as a new event',
  not_failed: 'does not stand failed: it was redriven, delivered again or processed meanwhile',
  gone: 'is not in its stream any more',
  lost: 'was deleted from its stream, so it cannot be tried again; if the entry before it is there, replay that',
  known: 'is known as an event already',
  changed: 'is not tried: it is other content of an event that is known and has not failed for good',
  unusable: 'still cannot be used',
  ignored: 'is of no use to this service',
};

const AT_ONCE = 100;
/** So many answers are told one by one; all are counted. */
const SHOWN_MAX = 50;
const LISTED_MAX = 10_000;

/** Hands failed events to their group again, and takes rejected webhooks in after all. */
export const redrive: Command = {
  name: 'redrive',
  usage: 'redrive <event id…> | --all [--code|--group|--since]',
  summary: 'tries failed events again, with a new count of attempts; also --dry-run',
  async run(argv, context) {
    const { values, positionals } = parseCommandLine(redrive, argv, {
      ...{ all: { type: 'boolean', default: false }, 'dry-run': { type: 'boolean', default: false } },
      ...{ code: { type: 'string' }, group: { type: 'string' }, since: { type: 'string' } },
    });
    const filter = readFilter(values);
    const isFiltered = Object.keys(filter).length > 0;
    if (values.all === positionals.length > 0 || (isFiltered && !values.all)) {
      throw new UsageError(`Usage: gvi ${redrive.usage}\n--code, --group and --since go with --all`);
    }
    const isDryRun = values['dry-run'];
    const wanted = values.all ? await findAll(context, filter) : await findByIds(context, positionals);
    const count = wanted.failures.length;
    if (values.all && !isDryRun && count > 1 && !values.yes && !(await confirm(`Redrive ${count} events?`))) return 1;

    const details = isFiltered ? { details: filter as Record<string, string> } : {};
    const by = operatorName(values.by);
    const record = async (some: readonly Answer[]) => {
      const eventIds = some.filter(isRedriven).map(({ eventId }) => eventId);
      if (eventIds.length === 0 || isDryRun) return;
      await recordOperation(context, { operation: 'redrive', by, eventIds, ...details });
    };
    const answers = await redriveEach(context, wanted, { isDryRun, isJson: values.json, record });
    const redriven = answers.filter(isRedriven).map(({ eventId }) => eventId);
    const { unknown } = wanted;
    if (values.json) context.print(JSON.stringify(toJson({ redriven, answers, unknown, isDryRun })));
    else report(context, { answers, unknown, isDryRun });
    // Of all that stands failed it is no matter who has just seen to it.
    const isWell = (answer: Answer) => isRedriven(answer) || (values.all && answer.answer === 'not_failed');
    return unknown.length === 0 && answers.every(isWell) ? 0 : 1;
  },
};

type Wanted = { failures: OpenFailure[]; rejected: string[]; unknown: string[] };

function readFilter(values: { [K in keyof Filter]: string | undefined }): Filter {
  const { code, group, since } = values;
  // From a variable that is not set, in a script: without the filter everything would be redriven.
  if (code !== undefined && code.trim() === '') {
    throw new UsageError('--code: should be the code of a failure, as gvi failed shows it');
  }
  if (group !== undefined && !(GROUPS as readonly string[]).includes(group)) {
    throw new UsageError(`--group: should be one of ${GROUPS.join(', ')}`);
  }
  if (since !== undefined && readTime(since) === undefined) {
    throw new UsageError('--since: should be a time such as 2026-11-23T12:00:00Z (with Z or an offset)');
  }
  return {
    ...(code !== undefined && { code }),
    ...(group !== undefined && { group }),
    ...(since !== undefined && { since }),
  };
}

/** The oldest first: they are redriven in the order in which they failed. */
async function findAll(context: CommandContext, { code, group, since }: Filter): Promise<Wanted> {
  const failures: OpenFailure[] = [];
  for await (const found of walkOpenFailures(context)) {
    const wanted = found.filter(
      (failure) =>
        (code === undefined || failure.error.code === code) &&
        (group === undefined || failure.group === group) &&
        (since === undefined || Date.parse(failure.at) >= Date.parse(since)),
    );
    failures.push(...wanted);
  }
  return { failures: failures.reverse(), rejected: [], unknown: [] };
}

/** The id of any entry of the chain will do, or its key. */
async function findByIds(context: CommandContext, ids: readonly string[]): Promise<Wanted> {
  const chains = makeChains(context);
  const failures = new Map<string, OpenFailure>();
  const rejected = new Set<string>();
  const unknown: string[] = [];
  for (const id of ids) {
    const eventId = await chains.findEventId(id);
    const chain = eventId === undefined ? undefined : await chains.findChain(eventId);
    if (chain?.status === 'rejected') rejected.add(chain.eventId);
    else if (chain?.failure === undefined) unknown.push(id);
    else failures.set(chain.failure.eventId, chain.failure);
  }
  return { failures: [...failures.values()], rejected: [...rejected], unknown };
}

/** What was done is recorded as it goes, with every id: whoever ends it midway leaves no more untold than `AT_ONCE`. */
async function redriveEach(
  context: CommandContext,
  { failures, rejected }: Wanted,
  {
    isDryRun,
    isJson,
    record,
  }: { isDryRun: boolean; isJson: boolean; record: (some: readonly Answer[]) => Promise<void> },
): Promise<Answer[]> {
  const redriveFailure = makeRedrive(context, { isDryRun });
  const redriveRejected = makeRedriveRejected(context);
  // A few are done before a bar could be read.
  const isLong = failures.length > AT_ONCE;
  const bar = startProgressBar(isDryRun ? 'Counting' : 'Redriving', failures.length, { isJson });
  const answers: Answer[] = [];
  const add = async (some: readonly Answer[]) => {
    answers.push(...some);
    await record(some);
  };
  for (let start = 0; start < failures.length; start += AT_ONCE) {
    const some = failures.slice(start, start + AT_ONCE);
    const given = await Promise.all(some.map(redriveFailure));
    await add(some.map(({ eventId }, index) => ({ eventId, answer: given[index]! })));
    if (isLong) bar.add(some.length);
  }
  for (const eventId of rejected) await add([{ eventId, ...(await redriveRejected(eventId, { isDryRun })) }]);
  if (isLong) bar.end();
  return answers;
}

function isRedriven({ answer }: Answer): boolean {
  return answer === 'redriven' || answer === 'taken_in';
}

type Report = { answers: readonly Answer[]; unknown: readonly string[]; isDryRun: boolean };

function toJson({ redriven, answers, unknown, isDryRun }: Report & { redriven: readonly string[] }) {
  return {
    ...(isDryRun ? { dryRun: true } : {}),
    ...{
      count: redriven.length,
      redriven: redriven.slice(0, LISTED_MAX),
      answers: answers.slice(0, LISTED_MAX),
      unknown,
    },
  };
}

function report({ print }: CommandContext, { answers, unknown, isDryRun }: Report): void {
  for (const { eventId, answer, as } of answers.slice(0, SHOWN_MAX)) {
    print(`${eventId} ${TEXTS[answer]}${as === undefined ? '' : `: ${as}`}`);
  }
  if (answers.length > SHOWN_MAX) print(`… and ${answers.length - SHOWN_MAX} more`);
  for (const id of unknown) print(`${id} names no event that failed`);
  if (answers.length === 0 && unknown.length === 0) print('Nothing stands failed that was asked for.');
  else if (isDryRun)
    print(`A dry run: nothing was changed. Would be tried again: ${answers.filter(isRedriven).length}`);
  else if (answers.length > SHOWN_MAX) print(`Tried again: ${answers.filter(isRedriven).length}`);
}
