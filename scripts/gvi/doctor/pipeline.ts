import type { AbandonedGroup } from '../../../src/lib/abandoned-groups.js';
import { countDryRuns, dryRunsCommand } from '../../../src/lib/dry-runs.js';
import { GROUPS, type GroupName, streamsOf } from '../../../src/lib/events.js';
import { readRedisTime } from '../../../src/lib/maintenance.js';
import { DEAD_MS, type GroupState, isServed, readOverview } from '../../../src/lib/overview.js';
import { isRebuildInterrupted, REBUILD_COMMAND } from '../../../src/lib/rebuild.js';
import { toRecord } from '../../../src/lib/runtime/entry.js';
import { projections } from '../../../src/projections/index.js';
import { formatDuration } from '../format.js';
import { type Check, type DoctorContext, type Found, ok, problem, warning } from './check.js';

/** The groups and who reads for them, what stands failed, and which provider is paused. */
export const pipeline: Check = {
  name: 'pipeline',
  needsRedis: true,
  async run(context) {
    const overview = await readOverview(context);
    const now = await readRedisTime(context.redis);
    const groups = await Promise.all(
      GROUPS.map(async (group) => {
        const state = overview.groups[group]!;
        const [readers, isWorkerAlive] = await Promise.all([
          readReaders(context, group),
          isServed(context, group, now),
        ]);
        return inspectGroup(group, { ...readers, isWorkerAlive, state });
      }),
    );
    const pauses = overview.pauses.map(({ provider, kind, reason, since }) => {
      const text = `${provider} is paused since ${since} (${reason})`;
      return kind === 'configuration'
        ? problem(text, `set right what the check of ${provider} names; work waits and goes on by itself`)
        : warning(text, 'nothing to do: it is probed, and work goes on when it is back');
    });
    const strangers = overview.abandoned.filter(({ isKnown }) => !isKnown).map(inspectStranger);
    const failures = inspectFailures(overview.groups);
    const rebuilding = await inspectRebuild(context);
    return [...groups, ...strangers, ...failures, ...pauses, ...rebuilding, ...(await inspectDryRuns(context))];
  },
};

export type Readers = {
  isComplete: boolean;
  consumers: number;
  /** The shortest time since a consumer last asked; `undefined` before Redis 7.2, which does not tell it. */
  idleMs: number | undefined;
};

const BEHIND_MS = 600_000;

/**
 * Pure. Before 7.2 Redis knows a consumer from its first entry on and not when it last asked; whether a worker of the group
 * lives is then told by its heartbeats.
 */
export function inspectGroup(
  group: GroupName,
  { isComplete, consumers, idleMs, isWorkerAlive, state }: Readers & { isWorkerAlive: boolean; state: GroupState },
): Found {
  const { backlog, oldestAgeMs } = state;
  const isRead = consumers > 0 ? (idleMs === undefined ? isWorkerAlive : idleMs < DEAD_MS) : false;
  const mayBeRead = consumers === 0 && idleMs === undefined && isWorkerAlive && backlog === 0;
  const fix = `npm run worker -- --group ${group}`;
  if (!isComplete || (!isRead && !mayBeRead)) {
    const text = isComplete ? `No worker reads for ${group}` : `No worker of ${group} has run on this Redis yet`;
    return backlog > 0 ? problem(`${text}; entries that wait: ${backlog}`, fix) : warning(text, fix);
  }
  if (backlog > 0 && oldestAgeMs > BEHIND_MS) {
    return warning(
      `${group} is behind; entries that wait: ${backlog}, the oldest for ${formatDuration(oldestAgeMs)}`,
      `start more workers (${fix}), or see what holds them up: npm run -s gvi -- status`,
    );
  }
  return ok(
    mayBeRead
      ? `${group}; entries that wait: 0, and a worker runs`
      : `${group}; workers that read: ${consumers}, entries that wait: ${backlog}`,
  );
}

async function readReaders({ redis, keys }: DoctorContext, group: GroupName): Promise<Readers> {
  const perStream = await Promise.all(
    streamsOf(group).map(async (stream) => {
      try {
        const flat = (await redis.xinfo('CONSUMERS', keys.stream(stream), group)) as (string | number)[][];
        return flat.map((each) => toRecord(each.map(String)));
      } catch (error) {
        if (error instanceof Error && /^(NOGROUP|ERR no such key)/.test(error.message)) return undefined;
        throw error;
      }
    }),
  );
  const all = perStream.flatMap((consumers) => consumers ?? []);
  const names = new Set(all.map(({ name }) => name));
  const tells = all.length > 0 && all.every(({ inactive }) => inactive !== undefined);
  return {
    isComplete: perStream.every((consumers) => consumers !== undefined),
    consumers: names.size,
    idleMs: tells ? Math.min(...all.map(({ idle }) => Number(idle))) : undefined,
  };
}

/** Nothing that such a group has not finished is ever trimmed. */
function inspectStranger({ stream, group, pending, backlog, parked }: AbandonedGroup): Found {
  return warning(
    `${stream} has a group that is none of this service: ${group}; entries that it keeps from being trimmed: ${pending + backlog + parked}`,
    `if nobody needs it: npm run -s gvi -- drop-group ${stream} ${group}`,
  );
}

function inspectFailures(groups: Record<string, GroupState>): Found[] {
  const count = Object.values(groups).reduce((total, { failed }) => total + failed, 0);
  if (count === 0) return [ok('Nothing stands failed')];
  return [
    warning(
      `Events that stand failed: ${count}`,
      'npm run -s gvi -- failed says why; npm run -s gvi -- redrive <event id> tries again',
    ),
  ];
}

async function inspectRebuild({ redis, keys }: DoctorContext): Promise<Found[]> {
  if (!(await isRebuildInterrupted({ redis, keys, projections }))) return [];
  return [
    warning(
      'A rebuild was interrupted; what it has built takes memory beside the live states',
      `${REBUILD_COMMAND} brings it to its end`,
    ),
  ];
}

/** While DRY_RUN is on they are as wanted. */
async function inspectDryRuns(context: DoctorContext): Promise<Found[]> {
  if (context.config.dryRun) return [];
  const { count, since } = await countDryRuns(context);
  if (count === 0) return [];
  return [
    warning(
      `Events that ended as a dry run and are not in the CRM: ${count}`,
      `${dryRunsCommand(since)} writes them; with --dry-run it shows what`,
    ),
  ];
}
