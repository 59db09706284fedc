import type { AbandonedGroup } from '../../src/lib/abandoned-groups.js';
import { countDryRuns, dryRunsCommand } from '../../src/lib/dry-runs.js';
import { isoTime } from '../../src/lib/event-id.js';
import { GROUPS, type GroupName } from '../../src/lib/events.js';
import { readRedisTime } from '../../src/lib/maintenance.js';
import { isServed, type Overview, readOverview } from '../../src/lib/overview.js';
import { readProjectionLags } from '../../src/lib/projection-lag.js';
import { isRebuildInterrupted, REBUILD_COMMAND } from '../../src/lib/rebuild.js';
import { readUnfinishedReplays } from '../../src/lib/unfinished-replays.js';
import { projections } from '../../src/projections/index.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';
import { formatDuration, formatTable, showLine } from './format.js';

/** How the pipeline stands. */
export const status: Command = {
  name: 'status',
  redis: 'look',
  usage: 'status',
  summary: 'streams, groups, what waits, what failed, which provider is paused',
  async run(argv, context) {
    const { redis, keys, config, print } = context;
    const { values } = parseCommandLine(status, argv, {}, { isBare: true });
    const overview = await readOverview({ redis, keys });
    const lags = await readProjectionLags({ redis, keys, projections });
    const replays = await readUnfinishedReplays({ redis, keys });
    const isInterrupted = await isRebuildInterrupted({ redis, keys, projections });
    const dryRuns = config.dryRun ? undefined : await countDryRuns({ redis, keys });
    if (values.json) {
      const more = { projections: lags, dryRuns: dryRuns?.count ?? null, replays, rebuildInterrupted: isInterrupted };
      print(JSON.stringify({ ...overview, ...more }));
      return 0;
    }
    const groups = Object.entries(overview.groups).map(([name, group]) => [
      ...[name, group.backlog, group.pending, group.parked, group.failed],
      group.oldestAgeMs === 0 ? '–' : formatDuration(group.oldestAgeMs),
    ]);
    print(formatTable(['group', 'backlog', 'pending', 'parked', 'failed', 'oldest'], groups));
    print('');
    const streams = Object.entries(overview.streams).map(([name, { length, lastId }]) => [
      name,
      length,
      length === 0 ? '–' : lastId,
    ]);
    print(formatTable(['stream', 'length', 'last id'], streams));
    print('');
    const behind = Object.entries(lags).map(([name, { lag, lagMs }]) => [
      ...[name, lag],
      lag === 0 ? '–' : formatDuration(lagMs),
    ]);
    print(formatTable(['projection', 'behind', 'oldest'], behind));
    for (const { provider, kind, reason, since } of overview.pauses) {
      print(`\n${showLine(`${provider} is paused since ${since} (${kind}: ${reason})`)}`);
    }
    for (const [group, held] of await findDeserted(context, overview)) {
      print(`\nNo worker of ${group} is alive; entries that wait: ${held}`);
      print(`start one: npm run worker -- --group ${group}`);
    }
    for (const group of overview.abandoned) print(`\n${describeAbandoned(group)}`);
    for (const { replayId, group, movedAt } of replays) {
      print(`\nA replay of ${showLine(group)} is not at its end; it last moved at ${isoTime(movedAt)}`);
      print(`if nobody runs it: npm run -s gvi -- replay --resume ${showLine(replayId)}`);
      print(`to give it up: npm run -s gvi -- replay --abandon ${showLine(replayId)}`);
    }
    if (isInterrupted) {
      print('\nA rebuild was interrupted; what it has built takes memory beside the live states');
      print(`to bring it to its end: ${REBUILD_COMMAND}`);
    }
    if (dryRuns !== undefined && dryRuns.count > 0) {
      const { count, since } = dryRuns;
      print(`\n${count} events ended as a dry run and are not in the CRM, since ${since}`);
      print(`to write them: ${dryRunsCommand(since)}`);
    }
    if (config.dryRun) print('\nDRY_RUN is on: nothing is written to the CRM');
    return 0;
  },
};

/** Groups that have something to do and nobody to do it; those that nobody has served for long are told of as abandoned. */
async function findDeserted(context: CommandContext, { groups, abandoned }: Overview): Promise<[GroupName, number][]> {
  const now = await readRedisTime(context.redis);
  const found = await Promise.all(
    GROUPS.map(async (name): Promise<[GroupName, number]> => {
      const { backlog, pending, parked } = groups[name]!;
      return [name, (await isServed(context, name, now)) ? 0 : backlog + pending + parked];
    }),
  );
  return found.filter(([name, held]) => held > 0 && !abandoned.some(({ group }) => group === name));
}

function describeAbandoned({ isKnown, pending, backlog, parked, oldestAgeMs, ...found }: AbandonedGroup): string {
  const { stream } = found;
  const group = showLine(found.group);
  const held = pending + backlog + parked;
  const age = oldestAgeMs === 0 ? '' : `, the oldest ${formatDuration(oldestAgeMs)} old`;
  const what = `entries of ${stream} that it keeps from being trimmed: ${held}${age}`;
  return isKnown
    ? `Nobody reads for ${group}; ${what}\nstart one: npm run worker -- --group ${group}`
    : `The group ${group} is none of this service; ${what}\nif nobody needs it: npm run -s gvi -- drop-group ${stream} ${group}`;
}
