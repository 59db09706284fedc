/**
 * Writes the leads of a batch: look-up, decision, intents and one upsert for a hundred at a time, with the results read one
 * by one. A value that Zoho will not take must not keep a lead out: it is left out, and the rest is written.
 */
import { NotYetError, OutageError, RetryableError, TerminalError } from '../../lib/errors.js';
import type { Intents } from '../../lib/lead-ledger.js';
import { addLeadId, hashValue, type LeadState } from '../../lib/lead-state.js';
import type { RecordResult } from '../../lib/providers/zoho/crm.js';
import { RECORDS_MAX } from './calls.js';
import { settleDoubts } from './doubt.js';
import {
  type FactsByEmail,
  type Knowledge,
  type LeadResult,
  lookUp,
  needsWrite,
  planLeads,
  toRecord,
  valuesOf,
} from './look-up.js';
import { toIntent } from './receipt.js';
import type { Work } from './sync-batch.js';

/** A write leaves when what was seen is so old at the most: 5 s, less what the way to Zoho takes. */
const FRESH_MS = 4_500;
const LOOKS_MIN = 3;
const STALE_WAIT_MS = 2_000;
/** A lead is written so often at the most: again without the values that were refused, or with those that were held back. */
const ROUNDS_MAX = 6;
/** The code of a write that went to another lead: it is done, and must not be tried again. */
export const ANOTHER_LEAD = 'zoho_another_lead';
/** Codes that leave open what became of a record. */
const UNTOLD = new Set(['NO_RESULT', 'INTERNAL_ERROR']);

/** No lead goes without. */
const NEEDED = new Set(['Last_Name', 'Email']);
/** Zoho's default layout demands it of a new lead; of a field that may have to be unique nothing is made up. */
const FILLED_IN = 'Company';

/** What Zoho has said of the leads in this call. */
type Heard = {
  /** Values that it does not take. */
  refused: Set<string>;
  /** Addresses whose new lead lacks a company; it is found out so where Zoho does not tell what it demands. */
  companyless: Set<string>;
};

/** By the address that events came with: the one that the lead bears now, and what is known of it under the former. */
export type Moved = ReadonlyMap<string, { to: string; known: LeadState }>;

/** The leads as they are to be written, by a look-up that is good until `sendBy`; `count` were looked up. */
type Seen = { results: Map<string, LeadResult>; moved: Moved; count: number; sendBy: number };

/** Those that bear another address now are left as they are, and have no result. */
export async function writeLeads(
  facts: FactsByEmail,
  folded: ReadonlyMap<string, LeadState>,
  work: Work,
): Promise<{ results: Map<string, LeadResult>; moved: Moved }> {
  const results = new Map<string, LeadResult>();
  const moved = new Map<string, { to: string; known: LeadState }>();
  const heard: Heard = { refused: new Set(), companyless: new Set() };
  const states = new Map(folded);
  let open = [...facts.keys()];
  let atOnce = RECORDS_MAX;
  for (let round = 1; open.length > 0 && round <= ROUNDS_MAX; round += 1) {
    const again: string[] = [];
    while (open.length > 0) {
      const seen = await planFresh(pick(facts, open.slice(0, atOnce)), states, heard, work);
      // Of more at once Zoho does not tell in time.
      if (seen.count < open.length) atOnce = seen.count;
      open = open.slice(seen.count);
      for (const [email, lead] of seen.moved) moved.set(email, lead);
      const toRepeat = await upsert(seen, heard, work);
      for (const [email, result] of seen.results) {
        // It is still this event that made the lead.
        if (results.get(email)?.action === 'insert') result.action = 'insert';
        results.set(email, result);
      }
      for (const { email, leadId, turn } of toRepeat) {
        // Search may not see it yet.
        if (leadId !== null) states.set(email, addLeadId(states.get(email) ?? {}, leadId, turn));
        again.push(email);
      }
    }
    open = again;
  }
  return { results, moved };
}

/**
 * Decides by a look-up that is still fresh when all is ready to be written. Where it takes too long for that, fewer leads
 * are looked up: the answer is about the first ones. Where it takes too long for a single one, Zoho is as good as down.
 */
