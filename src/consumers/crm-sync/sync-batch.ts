/**
 * Writes a batch of events to the CRM: one look-up, one upsert, one call for new notes, with the results read one by one.
 * Events of one lead are folded into one record. What each event did is told apart again at the end.
 */
import type { Logger } from 'pino';
import type { Outcome } from '../../lib/consumer.js';
import { RetryableError, TerminalError } from '../../lib/errors.js';
import type { LeadSynced } from '../../lib/events.js';
import type { LeadLedger } from '../../lib/lead-ledger.js';
import { addWrote, DERIVED, type LeadState, mergeStates } from '../../lib/lead-state.js';
import type { FieldMetadata, FoundLead, RecordResult, Zoho } from '../../lib/providers/zoho/crm.js';
import { fitField, type LeftOut } from '../../lib/providers/zoho/field-rules.js';
import { inCalls } from './calls.js';
import type { FieldTarget } from './field-map.js';
import { type CrmEvent, factsOf, type LeadFacts, type LeadField } from './lead-facts.js';
import { type LeadPlan, type PlannedField, planLead } from './plan-lead.js';
import { toWrote } from './receipt.js';
import { type LeadNote, writeNotes } from './write-notes.js';

export type SyncDeps = {
  zoho: Zoho;
  ledger: LeadLedger;
  /** What is known of leads from the streams. */
  readLeads: (emails: readonly string[]) => Promise<Map<string, LeadState>>;
  readFields: () => Promise<readonly FieldMetadata[] | undefined>;
  fieldMap: ReadonlyMap<LeadField, FieldTarget>;
  /** Told of each value that the CRM has no place for. */
  onLeftOut: (field: string, why: LeftOut) => void;
};

export type SyncItem = { event: CrmEvent; leads: readonly LeadFacts[] };

/** The lead as it is after the look-up and the write. */
export type LeadResult = {
  email: string;
  plan: LeadPlan;
  known: LeadState;
  found: FoundLead | undefined;
  leadId: string | null;
  action: 'insert' | 'update' | 'none';
  error?: unknown;
};

export function toItem(event: CrmEvent): SyncItem {
  return { event, leads: factsOf(event) };
}

/** What is known of some leads: by this service, and by the CRM as it is now. */
export type Knowledge = {
  known: ReadonlyMap<string, LeadState>;
  found: ReadonlyMap<string, FoundLead>;
  metadata: readonly FieldMetadata[] | undefined;
};

/** Looks the leads up, at most 5 s before they are written. */
export async function lookUp(items: readonly SyncItem[], deps: SyncDeps, signal: AbortSignal): Promise<Knowledge> {
  const emails = [...groupByEmail(items).keys()];
  const [folded, intents, metadata] = await Promise.all([
    deps.readLeads(emails),
    deps.ledger.readIntents(emails),
    deps.readFields(),
  ]);
  const known = new Map(emails.map((email) => [email, mergeStates(folded.get(email) ?? {}, intents.get(email) ?? {})]));
  return { known, found: await findLeads(emails, known, deps, signal), metadata };
}

/** Decides what to write to each lead that the events concern. */
export function planLeads(
  items: readonly SyncItem[],
  { known, found, metadata }: Knowledge,
  { fieldMap, onLeftOut }: Pick<SyncDeps, 'fieldMap' | 'onLeftOut'>,
): Map<string, LeadResult> {
  const results = new Map<string, LeadResult>();
  for (const [email, facts] of groupByEmail(items)) {
    const crmLead = found.get(email);
    const state = known.get(email)!;
    const fit = (field: string, value: string) => {
      const fitted = fitField(field, value, metadata);
      if ('value' in fitted) return fitted.value;
      onLeftOut(field, fitted.leftOut);
      return undefined;
    };
    const plan = planLead({ email, facts, known: state, crmLead, fieldMap, fit });
    if (crmLead === undefined) fillMandatory(plan, metadata, facts[0]!.order);
    results.set(email, { email, plan, known: state, found: crmLead, leadId: crmLead?.id ?? null, action: 'none' });
  }
  return results;
}

const TEXT_TYPES = new Set(['text', 'textarea']);

/** An organisation may demand more of a new lead than is known of it; the lead must not be lost for that. */
function fillMandatory(plan: LeadPlan, metadata: Knowledge['metadata'], order: string): void {
  for (const { apiName, isMandatory, isWritable, dataType } of metadata ?? []) {
    if (!isMandatory || !isWritable || !TEXT_TYPES.has(dataType) || plan.fields.has(apiName)) continue;
    plan.fields.set(apiName, { value: 'Unknown', quality: 0, order });
  }
}

