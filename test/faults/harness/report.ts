/** The figures of a run: what was sent, what was done to the system, what was lost or came twice, how long it took to recover. */
import { appendFileSync } from 'node:fs';
import { describeTimes, type Figures, type ReportLine } from '../../../scripts/lib/faults-report.js';
import type { FaultLog, InjectedFault } from './fault-log.js';
import { groupBy } from './history.js';
import type { Snapshot } from './snapshot.js';
import type { World } from './world.js';

const latest = new WeakMap<World, Figures>();

export function noteFigures(
  world: World,
  found: Pick<Figures, 'lost' | 'doubled' | 'recoveriesMs' | 'forgotten'>,
): Figures {
  const { history, faultLog } = world;
  const faults = [...groupBy(faultLog.faults, ({ kind }) => kind)].map(([kind, same]) => [kind, same.length]);
  const figures = {
    events: new Set(history.sent.map(({ delivery }) => delivery.body)).size,
    requests: history.sent.length,
    accepted: history.count('ok'),
    faults: Object.fromEntries(faults),
    ...found,
  };
  latest.set(world, figures);
  return figures;
}

/** The figures of the last check. */
export function reportWorld(world: World, file: string): void {
  const figures = latest.get(world);
  if (figures === undefined) return;
  const line: ReportLine = { file, seed: world.random.seed, ...figures };
  console.log(describeFigures(line));
  const target = process.env.FAULTS_REPORT;
  if (target !== undefined) appendFileSync(target, `${JSON.stringify(line)}\n`);
}

/**
 * For each event that a victim held: from the last fault that hit it to the entry that settled it. For a fault that ended
 * at a known time: from then to the next entry that any worker wrote.
 */
export function findRecoveries(
  { faultLog }: { faultLog: Pick<FaultLog, 'faults'> },
  { byCause, entries }: Snapshot,
): number[] {
  const written = entries.filter(({ cause }) => cause !== undefined).sort((a, b) => a.at - b.at);
  const lastHit = new Map<string, InjectedFault>();
  for (const fault of faultLog.faults) for (const { eventId } of fault.affected) lastHit.set(eventId, fault);
  return faultLog.faults.flatMap((fault) => {
    const { at, affected, healedAt } = fault;
    const own = affected.flatMap(({ eventId }) => {
      const settled = byCause.get(eventId)?.find((entry) => entry.replay === undefined);
      const isLast = lastHit.get(eventId) === fault;
      return settled === undefined || settled.at < at || !isLast ? [] : [settled.at - at];
    });
    const next = healedAt === undefined ? undefined : written.find((entry) => entry.at >= healedAt);
    return next === undefined ? own : [...own, next.at - healedAt!];
  });
}

export function describeFigures(figures: Figures & { seed: string }): string {
  const { seed, events, requests, accepted, faults, lost, doubled, recoveriesMs, forgotten } = figures;
  const kinds = Object.entries(faults).map(([kind, count]) => `${count} × ${kind}`);
  const recovery = recoveriesMs.length === 0 ? '' : `, recovery ${describeTimes(recoveriesMs)}`;
  const gone = forgotten === 0 ? '' : `, ${forgotten} forgotten by Redis`;
  return `FAULTS_SEED=${seed}: ${events} events in ${requests} requests (${accepted} taken in), ${kinds.join(', ') || 'no faults'}; lost ${lost}, doubled ${doubled}${gone}${recovery}`;
}
