import { type Chain, makeChains, type TrailStep } from '../../src/lib/chain.js';
import { UsageError } from '../../src/lib/command-line.js';
import { catalogue } from '../../src/lib/events.js';
import { type Command, parseCommandLine } from './command.js';
import { formatDuration, formatTable, showLine } from './format.js';

const EVENT_IDS_SHOWN = 20;

/** "What happened to this lead?" */
export const show: Command = {
  name: 'show',
  redis: 'look',
  usage: 'show <event id or key>',
  summary: 'what happened to an event: its trail, what it waits for, why it failed',
  async run(argv, { redis, keys, print }) {
    const { values, positionals } = parseCommandLine(show, argv, {});
    const [wanted] = positionals;
    if (wanted === undefined || positionals.length > 1) throw new UsageError(`Usage: gvi ${show.usage}`);
    const chains = makeChains({ redis, keys });
    const eventId = await chains.findEventId(wanted);
    const chain = eventId === undefined ? undefined : await chains.findChain(eventId);
    if (chain === undefined) {
      print(
        values.json
          ? JSON.stringify({ error: { code: 'not_found', message: 'There is no such event' } })
          : `There is no event ${wanted}.`,
      );
      return 1;
    }
    print(values.json ? JSON.stringify(chain) : describeChain(chain));
    return 0;
  },
};

function describeChain(chain: Chain): string {
  const steps = chain.trail.map((step) => [
    ...[step.at, step.type, step.eventId, step.group],
    step.attempts === 1 ? '' : `${step.attempts} attempts`,
    step.durationMs === 0 ? '' : formatDuration(step.durationMs),
    describeOutcome(step),
  ]);
  const lines = [
    `${chain.eventId}  ${chain.status.toUpperCase()}`,
    `key   ${chain.key}`,
    `type  ${chain.type}`,
    '',
    ...formatTable(['at', 'type', 'event', 'by', 'tries', 'took', 'outcome'], steps).split('\n'),
  ];
  if (chain.type === 'operation.done') lines.push(...describeOperation(chain.event.data));
  if (chain.waiting !== undefined) {
    const { group, attempts, dueAt, provider, error } = chain.waiting;
    const until = provider !== undefined ? ` until ${provider} is back` : dueAt === undefined ? '' : ` until ${dueAt}`;
    const what =
      chain.status === 'running' ? `is tried again in ${group}; it was put off by` : `waits in ${group}${until}`;
    lines.push('', `${what}: ${error.message} (${error.code}), attempts spent: ${attempts}`);
  }
  if (chain.failure !== undefined) {
    const { group, error, at, replay, isOpen } = chain.failure;
    const what = replay === undefined ? '' : `replay ${replay} `;
    const since = isOpen ? '' : chain.status === 'processed' ? '; since done' : '; tried again since';
    lines.push('', `${what}failed in ${group} at ${at}: ${error.message} (${error.code})${since}`);
    const canBeRedriven = isOpen && chain.status !== 'lost';
    if (canBeRedriven) lines.push(`try again: npm run -s gvi -- redrive ${chain.eventId}`);
  }
  if (chain.status === 'rejected') lines.push('', ...describeRejected(chain));
  return lines.map(showLine).join('\n');
}

/** Other content of an event that is known has no cause to mend. */
function describeRejected({ eventId, event }: Chain): string[] {
  const command = `npm run -s gvi -- redrive ${eventId}`;
  if (event.reason !== 'changed')
    return [`not usable: ${event.reason}`, `try again once the cause is mended: ${command}`];
  return [
    `other content of ${event.of}, of which the first counts; look at it with --json`,
    `where that event has failed for good this one can be tried in its place: ${command}`,
  ];
}

/** In the words that stand in `lead.synced`. */
function describeOutcome({ outcome, reason, leads = 0, notes = 0 }: TrailStep): string {
  if (outcome === undefined) return '';
  const count = (number: number, what: string) => (number === 0 ? [] : [`${number} ${what}${number === 1 ? '' : 's'}`]);
  const counts = [...count(leads, 'lead'), ...count(notes, 'note')].join(', ');
  return `${outcome}${reason === undefined ? '' : ` (${reason})`}${counts === '' ? '' : `: ${counts}`}`;
}

/** Who did what, to how many, and to which where they are few. */
function describeOperation(data: unknown): string[] {
  const operation = catalogue['operation.done'].data.safeParse(data).data;
  if (operation === undefined) return [];
  const { by, count, eventIds = [], details = {} } = operation;
  const told = { by, count: String(count), ...details };
  const more = eventIds.length > EVENT_IDS_SHOWN ? ` … and ${eventIds.length - EVENT_IDS_SHOWN} more` : '';
  const events = eventIds.length === 0 ? {} : { events: eventIds.slice(0, EVENT_IDS_SHOWN).join(' ') + more };
  return [
    '',
    operation.operation,
    ...Object.entries({ ...told, ...events }).map(([name, text]) => `  ${name}  ${text}`),
  ];
}
