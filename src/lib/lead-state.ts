/**
 * What this service has done to a lead in the CRM, folded from `lead.synced`. It tells a value that the service wrote
 * from one that a person typed, and makes the outcome independent of the order in which events come: a fact only gives
 * way to a better or later one.
 */
import { createHash } from 'node:crypto';
import { toCanonicalJson } from './canonical-json.js';
import type { LeadSynced } from './events.js';

/**
 * 2: the payload says so. 1: a model or a display name suggests it, or a payload repeats what was said before. Below are names that
 * may be half of one: 0.75 where the payload says so, else 0.5. 0: a stand-in, so that a mandatory field is filled.
 */
export type Quality = 0 | 0.5 | 0.75 | 1 | 2;

/** One character each, the first of a saved value: entries hold them for ever. */
const SIGNS: Readonly<Record<Quality, string>> = { 0: '0', 0.5: 'h', 0.75: 'H', 1: '1', 2: '2' };
const QUALITIES: Readonly<Record<string, Quality>> = { 0: 0, h: 0.5, H: 0.75, 1: 1, 2: 2 };

/**
 * A value as it was written: its quality, its hash, the place of its event in the order of the lead's events, and the turn
 * of the write; '' where it was written before turns were kept.
 */
export type Written = { quality: Quality; hash: string; order: string; turn: string };

export type NoteState = {
  id: string | null;
  revision: number;
  module?: 'Leads' | 'Contacts' | 'Deals' | undefined;
  /** `order@turn` of its event and of the write, as in `written`; absent where it was not kept, or is not known. */
  place?: string | undefined;
};

export type SavedNote = [
  id: string | null,
  revision: number,
  module?: NonNullable<NoteState['module']>,
  place?: NonNullable<NoteState['place']>,
];

/**
 * Compact, as there is one for each lead: `written` is by order and turn (`order@turn`) and then by field, since many
 * fields share them.
 */
export type LeadState = {
  leadId?: string;
  /** The turn in which `leadId` was learnt last: that of the last look at the lead. */
  turn?: string;
  /** What was seen in that turn and is a person's, as in `lead.synced`: to be told of, never to be written by. */
  seen?: Record<string, string>;
  /** The last turn in which another lead stood under the address: what was written until then is in that one, and forgotten. */
  former?: string;
  /** From this turn on every note of ours on the lead is known: it was made then, or all of its notes were looked at. */
  whole?: string;
  /** Event ids that concern the lead, newest last. */
  events?: string[];
  written?: Record<string, Record<string, string>>;
  bookings?: Record<string, [state: string, startsAt: string, order: string]>;
  notes?: Record<string, SavedNote>;
};

/** The order of what no single event says: it is worked out anew from all of them, and always up to date. */
export const DERIVED = '~';

type Wrote = NonNullable<LeadSynced['wrote']>[string];

/**
 * Turns tell the writes to one lead apart, the later ones being the higher: receipts may be appended in another order than
 * the CRM was written. A turn is the time of the lease under which it was written, Redis' clock in ms; as text it sorts.
 */
export function turnAt(ms: number): string {
  return ms.toString(36).padStart(9, '0');
}

/** The time in a turn; 0 where there is none. */
export function timeOfTurn(turn: string | undefined): number {
  return turn === undefined || turn === '' ? 0 : Number.parseInt(turn, 36);
}

/** The turn of a write under a lease taken at `leasedAt`: after all that is known, also where clocks went back. */
export function nextTurn(state: LeadState, leasedAt: number): string {
  const places = [
    ...Object.keys(state.written ?? {}),
    ...Object.values(state.notes ?? {}).map((saved) => toNote(saved).place ?? ''),
  ];
  const turns = [state.turn ?? '', state.whole ?? '', ...places.map((place) => splitPlace(place).turn)];
  return turnAt(Math.max(leasedAt, ...turns.map((turn) => timeOfTurn(turn) + 1)));
}

export function writtenOf(state: LeadState, field: string): Written | undefined {
  for (const [key, fields] of Object.entries(state.written ?? {})) {
    const value = fields[field];
    if (value !== undefined) return toWritten(value, splitPlace(key));
  }
  return undefined;
}

/** True where `a` gives way to nothing that `b` says: better first, then later. */
export function beats(a: Pick<Written, 'quality' | 'order'>, b: Pick<Written, 'quality' | 'order'>): boolean {
  return a.quality === b.quality ? a.order > b.order : a.quality > b.quality;
}

/** Adds what one event wrote. Adding it twice changes nothing, nor does the order in which the writes of a lead come. */
export function addWrote(state: LeadState, wrote: Wrote): LeadState {
  const { order, turn = '' } = wrote;
  let next = state;
  for (const [field, value] of Object.entries(wrote.fields ?? {})) next = addValue(next, field, value, { order, turn });
  for (const [field, value] of Object.entries(wrote.derived ?? {})) {
    next = addValue(next, field, value, { order: DERIVED, turn });
  }
  for (const { leadId, ...earlier } of wrote.earlier ?? []) {
    next = addWrote(next, { order, ...earlier });
    if (leadId !== undefined) next = addLeadId(next, leadId, earlier.turn);
  }
  for (const [id, booking] of Object.entries(wrote.bookings ?? {})) next = addBooking(next, id, booking, order);
  for (const [noteKey, id] of Object.entries(wrote.stood ?? {})) next = addNote(next, noteKey, { id, revision: 0 });
  return wrote.stood === undefined ? next : addWhole(next, turn);
}

/**
 * Of two leads under one address the one that was found later counts: the other was converted, merged away or deleted. So
 * does what was `seen` in it, all of it: what a later look does not tell of is as this service wrote it.
 */
