import { makeChains } from '../../src/lib/chain.js';
import { UsageError } from '../../src/lib/command-line.js';
import { type OpenFailure, readOpenFailures } from '../../src/lib/overview.js';
import { makeRedrive, type RedriveAnswer, recordOperation } from '../../src/lib/redrive.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';

/** Hands failed events to their group again. */
export const redrive: Command = {
  name: 'redrive',
  usage: 'redrive <event id…> | --all [--yes]',
  summary: 'tries failed events again, with a new count of attempts',
  async run(argv, context) {
    const { values, positionals } = parseCommandLine(redrive, argv, { all: { type: 'boolean', default: false } });
    if (values.all === positionals.length > 0) throw new UsageError(`Usage: gvi ${redrive.usage}`);
    const { failures, unknown } = values.all
      ? { failures: await readOpenFailures(context), unknown: [] }
      : await findFailures(context, positionals);
    if (values.all && failures.length > 1 && !values.yes && !(await confirm(`Redrive ${failures.length} events?`)))
      return 1;

    const answers = await redriveEach(context, failures);
    const redriven = answers.filter(({ answer }) => answer === 'redriven').map(({ eventId }) => eventId);
    if (redriven.length > 0) await recordOperation(context, { operation: 'redrive', by: 'gvi', eventIds: redriven });
    if (values.json) context.print(JSON.stringify({ redriven, answers, unknown }));
    else report(context, answers, unknown);
    return unknown.length === 0 && answers.every(({ answer }) => answer === 'redriven') ? 0 : 1;
  },
};

type Answer = { eventId: string; answer: RedriveAnswer };

async function redriveEach({ redis, keys }: CommandContext, failures: readonly OpenFailure[]): Promise<Answer[]> {
  const again = makeRedrive({ redis, keys });
  const answers: Answer[] = [];
  for (const failure of failures) answers.push({ eventId: failure.eventId, answer: await again(failure) });
  return answers;
}

/** The id of any entry of the chain will do. */
async function findFailures({ redis, keys }: CommandContext, wanted: readonly string[]) {
  const chains = makeChains({ redis, keys });
  const failures = new Map<string, OpenFailure>();
  const unknown: string[] = [];
  for (const id of wanted) {
    const eventId = await chains.findEventId(id);
    const chain = eventId === undefined ? undefined : await chains.findChain(eventId);
    if (chain?.failure === undefined) unknown.push(id);
    else failures.set(chain.failure.eventId, chain.failure);
  }
  return { failures: [...failures.values()], unknown };
}

function report({ print }: CommandContext, answers: readonly Answer[], unknown: readonly string[]): void {
  const texts: Record<RedriveAnswer, string> = {
    redriven: 'is tried again',
    not_failed: 'does not stand failed: it was redriven, delivered again or processed meanwhile',
    gone: 'is not in its stream any more',
  };
  for (const { eventId, answer } of answers) print(`${eventId} ${texts[answer]}`);
  for (const id of unknown) print(`${id} names no event that failed`);
  if (answers.length === 0 && unknown.length === 0) print('Nothing stands failed.');
}