/** Carries out a batch. Resolves to an outcome and the saved intents for each event, in order. */
export async function syncBatch(
  items: readonly SyncItem[],
  deps: SyncDeps,
  { signal, log }: { signal: AbortSignal; log: Logger },
) {
  const results = planLeads(items, await lookUp(items, deps, signal), deps);
  const saved = await deps.ledger.saveIntents(intentsOf(items, results));
  await upsertLeads([...results.values()], deps, signal, log);
  const notes = await writeNotes(items, results, deps, signal);
  const receipts = await deps.ledger.saveIntents(noteIntents(notes));
  const outcomes = items.map((item) => toOutcome(item, results, notes));
  return { outcomes, intents: new Map([...saved, ...receipts]) };
}

function groupByEmail(items: readonly SyncItem[]): Map<string, LeadFacts[]> {
  const grouped = new Map<string, LeadFacts[]>();
  for (const lead of items.flatMap(({ leads }) => leads))
    grouped.set(lead.email, [...(grouped.get(lead.email) ?? []), lead]);
  return grouped;
}

/** A lead that this service has just created may not be in the index yet: it is then read by its id. */
async function findLeads(
  emails: readonly string[],
  known: ReadonlyMap<string, LeadState>,
  { zoho, fieldMap }: SyncDeps,
  signal: AbortSignal,
): Promise<Map<string, FoundLead>> {
  const fields = [...new Set([...fieldMap.values()].map(({ field }) => field))];
  const found = new Map((await zoho.findLeads([...emails], fields, { signal })).map((lead) => [lead.email, lead]));
  const missing = emails.flatMap((email) => {
    const leadId = found.has(email) ? undefined : known.get(email)?.leadId;
    return leadId === undefined ? [] : [{ email, leadId }];
  });
  if (missing.length === 0) return found;
  const byId = await zoho.readLeads(
    missing.map(({ leadId }) => leadId),
    fields,
    { signal },
  );
  for (const { email, leadId } of missing) {
    const lead = byId.find(({ id }) => id === leadId);
    if (lead !== undefined) found.set(email, lead);
  }
  return found;
}

function intentsOf(items: readonly SyncItem[], results: ReadonlyMap<string, LeadResult>): Map<string, LeadState> {
  const intents = new Map<string, LeadState>();
  for (const { leads } of items) {
    for (const lead of leads) {
      const { plan } = results.get(lead.email)!;
      const wrote = toWrote(lead, plan);
      const { bookings: _, ...values } = wrote;
      const intent = addWrote(intents.get(lead.email) ?? {}, values);
      if (intent.written !== undefined) intents.set(lead.email, intent);
    }
  }
  return intents;
}

async function upsertLeads(
  results: readonly LeadResult[],
  deps: SyncDeps,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  const toWrite = results.filter(
    ({ plan, found }) => found?.converted === undefined && (plan.fields.size > 0 || found === undefined),
  );
  if (toWrite.length === 0) return;
  const upsert = (part: readonly LeadResult[]) => deps.zoho.upsertLeads(part.map(toRecord), { signal });
  const answers = await inCalls(toWrite, upsert);
  const again = toWrite.filter(
    (result, index) => !takeAnswer(result, answers[index], log) && dropRefusedField(result, answers[index], log),
  );
  if (again.length === 0) return;
  const secondAnswers = await inCalls(again, upsert);
  again.forEach((result, index) => {
    delete result.error;
    takeAnswer(result, secondAnswers[index], log);
  });
}

export function toRecord({ email, plan, found }: LeadResult): Record<string, unknown> {
  const fields = Object.fromEntries([...plan.fields].map(([field, { value }]) => [field, value]));
  return { Email: typeof found?.fields.Email === 'string' ? found.fields.Email : email, ...fields };
}

function takeAnswer(result: LeadResult, answer: RecordResult | undefined, log: Logger): boolean {
  if (answer?.ok) {
    if (result.found !== undefined && result.found.id !== answer.id) {
      // Zoho also matches by fields that an organisation has made unique.
      log.warn(
        { found: result.found.id, written: answer.id },
        'Zoho wrote another lead than the one with this address',
      );
    }
    result.leadId = answer.id;
    result.action = answer.action ?? (result.found === undefined ? 'insert' : 'update');
    return true;
  }
  const what =
    answer === undefined
      ? 'Zoho gave no answer for a lead'
      : `Zoho refused the lead ${result.email}: ${answer.code}${answer.field ? ` (${answer.field})` : ''}`;
  const code = answer === undefined ? 'zoho_no_answer' : `zoho_${answer.code.toLowerCase()}`;
  // Converted since the look-up: the next one finds the contact or deal that it became.
  const isConvertedNow = answer?.code === 'CONVERTED_RECORD';
  result.error =
    answer === undefined || answer.retryable || isConvertedNow
      ? new RetryableError(what, { code })
      : new TerminalError(what, { code });
  return false;
}

