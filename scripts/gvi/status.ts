import { countDryRuns } from '../../src/lib/dry-runs.js';
import { readOverview } from '../../src/lib/overview.js';
import { type Command, parseCommandLine } from './command.js';
import { formatDuration, formatTable } from './format.js';

/** How the pipeline stands. */
export const status: Command = {
  name: 'status',
  usage: 'status',
  summary: 'streams, groups, what waits, what failed, which provider is paused',
  async run(argv, { redis, keys, config, print }) {
    const { values } = parseCommandLine(status, argv, {});
    const overview = await readOverview({ redis, keys });
    const dryRuns = config.dryRun ? undefined : await countDryRuns({ redis, keys });
    if (values.json) {
      print(JSON.stringify({ ...overview, dryRuns: dryRuns?.count ?? null }));
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
    for (const { provider, kind, reason, since } of overview.pauses) {
      print(`\n${provider} is paused since ${since} (${kind}: ${reason})`);
    }
    if (dryRuns !== undefined && dryRuns.count > 0) {
      print(`\n${dryRuns.count} events ended as a dry run and are not in the CRM, since ${dryRuns.since}`);
    }
    if (config.dryRun) print('\nDRY_RUN is on: nothing is written to the CRM');
    return 0;
  },
};