async function planFresh(
  facts: FactsByEmail,
  folded: ReadonlyMap<string, LeadState>,
  { refused, companyless }: Heard,
  work: Work,
): Promise<Seen> {
  const { deps, lease } = work;
  const demandedOf = (email: string) => (companyless.has(email) ? [FILLED_IN] : []);
  const isRefused = (email: string, field: string, value: string) => refused.has(refusalOf(email, field, value));
  let emails = [...facts.keys()];
  for (let looks = 1; ; looks += 1) {
    const looked = await lookUpInTime(emails, folded, work);
    if (looked !== undefined) {
      const moved = findMoved(looked.knowledge);
      // One lead under two addresses is written once, for both.
      const bearers = new Set([...moved.values()].map(({ to }) => to));
      const own = pick(
        facts,
        emails.filter((email) => !moved.has(email) && !bearers.has(email)),
      );
      const results = planLeads(own, looked.knowledge, deps, { leasedAt: lease.takenAt, isRefused, demandedOf });
      await lease.saveIntents(intentsOf(own, results));
      if (performance.now() < looked.sendBy) return { results, moved, count: emails.length, sendBy: looked.sendBy };
    }
    if (looks >= LOOKS_MIN && emails.length === 1) throw looked === undefined ? tooSlow() : tooOld();
    emails = emails.slice(0, Math.ceil(emails.length / 4));
  }
}

/** Found by its id: a person has corrected its address. */
function findMoved({ found, known }: Knowledge): Moved {
  const moved = [...found].filter(([email, lead]) => lead.email !== email);
  return new Map(moved.map(([email, lead]) => [email, { to: lead.email, known: known.get(email)! }]));
}