/** A value that Zoho will not take must not keep the lead out: the field is left out once, and the log says so. */
function dropRefusedField(result: LeadResult, answer: RecordResult | undefined, log: Logger): boolean {
  if (answer === undefined || answer.ok || answer.retryable || answer.field === undefined) return false;
  if (answer.field === 'Last_Name' || answer.field === 'Email' || !result.plan.fields.has(answer.field)) return false;
  result.plan.fields.delete(answer.field);
  log.warn({ field: answer.field, code: answer.code }, 'Zoho refused a field; the lead is written without it');
  return result.plan.fields.size > 0 || result.found === undefined;
}

function noteIntents(notes: readonly LeadNote[]): Map<string, LeadState> {
  const intents = new Map<string, LeadState>();
  for (const { plan, noteId, module } of notes) {
    if (noteId === null) continue;
    const state = intents.get(plan.email) ?? {};
    intents.set(plan.email, { ...state, notes: { ...state.notes, [plan.noteKey]: [noteId, plan.revision, module] } });
  }
  return intents;
}

/** One lead that fails for good is one failure that names it; the others are written all the same. */
function toOutcome(
  item: SyncItem,
  results: ReadonlyMap<string, LeadResult>,
  notes: readonly LeadNote[],
): Outcome<'lead.synced'> {
  const mine = item.leads.map(({ email }) => results.get(email)!);
  const ownNotes = notes.filter((note) => note.event === item.event);
  const errors = [...mine.flatMap(({ error }) => error ?? []), ...ownNotes.flatMap(({ error }) => error ?? [])];
  const error = errors.find((candidate) => !(candidate instanceof TerminalError)) ?? errors[0];
  if (error !== undefined) return { error };
  return { events: [{ type: 'lead.synced', data: toSynced(item, mine, ownNotes) }] };
}

function toSynced(item: SyncItem, mine: readonly LeadResult[], notes: readonly LeadNote[]): LeadSynced {
  const leads = mine.flatMap(({ email, leadId, action, plan, found }) => {
    const own = item.leads.find((lead) => lead.email === email)!;
    const isOwn = ({ order }: PlannedField) => order === own.order;
    const wroteOwn = [...plan.fields.values()].some((field) => isOwn(field) || field.order === DERIVED);
    const hasOwn = wroteOwn || [...plan.standing.values()].some(isOwn);
    return leadId !== null && (action === 'insert' || hasOwn) && found?.converted === undefined
      ? [{ email, leadId, action: action === 'none' ? ('update' as const) : action }]
      : [];
  });
  const matched = mine.flatMap(({ email, leadId, found }) =>
    leadId === null || leads.some((lead) => lead.email === email)
      ? []
      : [{ email, leadId, ...(found?.converted === undefined ? {} : { converted: true }) }],
  );
  const written = notes.filter(({ action }) => action !== 'none');
  const wrote = Object.fromEntries(
    item.leads.map((lead) => [lead.email, toWrote(lead, results(mine, lead.email).plan)]),
  );
  const isWritten = leads.length > 0 || written.length > 0;
  const reason = reasonOf(notes, mine, isWritten);
  return {
    outcome: isWritten ? 'written' : 'nothing_to_write',
    ...(reason === undefined ? {} : { reason }),
    leads,
    notes: written.map(({ plan, parentId, noteId, action, module }) => ({
      leadId: parentId,
      noteId,
      action: action === 'update' ? ('update' as const) : ('insert' as const),
      ...(module === 'Leads' ? {} : { module }),
      ...{ email: plan.email, noteKey: plan.noteKey, revision: plan.revision },
    })),
    ...(matched.length === 0 ? {} : { matched }),
    wrote,
  };
}

function results(mine: readonly LeadResult[], email: string): LeadResult {
  return mine.find((result) => result.email === email)!;
}

function reasonOf(notes: readonly LeadNote[], mine: readonly LeadResult[], isWritten: boolean): string | undefined {
  if (mine.some(({ found }) => found?.converted !== undefined)) return 'lead_converted';
  if (isWritten) return undefined;
  return notes.some(({ isSuperseded }) => isSuperseded) ? 'superseded' : 'unchanged';
}
