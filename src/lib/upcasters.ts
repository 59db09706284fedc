/**
 * Brings the data of older entries up to the version that the catalogue has now, one step at a time, so that entries
 * stay readable for ever. A step takes version `from` and returns version `from + 1`; it is pure and never fails on data
 * that its version allowed.
 */
import { catalogue, type EventType } from './events.js';

type Step = (data: unknown) => unknown;

/** By event type, then by the version that the step starts from. */
const STEPS: Partial<Record<EventType, Record<number, Step>>> = {};

/** Returns the data in the present version; data of a version without steps is returned as it is. */
export function upcast(type: EventType, version: number, data: unknown): unknown {
  let upcasted = data;
  for (let from = version; from < catalogue[type].version; from += 1) {
    upcasted = STEPS[type]?.[from]?.(upcasted) ?? upcasted;
  }
  return upcasted;
}
