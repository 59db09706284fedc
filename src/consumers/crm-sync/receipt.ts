/** What an event wrote to a lead, in the short form that `lead.synced` and the ledger keep. */
import type { LeadSynced } from '../../lib/events.js';
import type { Intent } from '../../lib/lead-ledger.js';
import { DERIVED, toSavedValue } from '../../lib/lead-state.js';
import { snapshotOf } from './doubt.js';
import type { LeadFacts } from './lead-facts.js';
import type { LeadResult } from './look-up.js';
import type { PlannedField } from './plan-lead.js';

export type Wrote = NonNullable<LeadSynced['wrote']>[string];

/**
 * Of a record that several events were folded into, the fields that are this event's, and what follows from all. Both what
 * is written and what stood there already for the same fact; and what of the lead was seen to be a person's.
 */
export function toWrote(lead: LeadFacts, result: LeadResult): Wrote {
  const { plan, stood } = result;
  const wrote = compose(lead, result, new Map([...plan.standing, ...plan.fields]));
  return {
    ...wrote,
    ...(Object.keys(plan.seen).length > 0 && { seen: plan.seen }),
    ...(stood !== undefined && { stood }),
  };
}

/**
 * What is about to be written for an event, for the ledger, beside what it holds of the event's notes. What stands already
 * for the same facts is as certain as an earlier try.
 */
export function toIntent(lead: LeadFacts, result: LeadResult, notes: Intent['notes']): Intent {
  const { plan, turn, found } = result;
  const wrote = compose(lead, result, plan.fields);
  const { fields, derived } = compose(lead, result, plan.standing);
  const standing =
    found !== undefined && (fields || derived)
      ? [{ turn, leadId: found.id, ...(fields && { fields }), ...(derived && { derived }) }]
      : [];
  const certain = [...(wrote.earlier ?? []), ...standing];
  return {
    wrote: certain.length === 0 ? wrote : { ...wrote, earlier: certain },
    ...(found === undefined ? {} : { before: snapshotOf(found) }),
    ...(notes === undefined ? {} : { notes }),
  };
}

function compose(
  { order, bookings, event }: LeadFacts,
  { turn, settled }: LeadResult,
  planned: ReadonlyMap<string, PlannedField>,
): Wrote {
  const fields = hashesOf(planned, order);
  const derived = hashesOf(planned, DERIVED);
  const earlier = settled.get(event.id)?.wrote.earlier;
  return {
    order,
    turn,
    ...(Object.keys(fields).length === 0 ? {} : { fields }),
    ...(Object.keys(derived).length === 0 ? {} : { derived }),
    ...(earlier === undefined ? {} : { earlier }),
    ...(bookings === undefined ? {} : { bookings }),
  };
}

function hashesOf(planned: ReadonlyMap<string, PlannedField>, order: string): Record<string, string> {
  const own = [...planned].filter(([, field]) => field.order === order);
  return Object.fromEntries(own.map(([field, planned]) => [field, toSavedValue(planned)]));
}