export function addLeadId(state: LeadState, leadId: string, turn = '', seen: LeadState['seen'] = {}): LeadState {
  const { leadId: known = leadId, turn: knownTurn = '' } = state;
  const isLater = turn >= knownTurn;
  const next = isLater ? putLook(state, leadId, turn, seen) : state;
  return known === leadId ? next : addFormer(next, isLater ? knownTurn : turn);
}

function putLook(state: LeadState, leadId: string, turn: string, seen: Record<string, string>): LeadState {
  const { seen: before = {}, ...rest } = state;
  // Of two looks in one turn either will do, but the same one in whichever order they come.
  const isSameTurn = state.turn === turn && state.leadId === leadId;
  const last = isSameTurn && toCanonicalJson(before) > toCanonicalJson(seen) ? before : seen;
  return { ...rest, leadId, ...(turn !== '' && { turn }), ...(Object.keys(last).length > 0 && { seen: last }) };
}

/** See `LeadState.former`. */
function addFormer(state: LeadState, turn: string): LeadState {
  const { written = {}, ...rest } = state;
  if (rest.former !== undefined && rest.former >= turn) return state;
  const kept = Object.entries(written).filter(([place]) => splitPlace(place).turn > turn);
  return { ...rest, former: turn, ...(kept.length > 0 && { written: Object.fromEntries(kept) }) };
}

/** See `LeadState.whole`. */
export function addWhole(state: LeadState, turn: string): LeadState {
  return turn > (state.whole ?? '') ? { ...state, whole: turn } : state;
}

export function addBooking(
  state: LeadState,
  id: string,
  [kind, startsAt]: readonly [state: string, startsAt: string],
  order: string,
): LeadState {
  const known = state.bookings?.[id];
  if (known !== undefined && known[2] >= order) return state;
  return { ...state, bookings: { ...state.bookings, [id]: [kind, startsAt, order] } };
}

/**
 * What was written later stands in the CRM. As a rule that is the higher revision; but a meeting of which all was trimmed
 * is numbered from one anew, see `former-notes.ts`.
 */
export function addNote(state: LeadState, noteKey: string, note: NoteState): LeadState {
  const known = state.notes?.[noteKey];
  return known !== undefined && stands(toNote(known), note)
    ? state
    : { ...state, notes: { ...state.notes, [noteKey]: toSavedNote(note) } };
}

export function toNote([id, revision, module, place]: SavedNote): NoteState {
  return { id, revision, module, place };
}

export function toSavedNote({ id, revision, module = 'Leads', place }: NoteState): SavedNote {
  if (place !== undefined) return [id, revision, module, place];
  return module === 'Leads' ? [id, revision] : [id, revision, module];
}

function stands(known: NoteState, added: NoteState): boolean {
  const [knownTurn, addedTurn] = [known, added].map(({ place = '' }) => splitPlace(place).turn) as [string, string];
  if (knownTurn !== addedTurn) return knownTurn > addedTurn;
  return known.revision === added.revision ? known.id !== null : known.revision > added.revision;
}

/** Both at once, as for a projection and what is not folded into it yet. */
export function mergeStates(a: LeadState, b: LeadState): LeadState {
  let merged = b.leadId === undefined ? a : addLeadId(a, b.leadId, b.turn, b.seen);
  if (b.former !== undefined) merged = addFormer(merged, b.former);
  if (b.whole !== undefined) merged = addWhole(merged, b.whole);
  for (const [key, fields] of Object.entries(b.written ?? {}))
    merged = addWrote(merged, { ...splitPlace(key), fields });
  for (const [id, [state, startsAt, order]] of Object.entries(b.bookings ?? {})) {
    merged = addBooking(merged, id, [state, startsAt], order);
  }
  for (const [noteKey, saved] of Object.entries(b.notes ?? {})) merged = addNote(merged, noteKey, toNote(saved));
  return merged;
}

/** Short, as it only has to tell a value from another one in the same field of the same lead. */
export function hashValue(value: unknown): string {
  const text = typeof value === 'string' ? value.trim() : JSON.stringify(value);
  return createHash('sha256').update(text).digest('base64url').slice(0, 10);
}

/** The write with the higher turn is what stands in the CRM; without turns the better or later fact is taken to be. */
function addValue(state: LeadState, field: string, value: string, place: Place): LeadState {
  const added = toWritten(value, place);
  if (state.former !== undefined && added.turn <= state.former) return state;
  const known = writtenOf(state, field);
  if (known !== undefined && known.turn > added.turn) return state;
  if (known !== undefined && known.turn === added.turn && beats(known, added)) return state;
  return putValue(state, field, value, place);
}

function putValue(state: LeadState, field: string, value: string, place: Place): LeadState {
  const key = joinPlace(place);
  const written: Record<string, Record<string, string>> = {};
  for (const [known, fields] of Object.entries(state.written ?? {})) {
    const { [field]: _replaced, ...rest } = fields;
    if (Object.keys(rest).length > 0) written[known] = rest;
  }
  written[key] = { ...written[key], [field]: value };
  return { ...state, written };
}

/** A value as `wrote` keeps it: `<quality><hash of the value>`. */
export function toSavedValue({ quality, value }: { quality: Quality; value: string }): string {
  return `${SIGNS[quality]}${hashValue(value)}`;
}

function toWritten(value: string, { order, turn }: Place): Written {
  return { quality: QUALITIES[value[0] ?? ''] ?? 0, hash: value.slice(1), order, turn };
}

export type Place = Pick<Written, 'order' | 'turn'>;

export function joinPlace({ order, turn }: Place): string {
  return turn === '' ? order : `${order}@${turn}`;
}

export function splitPlace(place: string): Place {
  const at = place.indexOf('@');
  return at < 0 ? { order: place, turn: '' } : { order: place.slice(0, at), turn: place.slice(at + 1) };
}
