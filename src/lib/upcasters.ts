/**
 * Brings the data of older entries up to the version that the catalogue has now, one step at a time, so that entries
 * stay readable for ever. A step takes version `from` and returns version `from + 1`; it is pure and never fails on data
 * that its version allowed.
 *
 * With a new version come the step here, and in `test/fixtures/entries` an entry of it as it stands in Redis; those of
 * former versions stay. `test/unit/old-entries.test.ts` fails where one is missing.
 */
import { catalogue, type EventType } from './events.js';

type Step = (data: unknown) => unknown;

/** By event type, then by the version that the step starts from. */
export type Steps = Partial<Record<EventType, Record<number, Step>>>;

export const STEPS: Steps = {};

/** The versions that an entry may have: the catalogue's, and the steps that lead there. */
export type Versions = { presentOf: (type: EventType) => number; steps: Steps };

export const VERSIONS: Versions = { presentOf: (type) => catalogue[type].version, steps: STEPS };

/** Returns the data in the present version. */
export function upcast(type: EventType, version: number, data: unknown, { presentOf, steps }: Versions): unknown {
  let upcasted = data;
  for (let from = version; from < presentOf(type); from += 1) {
    const step = steps[type]?.[from];
    if (step === undefined) throw new RangeError(`There is no step from version ${from} of ${type}`);
    upcasted = step(upcasted);
  }
  return upcasted;
}
