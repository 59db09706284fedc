/**
 * What an event would write, worked out with no call to anybody: the CRM is taken to be as this service last left it. Of
 * what it wrote the service keeps a hash and no value, so a difference says that a value is another one, not what stood there.
 */
import type { LeadField, LeadSynced } from '../../lib/events.js';
import { hashValue, type LeadState, nextTurn, timeOfTurn, writtenOf } from '../../lib/lead-state.js';
import type { FoundLead } from '../../lib/providers/zoho/crm.js';
import { fitField } from '../../lib/providers/zoho/field-rules.js';
import { describeWrites } from './dry-run.js';
import type { FieldTarget } from './field-map.js';
import type { CrmEvent, LeadFacts } from './lead-facts.js';
import { groupByEmail, type LeadResult, planLeads } from './look-up.js';
import type { CrmLead } from './plan-lead.js';
import { toItem } from './sync-batch.js';

/**
 * - `new`: the lead is not known to stand in the CRM; `fills`: never written by this service, and written where it is empty;
 * - `replaces`: another value than the one last written, and written where nobody has changed that;
 * - `same`: the one last written; `kept`: a better or later one was written.
 */
export type Change = 'new' | 'fills' | 'replaces' | 'same' | 'kept';

export type LeadDiff = {
  email: string;
  /** When this service last wrote the lead, ISO 8601; absent where that is not known. */
  lastSeenAt?: string;
  fields: { field: string; value: string; change: Change }[];
};

export type Foreseen = { data: LeadSynced; leads: LeadDiff[] };

const ASSUMES_SEEN =
  'The CRM is not asked: the lead is taken to be as this service last left it, and each field to take the value';
const ASSUMES_NEW = 'The CRM is not asked: of the lead nothing is known here, so it is taken for a new one';

export async function foresee(
  event: CrmEvent,
  {
    readLeads,
    fieldMap,
  }: {
    readLeads: (emails: readonly string[]) => Promise<Map<string, LeadState>>;
    fieldMap: ReadonlyMap<LeadField, FieldTarget>;
  },
): Promise<Foreseen> {
  const item = toItem(event);
  const facts = groupByEmail([item]);
  const emails = [...facts.keys()];
  const known = await readLeads(emails);
  const found = new Map(emails.flatMap((email) => lastSeen(email, known.get(email) ?? {})));
  const settled = new Map(emails.map((email) => [email, new Map()]));
  const knowledge = { known, found, settled, metadata: undefined };
  const results = [...planLeads(facts, knowledge, { fieldMap, onLeftOut: () => {} }).values()];
  const assumes = found.size === emails.length ? ASSUMES_SEEN : ASSUMES_NEW;
  return {
    data: describeWrites(item, results, assumes),
    leads: results.map((result) => diff(result, facts.get(result.email)!, fieldMap)),
  };
}

function lastSeen(email: string, state: LeadState): [string, FoundLead & CrmLead][] {
  if (state.leadId === undefined) return [];
  const fields = new Set(Object.values(state.written ?? {}).flatMap((values) => Object.keys(values)));
  const hashes = Object.fromEntries([...fields].map((field) => [field, writtenOf(state, field)!.hash]));
  return [[email, { id: state.leadId, email, fields: {}, hashes }]];
}

function diff(
  { email, plan, known, found }: LeadResult,
  facts: readonly LeadFacts[],
  fieldMap: ReadonlyMap<LeadField, FieldTarget>,
): LeadDiff {
  const written = [...plan.fields].map(([field, { value }]) => {
    const before = writtenOf(known, field);
    const change: Change = found === undefined ? 'new' : before === undefined ? 'fills' : 'replaces';
    return { field, value, change };
  });
  const left = facts
    .flatMap((lead) => lead.facts)
    .flatMap(({ field: ours, value: whole }) => {
      const field = fieldMap.get(ours)?.field;
      if (field === undefined || plan.fields.has(field)) return [];
      const fitted = fitField(field, whole, undefined);
      const value = 'value' in fitted ? fitted.value : whole;
      const change: Change = writtenOf(known, field)?.hash === hashValue(value) ? 'same' : 'kept';
      return [{ field, value, change }];
    });
  const seenMs = timeOfTurn(nextTurn(known, 0)) - 1;
  return {
    email,
    ...(seenMs > 0 ? { lastSeenAt: new Date(seenMs).toISOString() } : {}),
    fields: [...written, ...left],
  };
}
