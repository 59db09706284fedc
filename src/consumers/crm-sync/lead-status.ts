/** The status of a lead, from all of its bookings that are known: the same whatever the order in which they came. */
import type { LeadState } from '../../lib/lead-state.js';
import { timeOf } from './lead-facts.js';

export const STATUS_TEXTS: Record<string, string> = {
  booked: 'Meeting Booked',
  canceled: 'Meeting Canceled',
  no_show: 'No Show',
};

/**
 * A booking that was moved away counts no more. The latest event decides, but neither a cancellation nor a no-show hides another
 * booking that was still to come. `undefined` where there is no booking.
 */
export function statusOf(bookings: NonNullable<LeadState['bookings']>): { value: string } | undefined {
  const all = Object.values(bookings)
    .map(([state, startsAt, order]) => ({ state, startsAt, order }))
    .filter(({ state }) => state !== 'moved');
  const latest = all.reduce<(typeof all)[number] | undefined>(
    (a, b) => (a === undefined || b.order > a.order ? b : a),
    undefined,
  );
  if (latest === undefined) return undefined;
  const stillToCome =
    latest.state !== 'booked' &&
    all.some(({ state, startsAt }) => state === 'booked' && Date.parse(startsAt) > timeOf(latest.order));
  const value = STATUS_TEXTS[stillToCome ? 'booked' : latest.state];
  return value === undefined ? undefined : { value };
}
