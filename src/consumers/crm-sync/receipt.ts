/** What an event wrote to a lead, in the short form that `lead.synced` and the ledger keep. */
import type { LeadSynced } from '../../lib/events.js';
import { hashValue } from '../../lib/lead-state.js';
import type { LeadFacts } from './lead-facts.js';
import type { LeadPlan } from './plan-lead.js';

export type Wrote = NonNullable<LeadSynced['wrote']>[string];

/** Of a record that several events were folded into, the fields that are this event's. */
export function toWrote(lead: LeadFacts, plan: LeadPlan): Wrote {
  const own = [...plan.fields, ...plan.standing].filter(([, { order }]) => order === lead.order);
  const fields = Object.fromEntries(own.map(([field, { quality, value }]) => [field, `${quality}${hashValue(value)}`]));
  return {
    order: lead.order,
    ...(own.length === 0 ? {} : { fields }),
    ...(lead.bookings === undefined ? {} : { bookings: lead.bookings }),
  };
}
