/**
 * What an event would write, worked out with no call to anybody: the CRM is taken to be as this service last saw it and left
 * it then. Of what it wrote or saw the service keeps a hash and no value, so a difference says that a value is another one, not
 * what stood there.
 */
import type { LeadField, LeadSynced } from '../../lib/events.js';
import { hashValue, type LeadState, timeOfTurn, writtenOf } from '../../lib/lead-state.js';
import type { FoundLead } from '../../lib/providers/zoho/crm.js';
import { fitField } from '../../lib/providers/zoho/field-rules.js';
import { describeWrites } from './dry-run.js';
import type { FieldTarget } from './field-map.js';
import type { CrmEvent, Fact, LeadFacts } from './lead-facts.js';
import { statusOf } from './lead-status.js';
import { groupByEmail, type LeadResult, planLeads } from './look-up.js';
import { bookingsOf, type CrmLead } from './plan-lead.js';
import { toItem } from './sync-batch.js';

/**
 * - `new`: the lead is not known to stand in the CRM; `fills`: never written by this service, and written where it is empty;
 * - `replaces`: another value than the one last written, and written where nobody has changed that;
 * - `overrules`: written where a person was seen to have put or cleared something, as the field is the service's;
 * - `same`: the one last written; `kept`: a better or later one was written;
 * - `person`, `cleared`: not written, as a person was seen to have put something there, or to have cleared what was written.
 */
export type Change = 'new' | 'fills' | 'replaces' | 'overrules' | 'same' | 'kept' | 'person' | 'cleared';

export type LeadDiff = {
  email: string;
  /** When this service last looked the lead up, ISO 8601; absent where that is not known. */
  lastSeenAt?: string;
  fields: { field: string; value: string; change: Change }[];
};

export type Foreseen = { data: LeadSynced; leads: LeadDiff[] };

const ASSUMES_SEEN =
  'The CRM is not asked: the lead is taken to be as this service last saw it, and each field to take the value';
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
  const written = Object.fromEntries([...fields].map((field) => [field, writtenOf(state, field)!.hash]));
  const standing = Object.entries({ ...written, ...state.seen }).filter(([, hash]) => hash !== '');
  return [[email, { id: state.leadId, email, fields: {}, hashes: Object.fromEntries(standing) }]];
}

function diff(
  { email, plan, known, found }: LeadResult,
  facts: readonly LeadFacts[],
  fieldMap: ReadonlyMap<LeadField, FieldTarget>,
): LeadDiff {
  const written = [...plan.fields].map(([field, { value }]) => {
    const change: Change = found === undefined ? 'new' : changeOfWritten(field, known);
    return { field, value, change };
  });
  const status = statusOf(bookingsOf(facts, known));
  const said: Pick<Fact, 'field' | 'value'>[] = facts.flatMap((lead) => lead.facts);
  if (status !== undefined) said.push({ field: 'status', value: status.value });
  const left = said.flatMap(({ field: ours, value: whole }) => {
    const field = fieldMap.get(ours)?.field;
    if (field === undefined || plan.fields.has(field)) return [];
    const fitted = fitField(field, whole, undefined);
    const value = 'value' in fitted ? fitted.value : whole;
    return [{ field, value, change: changeOfLeft(field, value, known) }];
  });
  const seenMs = timeOfTurn(known.turn);
  return {
    email,
    ...(seenMs > 0 ? { lastSeenAt: new Date(seenMs).toISOString() } : {}),
    fields: [...written, ...left],
  };
}

function changeOfWritten(field: string, known: LeadState): Change {
  if (known.seen?.[field] !== undefined) return 'overrules';
  return writtenOf(known, field) === undefined ? 'fills' : 'replaces';
}

function changeOfLeft(field: string, value: string, known: LeadState): Change {
  const seen = known.seen?.[field];
  if (seen !== undefined) return seen === '' ? 'cleared' : 'person';
  return writtenOf(known, field)?.hash === hashValue(value) ? 'same' : 'kept';
}
