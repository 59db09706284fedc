/**
 * What is known of a lead where a write may or may not have come to pass: its intent was saved, and then the worker died, the
 * answer was lost, or the receipt is only on its way.
 */
import type { Intent, Intents } from '../../lib/lead-ledger.js';
import {
  addLeadId,
  addNote,
  addWrote,
  hashValue,
  type LeadState,
  type NoteState,
  toNote,
} from '../../lib/lead-state.js';
import type { FoundLead } from '../../lib/providers/zoho/crm.js';

export type Try = NonNullable<Intent['wrote']['earlier']>[number];

/**
 * Decides, by the lead as it is now, which of the intended writes came to pass. What is left of the intents is certain, and
 * is to be saved before the next write: after that the lead would tell no more.
 */
export function settleDoubts(intents: Intents, crmLead: FoundLead | undefined): Intents {
  const landed = new Set<string>();
  for (const [turn, together] of groupByTurn(intents)) if (hasLanded(together, crmLead)) landed.add(turn);
  return new Map([...intents].map(([eventId, intent]) => [eventId, settle(intent, landed, crmLead?.id)]));
}

/** Bookings are facts whether they were written or not; a value counts as ours only where the write came to pass. */
export function addCertain(folded: LeadState, settled: Intents): LeadState {
  let known = folded;
  for (const { wrote } of settled.values()) known = addWrote(known, wrote);
  return known;
}

/** The lead that was last found or made under an address; of what was made a receipt may still be to come. */
export function leadIdOf(folded: LeadState, intents: Intents): string | undefined {
  let known = folded;
  for (const { leadId, turn } of [...intents.values()].flatMap(({ wrote }) => wrote.earlier ?? [])) {
    if (leadId !== undefined) known = addLeadId(known, leadId, turn);
  }
  return known.leadId;
}

function groupByTurn(intents: Intents): Map<string, Intent[]> {
  const groups = new Map<string, Intent[]>();
  for (const intent of intents.values()) {
    const turn = intent.wrote.turn ?? '';
    groups.set(turn, [...(groups.get(turn) ?? []), intent]);
  }
  return groups;
}

/** A record is written whole or not at all, with what all events of a batch had for it. */
function settle({ wrote, notes }: Intent, landed: ReadonlySet<string>, leadId: string | undefined): Intent {
  const { order, turn = '', fields, derived, bookings, earlier = [] } = wrote;
  const hasValues = fields !== undefined || derived !== undefined;
  const own: Try[] =
    hasValues && landed.has(turn) ? [{ turn, leadId, ...(fields && { fields }), ...(derived && { derived }) }] : [];
  const tries = [...earlier, ...own];
  return {
    wrote: { order, ...(bookings && { bookings }), ...(tries.length > 0 && { earlier: tries }) },
    ...(notes && { notes }),
  };
}

/**
 * What is known of a note: whether that is sure, as no try has left it open, and whether the note may stand under another
 * id, or this event itself has meant to write it before.
 */
export function knownOfNote(
  { notes }: LeadState,
  intents: Intents,
  { noteKey, eventId }: { noteKey: string; eventId: string },
): { standing: NoteState | undefined; isSure: boolean; isDoubtful: boolean } {
  const own = intents.get(eventId)?.notes?.[noteKey];
  let known: LeadState = { ...(notes?.[noteKey] && { notes: { [noteKey]: notes[noteKey] } }) };
  for (const [id, intent] of intents) {
    const note = intent.notes?.[noteKey];
    if (id !== eventId && note !== undefined) known = addNote(known, noteKey, toNote(note));
  }
  // Where it is known which note this event has written, it may be written over; whether that was done is not known.
  if (known.notes?.[noteKey] === undefined && own !== undefined && own[0] !== null) {
    known = addNote(known, noteKey, { ...toNote(own), revision: 0 });
  }
  const found = known.notes?.[noteKey];
  return {
    standing: found && toNote(found),
    isSure: found === notes?.[noteKey],
    isDoubtful: own !== undefined || found?.[0] === null,
  };
}

/** The lead before a write, for `Intent.before`. */
export function snapshotOf({ id, fields, modifiedTime }: FoundLead): NonNullable<Intent['before']> {
  const values = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return [modifiedTime ?? '', hashValue(values.sort(([a], [b]) => (a < b ? -1 : 1))), id];
}

/**
 * One value that stands proves it for all. Where none stands, and all is as it was although the lead was modified since,
 * somebody has taken back what we wrote. A lead that was not there before, or is another one, may have been entered by a
 * person, with a name and a company such as ours: there most of the values have to stand.
 */
function hasLanded(together: readonly Intent[], crmLead: FoundLead | undefined): boolean {
  const values = [...new Map(together.flatMap(({ wrote }) => Object.entries({ ...wrote.fields, ...wrote.derived })))];
  const before = together.find((intent) => intent.before !== undefined)?.before;
  if (crmLead === undefined || values.length === 0) return false;
  const stand = values.filter(([field, value]) => hashValue(crmLead.fields[field] ?? '') === value.slice(1)).length;
  const isTheSame = before !== undefined && (before[2] ?? crmLead.id) === crmLead.id;
  if (!isTheSame) return stand > values.length / 2;
  if (stand > 0) return true;
  const [modifiedTime, hash] = snapshotOf(crmLead);
  return modifiedTime !== before[0] && hash === before[1];
}
