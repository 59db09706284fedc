import { describeGroup } from '../../src/lib/abandoned-groups.js';
import { UsageError } from '../../src/lib/command-line.js';
import { PROVIDERS } from '../../src/lib/errors.js';
import { GROUPS, type GroupName, STREAMS } from '../../src/lib/events.js';
import { readRedisTime } from '../../src/lib/maintenance.js';
import { recordOperation } from '../../src/lib/operations.js';
import { type Command, type CommandContext, operatorName, parseCommandLine, refuse } from './command.js';
import { confirm } from './confirm.js';
import { formatDuration } from './format.js';

/** Removes a group that nobody serves and that keeps entries from being trimmed. */
export const dropGroup: Command = {
  name: 'drop-group',
  usage: 'drop-group <stream> <group> [--yes]',
  summary: 'removes a group that this service does not have, with what is pending in it',
  async run(argv, context) {
    const { values, positionals } = parseCommandLine(dropGroup, argv, {});
    const [streamName, group] = positionals;
    const stream = STREAMS.find((name) => name === streamName || name === `events:${streamName}`);
    if (group === undefined || positionals.length > 2) throw new UsageError(`Usage: gvi ${dropGroup.usage}`);
    if (stream === undefined) {
      throw new UsageError(`There is no stream ${streamName}; there are ${STREAMS.join(', ')}`);
    }
    const { redis, keys } = context;
    const found = await describeGroup({ redis, keys }, { stream, group, now: await readRedisTime(redis) });
    if (found === undefined) return refuse(context, values.json, 'not_found', `${stream} has no group ${group}.`);
    if (found.isKnown) {
      const message = `${group} does the work on ${stream}: without it nothing of that stream would be done. Start a worker for it instead: npm run worker -- --group ${group}`;
      return refuse(context, values.json, 'working_group', message);
    }
    const { pending, backlog, consumers, oldestAgeMs } = found;
    const age = oldestAgeMs === 0 ? '' : `, the oldest ${formatDuration(oldestAgeMs)} old`;
    const held = `${pending} pending and ${backlog} unread entries${age}; consumers: ${consumers}`;
    if (!values.yes && !(await confirm(`Drop the group ${group} of ${stream} (${held})? Its entries stay.`))) return 1;

    await redis.xgroup('DESTROY', keys.stream(stream), group);
    if (!(GROUPS as readonly string[]).includes(group)) await deleteWorkingKeys(context, group as GroupName);
    const details = { stream, group };
    await recordOperation(context, {
      ...{ operation: 'drop-group', by: operatorName(values.by), count: pending + backlog, details },
    });
    context.print(values.json ? JSON.stringify({ dropped: found }) : `Dropped ${group} of ${stream}: ${held}`);
    return 0;
  },
};

/** What an earlier version of this service kept for a group that it has no more. */
async function deleteWorkingKeys({ redis, keys }: CommandContext, group: GroupName): Promise<void> {
  const waiting = PROVIDERS.map((provider) => keys.waiting(group, provider));
  const ofWorkers = [keys.strikes(group), keys.alive(group), keys.cursors(group)];
  await redis.del(keys.parked(group), keys.attempts(group), keys.replay(group), ...waiting, ...ofWorkers);
}
