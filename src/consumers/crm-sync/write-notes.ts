/**
 * Writes the notes of a batch, each exactly once: a note that is known is updated or left, one that may stand already is
 * looked for by its marker line, all others are created in one call.
 */
import { RetryableError, TerminalError } from '../../lib/errors.js';
import type { RecordResult } from '../../lib/providers/zoho/crm.js';
import { inCalls } from './calls.js';
import type { CrmEvent } from './lead-facts.js';
import { type NotePlan, notesOf } from './notes.js';
import type { LeadResult, SyncDeps, SyncItem } from './sync-batch.js';

export type NoteModule = 'Leads' | 'Contacts' | 'Deals';

export type LeadNote = {
  event: CrmEvent;
  plan: NotePlan;
  module: NoteModule;
  parentId: string;
  noteId: string | null;
  action: 'insert' | 'update' | 'none';
  /** A later revision stands in the CRM. */
  isSuperseded: boolean;
  error?: unknown;
};

export async function writeNotes(
  items: readonly SyncItem[],
  results: ReadonlyMap<string, LeadResult>,
  deps: SyncDeps,
  signal: AbortSignal,
): Promise<LeadNote[]> {
  const notes = newestOfEach(items.flatMap((item) => plansOf(item, results)));
  await findStanding(notes, results, deps, signal);
  await deps.ledger.saveIntents(intentsOf(notes));
  await updateNotes(
    notes.filter(({ action }) => action === 'update'),
    deps,
    signal,
  );
  await createNotes(
    notes.filter(({ action }) => action === 'insert'),
    deps,
    signal,
  );
  return notes;
}

function plansOf({ event, leads }: SyncItem, results: ReadonlyMap<string, LeadResult>): LeadNote[] {
  const plans = notesOf(
    event,
    leads.map(({ email }) => email),
  );
  return plans.flatMap((plan) => {
    const { leadId, found, known, error } = results.get(plan.email)!;
    if (leadId === null || error !== undefined) return [];
    const parent = parentOf(leadId, found?.converted);
    const standing = known.notes?.[plan.noteKey];
    const isSuperseded = standing !== undefined && standing[1] > plan.revision;
    const isThere = standing !== undefined && standing[0] !== null && standing[1] >= plan.revision;
    const noteId = standing?.[0] ?? null;
    // Written before a crash, by this very event: it counts as written by it.
    const action = isThere ? 'none' : noteId === null ? 'insert' : 'update';
    return [{ event, plan, ...parent, noteId, action, isSuperseded }];
  });
}

/** What became of a lead carries its notes: the deal, else the contact. */
function parentOf(
  leadId: string,
  converted: { contactId?: string; dealId?: string } | undefined,
): { module: NoteModule; parentId: string } {
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
    note.plan.revision < newest.get(idOf(note))! ? { ...note, action: 'none', isSuperseded: true } : note,
  );
}

/**
 * A note may stand although nobody here knows its id: after a lost answer (the ledger holds an intent), and after Redis was
 * emptied (the lead is in the CRM, yet nothing is known of it).
 */
async function findStanding(
  notes: readonly LeadNote[],
  results: ReadonlyMap<string, LeadResult>,
  { zoho }: SyncDeps,
  signal: AbortSignal,
): Promise<void> {
  const inDoubt = notes.filter(({ action, plan }) => action === 'insert' && mayStand(results.get(plan.email)!, plan));
  for (const note of inDoubt) {
    const standing = (await zoho.listNotes(note.module, note.parentId, { signal })).find(({ content }) =>
      content.includes(note.plan.marker),
    );
    if (standing === undefined) continue;
    note.noteId = standing.id;
    note.action = 'update';
  }
}

function mayStand({ known, found }: LeadResult, { noteKey }: NotePlan): boolean {
  const hasIntent = known.notes?.[noteKey] !== undefined;
  const isUnknownHere = known.leadId === undefined && known.written === undefined && known.bookings === undefined;
  return hasIntent || (isUnknownHere && found !== undefined);
}

function intentsOf(notes: readonly LeadNote[]) {
  const intents = new Map<string, { notes: Record<string, [null, number]> }>();
  for (const { plan, action } of notes) {
    if (action !== 'insert') continue;
    intents.set(plan.email, { notes: { ...intents.get(plan.email)?.notes, [plan.noteKey]: [null, plan.revision] } });
  }
  return intents;
}

async function updateNotes(notes: readonly LeadNote[], { zoho }: SyncDeps, signal: AbortSignal): Promise<void> {
  if (notes.length === 0) return;
  const answers = await inCalls(notes, (part) =>
    zoho.updateNotes(
      part.map(({ noteId, plan: { title, content } }) => ({ id: noteId!, title, content })),
      { signal },
    ),
  );
  notes.forEach((note, index) => {
    const answer = answers[index];
    if (answer?.ok === false && !answer.retryable) {
      // Somebody deleted it, alone or with its lead: it is written anew.
      note.noteId = null;
      note.action = 'insert';
    } else takeAnswer(note, answer);
  });
}

async function createNotes(notes: readonly LeadNote[], { zoho }: SyncDeps, signal: AbortSignal): Promise<void> {
  if (notes.length === 0) return;
  const answers = await inCalls(notes, (part) =>
    zoho.createNotes(
      part.map(({ module, parentId, plan: { title, content } }) => ({ module, parentId, title, content })),
      { signal },
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
  const isParentGone = answer?.field === 'Parent_Id';
  note.error =
    answer === undefined || answer.retryable || isParentGone
      ? new RetryableError(what, { code })
      : new TerminalError(what, { code });
}
