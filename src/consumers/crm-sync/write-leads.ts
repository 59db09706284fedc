/**
 * Writes the leads of a batch: look-up, decision, intents and one upsert for a hundred at a time, with the results read one
 * by one. A value that Zoho will not take must not keep a lead out: it is left out, and the rest is written.
 */
import { NotYetError, RetryableError, TerminalError } from '../../lib/errors.js';
import type { Intents } from '../../lib/lead-ledger.js';
import { hashValue, type LeadState } from '../../lib/lead-state.js';
import type { RecordResult } from '../../lib/providers/zoho/crm.js';
import { RECORDS_MAX } from './calls.js';
import { type FactsByEmail, type LeadResult, lookUp, needsWrite, planLeads, toRecord } from './look-up.js';
import { toIntent } from './receipt.js';
import type { Work } from './sync-batch.js';

/** With the longest wait for a turn at Zoho, what was seen is at most 5 s old when it is written over. */
const FRESH_MS = 2_000;
const LOOKS_MAX = 3;
const STALE_WAIT_MS = 2_000;
/** A record is sent so often at the most, each time without the value that was refused. */
const ROUNDS_MAX = 6;

type Refusals = Set<string>;

export async function writeLeads(
  facts: FactsByEmail,
  folded: ReadonlyMap<string, LeadState>,
  work: Work,
): Promise<Map<string, LeadResult>> {
  const results = new Map<string, LeadResult>();
  const all = [...facts];
  for (let start = 0; start < all.length; start += RECORDS_MAX) {
    let open: FactsByEmail = new Map(all.slice(start, start + RECORDS_MAX));
    const refused: Refusals = new Set();
    for (let round = 1; open.size > 0 && round <= ROUNDS_MAX; round += 1) {
      const planned = await planFresh(open, folded, refused, work);
      for (const [email, result] of planned) results.set(email, result);
      const again = await upsert([...planned.values()], refused, work);
      open = new Map(again.map(({ email }) => [email, facts.get(email)!]));
    }
  }
  return results;
}

/** Decides by a look-up that is still fresh when all is ready to be written. */
async function planFresh(
  facts: FactsByEmail,
  folded: ReadonlyMap<string, LeadState>,
  refused: Refusals,
  { deps, lease, signal }: Work,
): Promise<Map<string, LeadResult>> {
  const isRefused = (email: string, field: string, value: string) => refused.has(refusalOf(email, field, value));
  for (let looks = 1; looks <= LOOKS_MAX; looks += 1) {
    const knowledge = await lookUp([...facts.keys()], { folded, intentsOf: lease.intentsOf }, deps, signal);
    const lookedAt = performance.now();
    const results = planLeads(facts, knowledge, deps, { leasedAt: lease.takenAt, isRefused });
    await lease.saveIntents(intentsOf(facts, results));
    if (performance.now() - lookedAt <= FRESH_MS) return results;
  }
  throw new NotYetError('What was seen in Zoho grows old before it can be written', { delayMs: STALE_WAIT_MS });
}

/** Returns those that are to be tried once more, without what was refused. */
async function upsert(results: readonly LeadResult[], refused: Refusals, work: Work): Promise<LeadResult[]> {
  const toWrite = results.filter(needsWrite);
  if (toWrite.length === 0) return [];
  const { deps, lease, signal, log } = work;
  const answers = await deps.zoho.upsertLeads(toWrite.map(toRecord), { signal, beforeSend: lease.assertHeld });
  return toWrite.filter((result, index) => {
    const answer = answers[index];
    takeAnswer(result, answer, work);
    const field = refusedField(result, answer);
    if (field === undefined) return false;
    refused.add(refusalOf(result.email, field, result.plan.fields.get(field)!.value));
    log.warn({ field, code: answer!.ok ? '' : answer!.code }, 'Zoho refused a field; the lead is written without it');
    return true;
  });
}

function takeAnswer(result: LeadResult, answer: RecordResult | undefined, { log }: Work): void {
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
    return;
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
      ? new RetryableError(what, answer === undefined ? { code } : { code, provider: 'zoho' })
      : new TerminalError(what, { code, provider: 'zoho' });
}

/** The field at fault, where the lead may go without it. */
function refusedField({ plan }: LeadResult, answer: RecordResult | undefined): string | undefined {
  if (answer === undefined || answer.ok || answer.retryable || answer.field === undefined) return undefined;
  const isNeeded = answer.field === 'Last_Name' || answer.field === 'Email';
  return !isNeeded && plan.fields.has(answer.field) ? answer.field : undefined;
}

function refusalOf(email: string, field: string, value: string): string {
  return `${email} ${field} ${hashValue(value)}`;
}

/** What each event is about to write, and its bookings, which others must know of before its receipt stands. */
function intentsOf(facts: FactsByEmail, results: ReadonlyMap<string, LeadResult>): Map<string, Intents> {
  const intents = new Map<string, Intents>();
  for (const [email, own] of facts) {
    const result = results.get(email)!;
    const isOfUse = needsWrite(result) || result.plan.standing.size > 0 || own.some(({ bookings }) => bookings);
    if (!isOfUse) continue;
    const { settled } = result;
    const added = own.map(
      (lead) => [lead.event.id, toIntent(lead, result, settled.get(lead.event.id)?.notes)] as const,
    );
    intents.set(email, new Map([...settled, ...added]));
  }
  return intents;
}
