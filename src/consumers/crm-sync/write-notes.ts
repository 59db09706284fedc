/**
 * Writes the notes of a batch, each exactly once: a note that is known is updated or left, one that may stand already is
 * looked for by its marker line, all others are created in one call.
 */
import { RetryableError, TerminalError } from '../../lib/errors.js';
import type { Intent, Intents } from '../../lib/lead-ledger.js';
import { joinPlace, timeOfTurn, toSavedNote } from '../../lib/lead-state.js';
import { NOTES_LISTED_MAX, type RecordResult } from '../../lib/providers/zoho/crm.js';
import { inCalls, inParallel } from './calls.js';
import { knownOfNote } from './doubt.js';
import { forgetFormer } from './former-notes.js';
import { type CrmEvent, orderOf } from './lead-facts.js';
import type { LeadResult } from './look-up.js';
import { type NotePlan, noteKeyIn, notesOf } from './notes.js';
import type { SyncItem, Work } from './sync-batch.js';

export type NoteModule = 'Leads' | 'Contacts' | 'Deals';

export type LeadNote = {
  event: CrmEvent;
  plan: NotePlan;
  module: NoteModule;
  parentId: string;
  /** Of its write, see `lead-state.ts`. */
  place: string;
  noteId: string | null;
  action: 'insert' | 'update' | 'none';
  /** A later revision stands in the CRM. */
  isSuperseded: boolean;
  /** It may have been written without our knowing its id. */
  isDoubtful: boolean;
  /** It stood in the CRM and somebody has deleted it. */
  isAnew?: boolean;
  error?: unknown;
};

/** Listings at once. */
const LISTINGS_MAX = 3;

export async function writeNotes(
  items: readonly SyncItem[],
  results: ReadonlyMap<string, LeadResult>,
  work: Work,
): Promise<LeadNote[]> {
  const plans = await Promise.all(items.map((item) => plansOf(item, results, work)));
  const notes = newestOfEach(plans.flat());
  await findStanding(notes, results, work);
  const planned = notes.filter(({ action }) => action !== 'none');
  if (planned.length === 0) return notes;
  await work.lease.saveIntents(intentsOf(planned, work));
  await updateNotes(
    planned.filter(({ action }) => action === 'update'),
    work,
  );
  const added = planned.filter(({ action }) => action === 'insert');
  // One that turned out to be gone is written anew: from here on it may stand under an id that nobody knows.
  if (added.some(({ isAnew }) => isAnew)) await work.lease.saveIntents(intentsOf(added, work));
  await createNotes(added, work);
  // Spares others a look before the receipts stand; nothing depends on it.
  if (added.length > 0) await work.lease.saveIntents(intentsOf(planned, work)).catch(() => {});
  return notes;
}

async function plansOf(
  { event, leads }: SyncItem,
  results: ReadonlyMap<string, LeadResult>,
  work: Work,
): Promise<LeadNote[]> {
  const plans = notesOf(
    event,
    leads.map(({ email }) => email),
  );
  const notes = await Promise.all(plans.map((plan) => decideNote(event, plan, results.get(plan.email)!, work)));
  return notes.filter((note) => note !== undefined);
}

/** `undefined` where the lead itself came to nothing. */
async function decideNote(
  event: CrmEvent,
  plan: NotePlan,
  { leadId, found, known, turn, error }: LeadResult,
  { lease, read }: Work,
): Promise<LeadNote | undefined> {
  if (leadId === null || error !== undefined) return undefined;
  const parent = parentOf(leadId, found?.converted);
  const asked = { noteKey: plan.noteKey, eventId: event.id };
  const { standing: noted, isSure, isDoubtful } = knownOfNote(known, lease.intentsOf(plan.email), asked);
  const standing = noted && (await forgetFormer(noted, event, read));
  // A later one that is in doubt is tried again by its own event.
  const isSuperseded = standing !== undefined && standing.revision > plan.revision;
  // The same revision of another delivery, of which no receipt came, may have been refused: it is written over.
  const isThere =
    isSure && standing !== undefined && standing.id !== null && !isToBeRenewed(event, plan, standing.revision);
  const noteId = standing?.id ?? null;
  const action = isSuperseded || isThere ? 'none' : noteId === null ? 'insert' : 'update';
  const place = joinPlace({ order: orderOf(event), turn });
  return { event, plan, ...parent, place, noteId, action, isSuperseded, isDoubtful };
}

/** An older revision gives way; a replay does the same one again. */
export function isToBeRenewed(event: CrmEvent, { revision }: NotePlan, standingRevision: number): boolean {
  return standingRevision < revision || (standingRevision === revision && event.fields.replay !== undefined);
}

/** What became of a lead carries its notes: the deal, else the contact. */
export function parentOf<Id extends string | null>(
  leadId: Id,
  converted: { contactId?: string; dealId?: string } | undefined,
): { module: NoteModule; parentId: string | Id } {
  if (converted?.dealId !== undefined) return { module: 'Deals', parentId: converted.dealId };
  if (converted?.contactId !== undefined) return { module: 'Contacts', parentId: converted.contactId };
  return { module: 'Leads', parentId: leadId };
}

