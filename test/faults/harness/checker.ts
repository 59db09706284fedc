/** Compares, once all is quiet, what was promised with what is: set against set. */
import type { Figures } from '../../../scripts/lib/faults-report.js';
import { checkAlerts, checkCrm, checkProcesses } from './check-outside.js';
import { checkAtRest, checkConsumers, checkNumbers } from './check-rest.js';
import { checkEnded, checkFollowOns, checkMarks, checkTakenIn, findForgotten } from './check-streams.js';
import type { Sent } from './history.js';
import { type QuietOptions, waitQuiet } from './quiet.js';
import { findRecoveries, noteFigures } from './report.js';
import { readSnapshot, type Snapshot } from './snapshot.js';
import { describeTimeline } from './timeline.js';
import type { Rule, Violation } from './violation.js';
import type { World } from './world.js';

export type CheckOptions = QuietOptions & {
  /** Rules that cannot hold after this fault, as after Redis was emptied. */
  skip?: readonly Rule[];
  /** Whether an event may have failed for good [none may]. */
  mayFail?: (failure: Snapshot['failures'][number]) => boolean;
  /** Whether Redis, having lost what it held, may have forgotten what it took in then [it may not]. */
  mayForget?: (sent: Sent) => boolean;
};

const SHOWN_MAX = 12;

/** Waits for quiet and throws what is wrong, with the seed, the faults and the timeline of the first event concerned. */
export async function check(world: World, options: CheckOptions = {}): Promise<Figures> {
  await waitQuiet(world, options);
  const snapshot = await readSnapshot(world);
  const violations = await findViolations(world, snapshot, options);
  const figures = noteFigures(world, {
    lost: sum(violations.map(({ lost = 0 }) => lost)),
    doubled: sum(violations.map(({ doubled = 0 }) => doubled)),
    recoveriesMs: findRecoveries(world, snapshot),
    forgotten: options.mayForget === undefined ? 0 : findForgotten(world, snapshot).length,
  });
  if (violations.length === 0) return figures;
  throw new Error(await describe(world, violations));
}

async function findViolations(world: World, snapshot: Snapshot, options: CheckOptions): Promise<Violation[]> {
  const { skip = [], mayFail = () => false, mayForget = () => false } = options;
  const found = [
    ...checkTakenIn(world, snapshot, mayForget),
    ...checkEnded(world, snapshot),
    ...checkFailed(snapshot, mayFail),
    ...checkFollowOns(world, snapshot),
    ...(await checkMarks(world, snapshot)),
    ...(await checkAtRest(world)),
    ...(await checkConsumers(world)),
    ...(await checkNumbers(world, snapshot)),
    ...checkCrm(world, snapshot, mayForget),
    ...checkAlerts(world, snapshot),
    ...checkProcesses(world),
  ];
  return found.filter(({ rule }) => !skip.includes(rule));
}

function checkFailed({ failures }: Snapshot, mayFail: NonNullable<CheckOptions['mayFail']>): Violation[] {
  return failures.flatMap((failure) => {
    if (mayFail(failure)) return [];
    const { eventId, key, group, error } = failure;
    return [{ rule: 'failed', key, eventId, text: `${eventId} failed in ${group}: ${error.code}, ${error.message}` }];
  });
}

async function describe(world: World, violations: readonly Violation[]): Promise<string> {
  const shown = violations.slice(0, SHOWN_MAX).map(({ rule, text }) => `  ${rule}: ${text}`);
  const more = violations.length > SHOWN_MAX ? [`  and ${violations.length - SHOWN_MAX} more`] : [];
  const first = violations.find(({ eventId }) => eventId !== undefined);
  return [
    `${violations.length} violations with FAULTS_SEED=${world.random.seed}`,
    ...[...shown, ...more],
    'Faults:',
    ...world.faultLog.describe().map((line) => `  ${line}`),
    ...(first === undefined ? [] : await describeTimeline(world, first.eventId!)),
  ].join('\n');
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
