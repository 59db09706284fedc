/** What an event wrote to a lead, in the short form that `lead.synced` and the ledger keep. */
import type { LeadSynced } from '../../lib/events.js';
import { DERIVED, hashValue } from '../../lib/lead-state.js';
import type { LeadFacts } from './lead-facts.js';
import type { LeadPlan } from './plan-lead.js';

export type Wrote = NonNullable<LeadSynced['wrote']>[string];

/** Of a record that several events were folded into, the fields that are this event's, and what follows from all. */
export function toWrote(lead: LeadFacts, plan: LeadPlan): Wrote {
  const fields = hashesOf(plan, lead.order);
  const derived = hashesOf(plan, DERIVED);
  return {
    order: lead.order,
    ...(Object.keys(fields).length === 0 ? {} : { fields }),
    ...(Object.keys(derived).length === 0 ? {} : { derived }),
    ...(lead.bookings === undefined ? {} : { bookings: lead.bookings }),
  };
}

function hashesOf(plan: LeadPlan, order: string): Record<string, string> {
  const own = [...plan.fields, ...plan.standing].filter(([, planned]) => planned.order === order);
  return Object.fromEntries(own.map(([field, { quality, value }]) => [field, `${quality}${hashValue(value)}`]));
}
