/** What was done to the system, when, and whom it hit: the basis of the recovery times. */
import type { GroupName } from '../../../src/lib/events.js';

export type InjectedFault = {
  /** `SIGKILL worker`, `drop replies`, … */
  kind: string;
  target: string;
  /** ms since 1970. */
  at: number;
  /** What the victim held: recovered when each of these is settled. */
  affected: { group: GroupName; eventId: string }[];
  /** From when on the system could go on, ms since 1970: recovered when every worker reads again. */
  healedAt?: number;
  /** How long that took, where there are no proxies to tell it (`untilAllTake`). */
  readAgainMs?: readonly number[];
  note?: string;
};

export type FaultLog = {
  faults: readonly InjectedFault[];
  add: (kind: string, target: string, more?: Partial<Pick<InjectedFault, 'affected' | 'note'>>) => InjectedFault;
  /** One line each. */
  describe: () => string[];
};

export function makeFaultLog(): FaultLog {
  const faults: InjectedFault[] = [];
  return {
    faults,
    add(kind, target, more = {}) {
      const fault = { kind, target, at: Date.now(), affected: [], ...more };
      faults.push(fault);
      return fault;
    },
    describe: () =>
      faults.map(({ kind, target, at, affected, note }) => {
        const held = affected.length === 0 ? '' : `, which held ${affected.map(({ eventId }) => eventId).join(' ')}`;
        return `${new Date(at).toISOString()} ${kind} ${target}${held}${note === undefined ? '' : ` (${note})`}`;
      }),
  };
}
