/**
 * Writes a batch of events to the CRM: one look-up, one upsert, one call for new notes, with the results read one by one.
 * Events of one lead are folded into one record. What each event did is told apart again at the end.
 */
import type { Logger } from 'pino';
import type { Context, Outcome } from '../../lib/consumer.js';
import { NotYetError, TerminalError } from '../../lib/errors.js';
import type { LeadField } from '../../lib/events.js';
import type { LeadLease, LeadLedger } from '../../lib/lead-ledger.js';
import { type LeadState, mergeStates } from '../../lib/lead-state.js';
import type { FieldMetadata, Zoho } from '../../lib/providers/zoho/crm.js';
import type { LeftOut } from '../../lib/providers/zoho/field-rules.js';
import type { FieldTarget } from './field-map.js';
import { type CrmEvent, factsOf, type LeadFacts } from './lead-facts.js';
import { type FactsByEmail, groupByEmail } from './look-up.js';
import { faultsOf, toOutcome } from './outcome.js';
import { ANOTHER_LEAD, type Moved, writeLeads } from './write-leads.js';
import { writeNotes } from './write-notes.js';

export type SyncDeps = {
  zoho: Zoho;
  ledger: LeadLedger;
  /** What is known of leads from the streams. */
  readLeads: (emails: readonly string[]) => Promise<Map<string, LeadState>>;
  readFields: () => Promise<readonly FieldMetadata[] | undefined>;
  fieldMap: ReadonlyMap<LeadField, FieldTarget>;
  /** Told of each value that the CRM has no place for. */
  onLeftOut: (field: string, why: LeftOut) => void;
  /** [4500] What was seen of a lead may be so old when it is written over; only tests have a reason to set it. */
  freshMs?: number;
};

/** `leads` changes where one of them turns out to bear another address now. */
export type SyncItem = { readonly event: CrmEvent; leads: readonly LeadFacts[] };

/** What a batch is written with: all of its leads are leased, and `signal` ends when they are not any more. */
export type Work = { deps: SyncDeps; lease: LeadLease; signal: AbortSignal; log: Logger; read: Context['read'] };

export type SyncOutcomes = Map<CrmEvent, Outcome<'lead.synced'>>;

/** How long an event waits whose lead is being written by somebody else. */
const LEASED_WAIT_MS = 150;

export function toItem(event: CrmEvent): SyncItem {
  return { event, leads: factsOf(event) };
}

/** Carries out those whose leads are all held; the others have to wait. */
export async function syncLeased(
  items: readonly SyncItem[],
  work: Work,
  sync: (items: readonly SyncItem[], work: Work) => Promise<SyncOutcomes>,
): Promise<SyncOutcomes> {
  const [free, busy] = partition(items, ({ leads }) => leads.every(({ email }) => work.lease.emails.has(email)));
  const outcomes = await sync(free, work);
  for (const { event } of busy) outcomes.set(event, leased());
  return outcomes;
}

/**
 * Carries out a batch. Events that fail for good are tried again by themselves where others may be to blame: a call refused
 * as a whole says nothing of the single event in it, nor does a record of the events that were folded into it.
 */
export async function syncBatch(items: readonly SyncItem[], work: Work): Promise<SyncOutcomes> {
  const outcomes = await syncTogether(items, work);
  if (items.length === 1) return outcomes;
  // Chosen before any is tried: what became of one says nothing of the last that is left.
  const toTry = items.filter(
    (item) => mayFareBetterAlone(outcomes.get(item.event)) && sharesFate(item, items, outcomes),
  );
  for (const item of byOrder(toTry)) {
    for (const [event, outcome] of await syncTogether([item], work)) outcomes.set(event, outcome);
  }
  return outcomes;
}

async function syncTogether(items: readonly SyncItem[], work: Work): Promise<SyncOutcomes> {
  if (items.length === 0) return new Map();
  try {
    const facts = groupByEmail(items);
    const { results, moved } = await writeLeads(facts, await readKnown(facts, work.deps), work);
    const [there, elsewhere] = partition(items, ({ leads }) => leads.every(({ email }) => results.has(email)));
    const notes = await writeNotes(there, results, work);
    const outcomes: SyncOutcomes = new Map(there.map((item) => [item.event, toOutcome(item, results, notes)]));
    for (const [event, outcome] of await syncMoved(elsewhere, moved, work)) outcomes.set(event, outcome);
    return outcomes;
  } catch (error) {
    return new Map(items.map(({ event }) => [event, { error }]));
  }
}

/**
 * A lead whose address a person has corrected is one lead under two: what comes under the former one is written as if it had
 * come under the present one, together with what did, under the same lease. Its receipts say the present one, so that
 * whatever comes under that knows what was written.
 */
async function syncMoved(items: readonly SyncItem[], moved: Moved, work: Work): Promise<SyncOutcomes> {
  if (items.length === 0) return new Map();
  for (const item of items) item.leads = readdress(item.leads, moved);
  await work.lease.add([...new Set([...moved.values()].map(({ to }) => to))]);
  return syncLeased(items, work, syncTogether);
}

function readdress(leads: readonly LeadFacts[], moved: Moved): LeadFacts[] {
  const byEmail = new Map<string, LeadFacts>();
  for (const lead of leads) {
    const { to = lead.email, known } = moved.get(lead.email) ?? {};
    const former = [...(lead.former ?? []), ...(known === undefined ? [] : [{ email: lead.email, known }])];
    // One participant of a meeting may be listed under both.
    const same = byEmail.get(to);
    byEmail.set(to, {
      ...{ ...lead, email: to, facts: [...(same?.facts ?? []), ...lead.facts] },
      former: [...(same?.former ?? []), ...former],
    });
  }
  return [...byEmail.values()];
}

/** What is known of the leads from the streams, under their former addresses as well. */
async function readKnown(facts: FactsByEmail, { readLeads }: SyncDeps): Promise<Map<string, LeadState>> {
  const states = await readLeads([...facts.keys()]);
  for (const [email, own] of facts) {
    for (const { known } of own.flatMap(({ former = [] }) => former)) {
      // A note in doubt is noted under the former address: all of the lead's notes are to be looked at.
      const { whole: _sure, ...merged } = mergeStates(states.get(email) ?? {}, known);
      states.set(email, merged);
    }
  }
  return states;
}

function leased(): Outcome<'lead.synced'> {
  const delayMs = Math.round(LEASED_WAIT_MS * (0.5 + Math.random()));
  return { error: new NotYetError('Another worker is writing this lead', { delayMs }) };
}

function mayFareBetterAlone(outcome: Outcome<'lead.synced'> | undefined): boolean {
  const faults = faultsOf(outcome);
  const isForGood = (fault: unknown) => fault instanceof TerminalError && fault.code !== ANOTHER_LEAD;
  return faults.length > 0 && faults.every(isForGood);
}

/** True where the same error met another event as well. */
function sharesFate(item: SyncItem, items: readonly SyncItem[], outcomes: SyncOutcomes): boolean {
  const own = new Set(faultsOf(outcomes.get(item.event)));
  return items.some((other) => other !== item && faultsOf(outcomes.get(other.event)).some((fault) => own.has(fault)));
}

/** As they happened, so that it ends as if they had come one by one. */
function byOrder(items: readonly SyncItem[]): SyncItem[] {
  const orderOf = ({ leads }: SyncItem) => leads[0]?.order ?? '';
  return [...items].sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
}

function partition<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  return [items.filter(isFirst), items.filter((item) => !isFirst(item))];
}
