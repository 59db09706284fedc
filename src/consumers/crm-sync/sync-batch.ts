/**
 * Writes a batch of events to the CRM: one look-up, one upsert, one call for new notes, with the results read one by one.
 * Events of one lead are folded into one record. What each event did is told apart again at the end.
 */
import type { Logger } from 'pino';
import type { Context, Outcome } from '../../lib/consumer.js';
import { TerminalError } from '../../lib/errors.js';
import type { LeadLease, LeadLedger } from '../../lib/lead-ledger.js';
import type { LeadState } from '../../lib/lead-state.js';
import type { FieldMetadata, Zoho } from '../../lib/providers/zoho/crm.js';
import type { LeftOut } from '../../lib/providers/zoho/field-rules.js';
import type { FieldTarget } from './field-map.js';
import { type CrmEvent, factsOf, type LeadFacts, type LeadField } from './lead-facts.js';
import { groupByEmail } from './look-up.js';
import { toOutcome } from './outcome.js';
import { ANOTHER_LEAD, writeLeads } from './write-leads.js';
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

export type SyncItem = { event: CrmEvent; leads: readonly LeadFacts[] };

/** What a batch is written with: all of its leads are leased, and `signal` ends when they are not any more. */
export type Work = { deps: SyncDeps; lease: LeadLease; signal: AbortSignal; log: Logger; read: Context['read'] };

export type SyncOutcomes = Map<CrmEvent, Outcome<'lead.synced'>>;

export function toItem(event: CrmEvent): SyncItem {
  return { event, leads: factsOf(event) };
}

/**
 * Carries out a batch. Events that fail for good are tried again by themselves where others may be to blame: a call refused
 * as a whole says nothing of the single event in it, nor does a record of the events that were folded into it.
 */
export async function syncBatch(items: readonly SyncItem[], work: Work): Promise<SyncOutcomes> {
  if (items.length === 0) return new Map();
  const outcomes = await syncTogether(items, work);
  if (items.length === 1) return outcomes;
  for (const item of byOrder(items.filter(({ event }) => mayFareBetterAlone(outcomes.get(event))))) {
    if (!sharesFate(item, items, outcomes)) continue;
    for (const [event, outcome] of await syncTogether([item], work)) outcomes.set(event, outcome);
  }
  return outcomes;
}

async function syncTogether(items: readonly SyncItem[], work: Work): Promise<SyncOutcomes> {
  try {
    const facts = groupByEmail(items);
    const results = await writeLeads(facts, await work.deps.readLeads([...facts.keys()]), work);
    const notes = await writeNotes(items, results, work);
    return new Map(items.map((item) => [item.event, toOutcome(item, results, notes)]));
  } catch (error) {
    return new Map(items.map(({ event }) => [event, { error }]));
  }
}

function mayFareBetterAlone(outcome: Outcome<'lead.synced'> | undefined): boolean {
  if (outcome === undefined || !('error' in outcome)) return false;
  return outcome.error instanceof TerminalError && outcome.error.code !== ANOTHER_LEAD;
}

/** True where the same error met another event as well. */
function sharesFate(item: SyncItem, items: readonly SyncItem[], outcomes: SyncOutcomes): boolean {
  const errorOf = ({ event }: SyncItem) => (outcomes.get(event) as { error?: unknown }).error;
  return items.some((other) => other !== item && errorOf(other) === errorOf(item));
}

/** As they happened, so that it ends as if they had come one by one. */
function byOrder(items: readonly SyncItem[]): SyncItem[] {
  const orderOf = ({ leads }: SyncItem) => leads[0]?.order ?? '';
  return [...items].sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
}
