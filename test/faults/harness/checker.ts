/** Compares, once all is quiet, what was promised with what is: set against set. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkEffects, checkLedger, findWritten } from './check-effects.js';
import { checkAlerts, checkCrm, checkProcesses, findInDoubt } from './check-outside.js';
import { checkAtRest, checkConsumers, checkNumbers, checkReading } from './check-rest.js';
import { checkEnded, checkFollowOns, checkMarks, checkTakenIn, findForgotten } from './check-streams.js';
import type { Sent } from './history.js';
import type { PartEnd } from './parts.js';
import { type QuietOptions, waitQuiet } from './quiet.js';
import { type Found, noteFigures } from './report.js';
import { readSnapshot, type Snapshot } from './snapshot.js';
import { describePerson, describeTimeline } from './timeline.js';
import type { Rule, Violation } from './violation.js';
import type { World } from './world.js';

export type CheckOptions = QuietOptions & {
  /** Rules that cannot hold after this fault, as after Redis was emptied. */
  skip?: readonly Rule[];
  /** Whether an event may have failed for good [none may]. */
  mayFail?: (failure: Snapshot['failures'][number]) => boolean;
  /** Whether Redis, having lost what it held, may have forgotten what it took in then [it may not]. */
  mayForget?: (sent: Sent) => boolean;
  /** When Redis lost what it had held: also of what it took in before it may have forgotten what was done. */
  losses?: readonly Loss[];
  /** Whether a process may have ended by itself [none may]. */
  mayEnd?: (end: PartEnd) => boolean;
};

/** ms since 1970. */
export type Loss = { from: number; to: number };

const SHOWN_MAX = 12;

/** Waits for quiet and throws what is wrong, with the seed, the faults and the timeline of the first event concerned. */
export async function check(world: World, options: CheckOptions = {}): Promise<Found> {
  try {
    await waitQuiet(world, options);
  } catch (error) {
    await noteStuck(world, options).catch(() => {});
    throw error;
  }
  const snapshot = await readSnapshot(world);
  const violations = await findViolations(world, snapshot, options);
  const forgotten = options.mayForget === undefined ? [] : findForgotten(world, snapshot).map(({ body }) => body);
  const found = noteFigures(world, { ...countWrong(violations), forgotten }, snapshot);
  if (violations.length === 0) return found;
  throw new Error(await describe(world, violations));
}

/** What never came to its end is lost as far as the figures go. */
async function noteStuck(world: World, { mayForget = () => false }: CheckOptions): Promise<void> {
  const snapshot = await readSnapshot(world);
  const violations = [...checkTakenIn(world, snapshot, mayForget), ...checkEnded(world, snapshot)];
  noteFigures(world, { ...countWrong(violations), forgotten: [] });
}

function countWrong(violations: readonly Violation[]): { lost: number; doubled: number } {
  return {
    lost: sum(violations.map(({ lost = 0 }) => lost)),
    doubled: sum(violations.map(({ doubled = 0 }) => doubled)),
  };
}

async function findViolations(world: World, snapshot: Snapshot, options: CheckOptions): Promise<Violation[]> {
  const { skip = [], mayFail = () => false, mayForget = () => false, mayEnd = () => false, losses = [] } = options;
  const inDoubt = new Set([...findInDoubt(world, snapshot, mayForget), ...findWritten(world, losses)]);
  const checks: (() => Violation[] | Promise<Violation[]>)[] = [
    () => checkTakenIn(world, snapshot, mayForget),
    () => checkEnded(world, snapshot),
    () => checkFailed(snapshot, mayFail),
    () => checkFollowOns(world, snapshot),
    () => checkMarks(world, snapshot),
    () => checkAtRest(world),
    () => checkReading(world),
    () => checkConsumers(world),
    () => checkLedger(world, snapshot, inDoubt),
    () => checkNumbers(world, snapshot),
    () => checkCrm(world, snapshot, mayForget, inDoubt),
    () => checkEffects(world, snapshot, inDoubt),
    () => checkAlerts(world, snapshot),
    () => checkProcesses(world, mayEnd),
  ];
  const found: Violation[] = [];
  for (const look of checks) {
    found.push(...(await look()));
    // Every link runs through this process: the next must not wait for all of them.
    await nextTurn();
  }
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
  const email = violations.find((one) => one.email !== undefined)?.email;
  return [
    `${violations.length} violations with FAULTS_SEED=${world.random.seed}`,
    ...[...shown, ...more],
    'Faults:',
    ...world.faultLog.describe().map((line) => `  ${line}`),
    ...(first === undefined ? [] : await describeTimeline(world, first.eventId!)),
    ...(email === undefined ? [] : await describePerson(world, email)),
  ].join('\n');
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
