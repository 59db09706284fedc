/**
 * What this service has done to a lead in the CRM, folded from `lead.synced`. It tells a value that the service wrote
 * from one that a person typed, and makes the outcome independent of the order in which events come: a fact only gives
 * way to a better or later one.
 */
import { createHash } from 'node:crypto';
import type { LeadSynced } from './events.js';

/**
 * 2: the payload says so. 1: a model or a display name suggests it. 0: a stand-in, so that a mandatory field is filled.
 */
export type Quality = 0 | 1 | 2;

/** A value as it was written: its quality, its hash, and the place of its event in the order of the lead's events. */
export type Written = { quality: Quality; hash: string; order: string };

export type BookingState = { state: string; startsAt: string; order: string };

export type NoteState = { id: string | null; revision: number; module?: 'Leads' | 'Contacts' | 'Deals' };

/** Compact, as there is one for each lead: `written` is by order and then field, since many fields share an order. */
export type LeadState = {
  leadId?: string;
  /** Event ids that concern the lead, newest last. */
  events?: string[];
  written?: Record<string, Record<string, string>>;
  bookings?: Record<string, [state: string, startsAt: string, order: string]>;
  notes?: Record<string, [id: string | null, revision: number, module?: 'Leads' | 'Contacts' | 'Deals']>;
};

/** The order of what no single event says: it is worked out anew from all of them, and always up to date. */
export const DERIVED = '~';

type Wrote = NonNullable<LeadSynced['wrote']>[string];

export function writtenOf(state: LeadState, field: string): Written | undefined {
  for (const [order, fields] of Object.entries(state.written ?? {})) {
    const value = fields[field];
    if (value !== undefined) return { quality: Number(value[0]) as Quality, hash: value.slice(1), order };
  }
  return undefined;
}

/** True where `a` gives way to nothing that `b` says: better first, then later. */
export function beats(a: Pick<Written, 'quality' | 'order'>, b: Pick<Written, 'quality' | 'order'>): boolean {
  return a.quality === b.quality ? a.order > b.order : a.quality > b.quality;
}

/** Adds what one event wrote; adding it twice changes nothing, nor does the order of events but for what is derived. */
export function addWrote(state: LeadState, wrote: Wrote): LeadState {
  let next = state;
  for (const [field, value] of Object.entries(wrote.fields ?? {})) {
    const added: Written = { quality: Number(value[0]) as Quality, hash: value.slice(1), order: wrote.order };
    const known = writtenOf(next, field);
    if (known === undefined || !beats(known, added)) next = putWritten(next, field, value, wrote.order);
  }
  for (const [field, value] of Object.entries(wrote.derived ?? {})) next = putWritten(next, field, value, DERIVED);
  for (const [id, booking] of Object.entries(wrote.bookings ?? {})) next = addBooking(next, id, booking, wrote.order);
  return next;
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

export function addNote(state: LeadState, noteKey: string, note: NoteState): LeadState {
  const known = state.notes?.[noteKey];
  if (known !== undefined && known[1] > note.revision) return state;
  if (known !== undefined && known[1] === note.revision && known[0] !== null) return state;
  const value: [string | null, number, ('Leads' | 'Contacts' | 'Deals')?] =
    note.module === undefined || note.module === 'Leads'
      ? [note.id, note.revision]
      : [note.id, note.revision, note.module];
  return { ...state, notes: { ...state.notes, [noteKey]: value } };
}

/** Both at once, as for a projection and what is not folded into it yet. */
export function mergeStates(a: LeadState, b: LeadState): LeadState {
  let merged: LeadState = { ...a, ...(b.leadId === undefined ? {} : { leadId: b.leadId }) };
  for (const [order, fields] of Object.entries(b.written ?? {})) merged = addWrote(merged, { order, fields });
  for (const [id, [state, startsAt, order]] of Object.entries(b.bookings ?? {})) {
    merged = addBooking(merged, id, [state, startsAt], order);
  }
  for (const [noteKey, [id, revision, module]] of Object.entries(b.notes ?? {})) {
    merged = addNote(merged, noteKey, { id, revision, ...(module === undefined ? {} : { module }) });
  }
  return merged;
}

/** Short, as it only has to tell a value from another one in the same field of the same lead. */
export function hashValue(value: unknown): string {
  const text = typeof value === 'string' ? value.trim() : JSON.stringify(value);
  return createHash('sha256').update(text).digest('base64url').slice(0, 10);
}

function putWritten(state: LeadState, field: string, value: string, order: string): LeadState {
  const written: Record<string, Record<string, string>> = {};
  for (const [known, fields] of Object.entries(state.written ?? {})) {
    const { [field]: _replaced, ...rest } = fields;
    if (Object.keys(rest).length > 0) written[known] = rest;
  }
  written[order] = { ...written[order], [field]: value };
  return { ...state, written };
}
