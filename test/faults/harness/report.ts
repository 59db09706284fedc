/** The figures of a run: what was sent, what was done to the system, what was lost or came twice, how long it took to recover. */
import { appendFileSync } from 'node:fs';
import { describeTimes, type Figures, type ReportLine } from '../../../scripts/lib/faults-report.js';
import type { FaultLog, InjectedFault } from './fault-log.js';
import { groupBy } from './history.js';
import type { Snapshot } from './snapshot.js';
import type { World } from './world.js';

/** What a check has found, of the faults since the one before it. */
export type Found = Pick<Figures, 'lost' | 'doubled' | 'forgotten'> & Times;

type Times = Pick<Figures, 'recoveriesMs' | 'takeoversMs' | 'settledMs'>;

type Tally = Times & {
  lost: number;
  doubled: number;
  /** Bodies: what is forgotten, and missing in two checks, is forgotten once. */
  forgotten: Set<string>;
  told: Set<InjectedFault>;
};

const tallies = new WeakMap<World, Tally>();

/** Adds what a check has found to the world's figures. */
export function noteFigures(
  world: World,
  { lost, doubled, forgotten }: { lost: number; doubled: number; forgotten: readonly string[] },
  snapshot?: Snapshot,
): Found {
  const tally = tallyOf(world);
  tally.lost += lost;
  tally.doubled += doubled;
  for (const body of forgotten) tally.forgotten.add(body);
  const times = findTimes(
    world,
    world.faultLog.faults.filter((fault) => !tally.told.has(fault)),
    snapshot,
  );
  for (const fault of world.faultLog.faults) tally.told.add(fault);
  for (const kind of ['recoveriesMs', 'takeoversMs', 'settledMs'] as const) tally[kind].push(...times[kind]);
  return { lost, doubled, forgotten: forgotten.length, ...times };
}

/** The figures of all checks together. `stallMs`: how long the suite itself stood still at the most. */
export function reportWorld(world: World, file: string, stallMs: number): void {
  const { history, faultLog, random } = world;
  const { told: _, forgotten, ...found } = tallyOf(world);
  const faults = [...groupBy(faultLog.faults, ({ kind }) => kind)].map(([kind, same]) => [kind, same.length]);
  const line: ReportLine = {
    ...{ file, seed: random.seed },
    events: new Set(history.sent.map(({ delivery }) => delivery.body)).size,
    requests: history.sent.length,
    accepted: history.count('ok'),
    faults: Object.fromEntries(faults),
    ...{ ...found, forgotten: forgotten.size, stallMs },
  };
  console.log(describeFigures(line));
  const target = process.env.FAULTS_REPORT;
  if (target !== undefined) appendFileSync(target, `${JSON.stringify(line)}\n`);
}

function tallyOf(world: World): Tally {
  const known = tallies.get(world);
  if (known !== undefined) return known;
  const times = { recoveriesMs: [], takeoversMs: [], settledMs: [] };
  const made = { lost: 0, doubled: 0, forgotten: new Set<string>(), told: new Set<InjectedFault>(), ...times };
  tallies.set(world, made);
  return made;
}

function findTimes(world: World, faults: readonly InjectedFault[], snapshot: Snapshot | undefined): Times {
  return {
    recoveriesMs: faults.flatMap((fault) => findReadsAfter(world, fault)),
    takeoversMs: faults.flatMap((fault) => findTakeovers(world, fault)),
    settledMs: snapshot === undefined ? [] : faults.flatMap((fault) => findSettled(world, fault, snapshot)),
  };
}

/** Of a worker that had no time until the next fault, or was kept down meanwhile, there is nothing to tell. */
export function findReadsAfter({ wire, workers, faultLog }: World, fault: InjectedFault): number[] {
  const { healedAt, readAgainMs } = fault;
  if (readAgainMs !== undefined) return [...readAgainMs];
  if (healedAt === undefined) return [];
  const endsAt = nextFaultAfter(faultLog, fault)?.at ?? Number.POSITIVE_INFINITY;
  const expected = workers().filter((part) => !part.wasDown(healedAt));
  return expected.flatMap(({ name, groups }) =>
    groups.flatMap((group) => {
      const at = wire.readsOf(name, group).find((time) => time >= healedAt);
      return at === undefined || at >= endsAt ? [] : [at - healedAt];
    }),
  );
}

/** What somebody else had at last, of what the victim held. */
export function findTakeovers({ wire }: World, { at, affected }: InjectedFault): number[] {
  return affected.flatMap(({ group, eventId }) => {
    const takeover = wire.takeovers.find((one) => one.at >= at && one.group === group && one.eventId === eventId);
    return takeover === undefined ? [] : [takeover.at - at];
  });
}

/** For each entry that the victim held and that no later fault has hit. */
export function findSettled({ faultLog }: World, fault: InjectedFault, { byCause }: Snapshot): number[] {
  const later = faultLog.faults.slice(faultLog.faults.indexOf(fault) + 1);
  const hitLater = new Set(later.flatMap(({ affected }) => affected.map(({ eventId }) => eventId)));
  return fault.affected.flatMap(({ eventId }) => {
    const settled = byCause.get(eventId)?.find((entry) => entry.replay === undefined);
    return settled === undefined || settled.at < fault.at || hitLater.has(eventId) ? [] : [settled.at - fault.at];
  });
}

/** From the end of a fault to the next entry that any worker wrote, where that was before the next fault. */
export function findRecoveries({ faultLog }: { faultLog: Pick<FaultLog, 'faults'> }, { entries }: Snapshot): number[] {
  const written = entries.filter(({ cause }) => cause !== undefined).sort((a, b) => a.at - b.at);
  return faultLog.faults.flatMap((fault) => {
    const { healedAt } = fault;
    if (healedAt === undefined) return [];
    const endsAt = nextFaultAfter(faultLog, fault)?.at ?? Number.POSITIVE_INFINITY;
    const next = written.find(({ at }) => at >= healedAt);
    return next === undefined || next.at >= endsAt ? [] : [next.at - healedAt];
  });
}

/** Its own beginning is none, also where it was over within a millisecond. */
function nextFaultAfter({ faults }: Pick<FaultLog, 'faults'>, fault: InjectedFault): InjectedFault | undefined {
  return faults.find((other) => other !== fault && other.at >= (fault.healedAt ?? fault.at));
}

export function describeFigures(figures: ReportLine): string {
  const { seed, events, requests, accepted, faults, lost, doubled, forgotten, stallMs } = figures;
  const kinds = Object.entries(faults).map(([kind, count]) => `${count} × ${kind}`);
  const told = [
    `lost ${lost}, doubled ${doubled}`,
    ...(forgotten === 0 ? [] : [`${forgotten} forgotten by Redis`]),
    ...tellTimes('reading again', figures.recoveriesMs),
    ...tellTimes('taken over', figures.takeoversMs),
    ...tellTimes('settled', figures.settledMs),
    `the suite stood still for at most ${stallMs} ms`,
  ];
  return `FAULTS_SEED=${seed}: ${events} events in ${requests} requests (${accepted} taken in), ${kinds.join(', ') || 'no faults'}; ${told.join('; ')}`;
}

function tellTimes(what: string, times: readonly number[]): string[] {
  return times.length === 0 ? [] : [`${what} after ${describeTimes(times)}`];
}