/** `undefined` where the answer would come too late. Its age counts from when it was asked for: it may tell of that moment. */
async function lookUpInTime(
  emails: readonly string[],
  folded: ReadonlyMap<string, LeadState>,
  { deps, lease, signal }: Work,
): Promise<{ knowledge: Knowledge; sendBy: number } | undefined> {
  const freshMs = deps.freshMs ?? FRESH_MS;
  const late = new AbortController();
  let sendBy: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const beforeSend = () => {
    sendBy ??= performance.now() + freshMs;
    timer ??= setTimeout(() => late.abort(), freshMs);
  };
  try {
    const asking = { signal: AbortSignal.any([signal, late.signal]), beforeSend };
    const knowledge = await lookUp(emails, { folded, intentsOf: lease.intentsOf }, deps, asking);
    return { knowledge, sendBy: sendBy ?? performance.now() };
  } catch (error) {
    if (error === late.signal.reason) return undefined;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function tooSlow(): OutageError {
  const message = `Zoho takes longer than ${FRESH_MS} ms to tell how a lead is: that is too old to be written over`;
  return new OutageError(message, { code: 'zoho_timeout', provider: 'zoho' });
}

function tooOld(): NotYetError {
  return new NotYetError('What was seen in Zoho grows old before it can be written', { delayMs: STALE_WAIT_MS });
}

function pick(facts: FactsByEmail, emails: readonly string[]): FactsByEmail {
  return new Map(emails.map((email) => [email, facts.get(email)!]));
}

/** Returns those that are to be written once more: without what was refused, or with what was held back or missing. */
async function upsert({ results, sendBy }: Seen, { refused, companyless }: Heard, work: Work): Promise<LeadResult[]> {
  const toWrite = [...results.values()].filter(needsWrite);
  if (toWrite.length === 0) return [];
  const { deps, lease, signal, log } = work;
  const answers = await deps.zoho
    .upsertLeads(toWrite.map(toRecord), { signal, beforeSend: lease.assertHeld, sendBy })
    .catch(async (error: unknown) => {
      // Where that fails as well, the values stay in doubt, and the error is still what there is to tell.
      if (!signal.aborted && isUndone(error)) await takeBack(toWrite, work).catch(() => {});
      throw error;
    });
  await takeBack(
    toWrite.filter((result, index) => isRefused(answers[index]) || isAnotherLead(result, answers[index])),
    work,
  );
  toWrite.forEach((result, index) => {
    takeAnswer(result, answers[index], work);
  });
  // Search may not see it for a while, and its receipt may be long in coming.
  if (deps.zoho.usesSearchFallback()) await noteMade(toWrite, work).catch(() => {});
  return toWrite.filter((result, index) => {
    const answer = answers[index];
    if (result.error === undefined) return result.heldBack.size > 0;
    const { email, plan } = result;
    const { wrong, isCompanyMissing } = curableFaults(result, answer);
    for (const field of wrong) {
      refused.add(refusalOf(email, field, plan.fields.get(field)!.value));
      log.warn({ field, code: answer!.ok ? '' : answer!.code }, 'Zoho refused a field; the lead is written without it');
    }
    const isToBeFilled = isCompanyMissing && !companyless.has(email);
    if (isToBeFilled) companyless.add(email);
    return wrong.length > 0 || isToBeFilled;
  });
}

/**
 * What was certainly not written is in no doubt any more: a person who enters the lead meanwhile may choose the same values,
 * which would be taken for ours. The bookings are facts all the same.
 */
async function takeBack(results: readonly LeadResult[], { lease }: Work): Promise<void> {
  await lease.saveIntents(
    new Map(results.map(({ email }) => [email, settleDoubts(lease.intentsOf(email), undefined)] as const)),
  );
}

/** What certainly was written, and to which lead: by that it is found again. Spares a doubt; nothing depends on it. */
async function noteMade(results: readonly LeadResult[], { lease }: Work): Promise<void> {
  const made = results.flatMap(({ email, found, leadId, plan }) =>
    found === undefined && leadId !== null ? [{ id: leadId, email, fields: valuesOf(plan.fields) }] : [],
  );
  await lease.saveIntents(
    new Map(made.map((lead) => [lead.email, settleDoubts(lease.intentsOf(lead.email), lead)] as const)),
  );
}

function isRefused(answer: RecordResult | undefined): boolean {
  return answer?.ok === false && !UNTOLD.has(answer.code);
}

/** The call was refused whole, or never left. */
function isUndone(error: unknown): boolean {
  if (error instanceof OutageError) return !error.mayBeDone;
  return error instanceof TerminalError || error instanceof RetryableError || error instanceof NotYetError;
}

/**
 * Zoho has matched the record by a field that the organisation has made unique. A lead that nobody found but by its address
 * has come to be since the look-up.
 */
function isAnotherLead({ found }: LeadResult, answer: RecordResult | undefined): boolean {
  if (!answer?.ok) return false;
  if (found !== undefined) return found.id !== answer.id;
  return answer.action === 'update' && (answer.duplicateField ?? 'Email') !== 'Email';
}

function takeAnswer(result: LeadResult, answer: RecordResult | undefined, { log }: Work): void {
  if (answer?.ok) {
    if (isAnotherLead(result, answer)) {
      const { id: written, duplicateField: field } = answer;
      const meant = result.found?.id;
      log.warn({ written, meant, field }, 'Zoho wrote another lead than the one that was meant');
      const by = field === undefined ? '' : `, which has the same ${field}`;
      const message = `Zoho wrote the lead ${written}${by}, and not ${meant ?? 'a new one'}, for ${result.email}`;
      result.error = new TerminalError(message, { code: ANOTHER_LEAD, provider: 'zoho' });
      return;
    }
    result.leadId = answer.id;
    result.action = answer.action ?? (result.found === undefined ? 'insert' : 'update');
    return;
  }
  const what =
    answer === undefined
      ? 'Zoho gave no answer for a lead'
      : `Zoho refused the lead ${result.email}: ${answer.code}${inFields(answer.fields)}`;
  const code = answer === undefined ? 'zoho_no_answer' : `zoho_${answer.code.toLowerCase()}`;
  // Converted since the look-up: the next one finds the contact or deal that it became.
  const isConvertedNow = answer?.code === 'CONVERTED_RECORD';
  const isDeletedNow = answer?.fields.includes('id');
  result.error =
    answer === undefined || answer.retryable || isConvertedNow || isDeletedNow
      ? new RetryableError(what, answer === undefined ? { code } : { code, provider: 'zoho' })
      : new TerminalError(what, { code, provider: 'zoho' });
}

function inFields(fields: readonly string[]): string {
  return fields.length === 0 ? '' : ` (${fields.join(', ')})`;
}

/** The fields at fault, where the lead may go without all of them; but for a company that it lacks. */
function curableFaults(
  { plan, found }: LeadResult,
  answer: RecordResult | undefined,
): { wrong: readonly string[]; isCompanyMissing: boolean } {
  const none = { wrong: [], isCompanyMissing: false };
  if (answer === undefined || answer.ok || answer.retryable) return none;
  const isMissing = (field: string) => field === FILLED_IN && found === undefined && !plan.fields.has(field);
  const wrong = answer.fields.filter((field) => !isMissing(field));
  const isDispensable = (field: string) => !NEEDED.has(field) && plan.fields.has(field);
  return wrong.every(isDispensable) ? { wrong, isCompanyMissing: answer.fields.some(isMissing) } : none;
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
