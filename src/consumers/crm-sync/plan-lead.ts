/**
 * Decides what is written to one lead: pure, so that the rule that no person's value is ever overwritten can be read and
 * tested in one place.
 */
import type { LeadField } from '../../lib/events.js';
import {
  addBooking,
  beats,
  DERIVED,
  hashValue,
  type LeadState,
  type Quality,
  type Written,
  writtenOf,
} from '../../lib/lead-state.js';
import type { FieldTarget } from './field-map.js';
import { type Fact, type LeadFacts, standInFacts } from './lead-facts.js';
import { statusOf } from './lead-status.js';

/** The lead as the CRM has it now. */
export type CrmLead = {
  id: string;
  fields: Readonly<Record<string, unknown>>;
  /** Where the CRM is not asked: the hash of what stands in each field, as far as it is known. */
  hashes?: Readonly<Record<string, string>>;
};

export type PlannedField = { value: string; quality: Quality; order: string };

export type LeadPlan = {
  email: string;
  crmLead: CrmLead | undefined;
  /** By CRM field: what is to be written. */
  fields: Map<string, PlannedField>;
  /** By CRM field: what stands there already and was put there for the same fact. */
  standing: Map<string, PlannedField>;
  /** By CRM field: the hash of what a person put there and will be left, '' where they have cleared what was ours. */
  seen: Record<string, string>;
};

/** `fit` cuts a value to what the field takes; `undefined` where the field can't take it at all. */
export function planLead(input: {
  email: string;
  facts: readonly LeadFacts[];
  known: LeadState;
  crmLead: CrmLead | undefined;
  fieldMap: ReadonlyMap<LeadField, FieldTarget>;
  fit: (field: string, value: string) => string | undefined;
}): LeadPlan {
  const { email, known, crmLead } = input;
  const plan: LeadPlan = { email, crmLead, fields: new Map(), standing: new Map(), seen: {} };
  for (const [field, { target, ...best }] of bestFacts(input)) {
    const decision = decideField(best, target, writtenOf(known, field), crmLead);
    if (decision !== 'leave') plan[decision === 'write' ? 'fields' : 'standing'].set(field, best);
  }
  if (crmLead !== undefined) plan.seen = seenOf(plan, crmLead, input);
  return plan;
}

function seenOf(
  { fields, standing }: LeadPlan,
  crmLead: CrmLead,
  { known, fieldMap }: Pick<Parameters<typeof planLead>[0], 'known' | 'fieldMap'>,
): LeadPlan['seen'] {
  const seen: LeadPlan['seen'] = {};
  for (const { field } of fieldMap.values()) {
    const current = hashOfCurrent(crmLead, field);
    const isAsWeLeaveIt = fields.has(field) || standing.has(field) || current === writtenOf(known, field)?.hash;
    if (!isAsWeLeaveIt) seen[field] = current ?? '';
  }
  return seen;
}

/** The best fact for each CRM field, over all events at hand: the map may put several of our fields into one. */
function bestFacts({
  email,
  facts,
  known,
  crmLead,
  fieldMap,
  fit,
}: Parameters<typeof planLead>[0]): Map<string, PlannedField & { target: FieldTarget }> {
  const best = new Map<string, PlannedField & { target: FieldTarget }>();
  const offer = (fact: Fact, order: string) => {
    const target = fieldMap.get(fact.field);
    // What the field can't take must not outdo what it can: one after another, the events would have left that.
    const value = target && fit(target.field, fact.value);
    if (target === undefined || value === undefined) return;
    const before = best.get(target.field);
    const offered = { value, quality: fact.quality, order, target };
    if (before === undefined || beats(offered, before)) best.set(target.field, offered);
  };
  for (const lead of facts) for (const fact of lead.facts) offer(fact, lead.order);
  const firstOrder = facts.map(({ order }) => order).sort()[0] ?? '';
  if (crmLead === undefined) for (const fact of standInFacts(email)) offer(fact, firstOrder);
  const status = statusOf(bookingsOf(facts, known));
  if (status !== undefined) offer({ field: 'status', value: status.value, quality: 2 }, DERIVED);
  return best;
}

export function bookingsOf(facts: readonly LeadFacts[], known: LeadState): NonNullable<LeadState['bookings']> {
  let state = known;
  for (const { bookings, order } of facts) {
    for (const [id, booking] of Object.entries(bookings ?? {})) state = addBooking(state, id, booking, order);
  }
  return state.bookings ?? {};
}

type FieldDecision = 'write' | 'leave' | 'stands';

/**
 * - The lead is new: write.
 * - The field belongs to the service: the better or later fact stands.
 * - It holds what this service wrote: the same, so an older fact never wins over a later one.
 * - It is empty: fill it, unless this service had written to it: then a person has cleared it.
 * - Anything else is a person's.
 */
export function decideField(
  fact: PlannedField,
  target: FieldTarget,
  written: Written | undefined,
  crmLead: CrmLead | undefined,
): FieldDecision {
  if (crmLead === undefined) return 'write';
  const current = hashOfCurrent(crmLead, target.field);
  const isEmpty = current === undefined;
  const isSame = current === hashValue(fact.value);
  const isOurs = !isEmpty && current === written?.hash;
  const mayReplace = written === undefined || !beats(written, fact);
  if (isSame) return (isOurs || target.owner === 'service') && mayReplace ? 'stands' : 'leave';
  if (target.owner === 'service') return mayReplace || isEmpty ? 'write' : 'leave';
  if (isEmpty) return written === undefined && fact.quality > 0 ? 'write' : 'leave';
  return isOurs && mayReplace ? 'write' : 'leave';
}

/** `undefined` where the field is empty. */
function hashOfCurrent({ fields, hashes }: CrmLead, field: string): string | undefined {
  const value = fields[field];
  return value === undefined || value === null || value === '' ? hashes?.[field] : hashValue(value);
}