/** Of two revisions in one batch only the later is written. */
function newestOfEach(notes: readonly LeadNote[]): LeadNote[] {
  const idOf = ({ plan }: LeadNote) => `${plan.email} ${plan.noteKey}`;
  const newest = new Map<string, number>();
  for (const note of notes) newest.set(idOf(note), Math.max(newest.get(idOf(note)) ?? 0, note.plan.revision));
  return notes.map((note) =>
    note.plan.revision < newest.get(idOf(note))! ? { ...note, action: 'none' as const, isSuperseded: true } : note,
  );
}

/**
 * A note may stand although nobody here knows its id: after a lost answer (the ledger holds an intent), and after Redis
 * forgot what was done (it was emptied, or lost its last moments). All notes of such a lead are looked at.
 */
async function findStanding(
  notes: readonly LeadNote[],
  results: ReadonlyMap<string, LeadResult>,
  { deps: { zoho, ledger }, signal }: Work,
): Promise<void> {
  const since = ledger.remembersSince();
  const inDoubt = notes.filter(
    (note) => note.action === 'insert' && mayStand(note, results.get(note.plan.email)!, since),
  );
  const emails = [...new Set(inDoubt.map(({ plan }) => plan.email))];
  await inParallel(emails, LISTINGS_MAX, async (email) => {
    const own = inDoubt.filter(({ plan }) => plan.email === email);
    const { module, parentId } = own[0]!;
    const standing = await zoho.listNotes(module, parentId, { signal });
    for (const note of own) {
      const found = standing.find(({ content }) => content.includes(note.plan.marker));
      if (found === undefined) continue;
      note.noteId = found.id;
      note.action = 'update';
    }
    if (module === 'Leads' && standing.length < NOTES_LISTED_MAX) results.get(email)!.stood = byKey(standing);
  });
}

/** A lead that was made just now has no note; of one that is known from its beginning, each note is known. */
function mayStand({ isDoubtful }: LeadNote, { known, leadId, action }: LeadResult, since: number): boolean {
  if (isDoubtful) return true;
  if (action === 'insert') return false;
  return known.leadId !== leadId || timeOfTurn(known.whole) < since;
}

function byKey(notes: readonly { id: string; content: string }[]): Record<string, string> {
  return Object.fromEntries(
    notes.flatMap(({ id, content }) => {
      const noteKey = noteKeyIn(content);
      return noteKey === undefined ? [] : [[noteKey, id]];
    }),
  );
}

/** Beside what the ledger holds of the same event already. */
function intentsOf(notes: readonly LeadNote[], { lease }: Work): Map<string, Intents> {
  const intents = new Map<string, Intents>();
  for (const { event, plan, noteId: id, module, place, error } of notes) {
    const known = lease.intentsOf(plan.email).get(event.id) ?? { wrote: { order: orderOf(event) } };
    const { [plan.noteKey]: _before, ...others } = known.notes ?? {};
    // What Zoho has refused for good does not stand, and stands in nobody's way.
    const saved = toSavedNote({ id, revision: plan.revision, module, place });
    const own = error instanceof TerminalError ? {} : { [plan.noteKey]: saved };
    const intent: Intent = { ...known, notes: { ...others, ...own } };
    intents.set(plan.email, new Map([...(intents.get(plan.email) ?? []), [event.id, intent]]));
  }
  return intents;
}

async function updateNotes(notes: readonly LeadNote[], { deps: { zoho }, lease, signal }: Work): Promise<void> {
  const answers = await inCalls(notes, (part) =>
    zoho.updateNotes(
      part.map(({ noteId, plan: { title, content } }) => ({ id: noteId!, title, content })),
      { signal, beforeSend: lease.assertHeld },
    ),
  );
  notes.forEach((note, index) => {
    const answer = answers[index];
    if (answer?.ok === false && answer.code === 'INVALID_DATA' && answer.fields.includes('id')) {
      // Somebody deleted it, alone or with its lead: it is written anew.
      note.noteId = null;
      note.action = 'insert';
      note.isAnew = true;
    } else takeAnswer(note, answer);
  });
}

async function createNotes(notes: readonly LeadNote[], { deps: { zoho }, lease, signal }: Work): Promise<void> {
  const answers = await inCalls(notes, (part) =>
    zoho.createNotes(
      part.map(({ module, parentId, plan: { title, content } }) => ({ module, parentId, title, content })),
      { signal, beforeSend: lease.assertHeld },
    ),
  );
  notes.forEach((note, index) => {
    takeAnswer(note, answers[index]);
  });
}

function takeAnswer(note: LeadNote, answer: RecordResult | undefined): void {
  if (answer?.ok) {
    note.noteId = answer.id;
    return;
  }
  const code = `zoho_${(answer?.code ?? 'no_answer').toLowerCase()}`;
  const what = `Zoho refused the note for the lead ${note.plan.email}: ${answer?.code ?? 'no answer'}`;
  // The lead was deleted or converted a moment ago: the next look-up finds out what became of it.
  const isParentGone = answer?.fields.includes('Parent_Id');
  note.error =
    answer === undefined || answer.retryable || isParentGone
      ? new RetryableError(what, answer === undefined ? { code } : { code, provider: 'zoho' })
      : new TerminalError(what, { code, provider: 'zoho' });
}
