/**
 * What is known of a lead: the events that concern it, its id in the CRM, and which values, bookings and notes this
 * service put there. The events themselves stay in their streams; this only says which.
 */
import { normalizeEmail } from '../lib/email-address.js';
import { NotYetError } from '../lib/errors.js';
import { compareEventIds, type StreamName } from '../lib/event-id.js';
import type { LeadSynced, StoredEvent } from '../lib/events.js';
import type { Keys } from '../lib/keys.js';
import { addLeadId, addNote, addWhole, addWrote, joinPlace, type LeadState, mergeStates } from '../lib/lead-state.js';
import { decodeOrSkip, type Projection, readPositions } from '../lib/projector.js';
import type { RedisClient } from '../lib/redis.js';
import { toRecord } from '../lib/runtime/entry.js';

const EVENTS_MAX = 50;
/** More than this many entries after the projection's position are not read at once; the projector catches up first. */
const TAIL_MAX = 2_000;
const CATCH_UP_MS = 500;

export const leads: Projection<LeadState> = {
  name: 'lead',
  version: 2,
  on: ['lead.enriched', 'meeting.summarized', 'lead.synced'],
  ids: emailsOf,
  evolve(state = {}, event, email) {
    switch (event.type) {
      case 'lead.enriched':
      case 'meeting.summarized':
        return { ...state, events: addEvent(state.events ?? [], event.id) };
      case 'lead.synced':
        return addSynced(state, event.data, email);
      default:
        return state;
    }
  },
};

/** The projection together with what was synced since its position: what a writer must know of the leads. */
export function makeReadLeads({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  return async (emails: readonly string[]): Promise<Map<string, LeadState>> => {
    // The position first: a fold between the two reads then shows up twice, which changes nothing.
    const positions = await readPositions(redis, keys, leads as Projection);
    const saved = await redis.mget(emails.map((email) => keys.projection(leads.name, email)));
    const states = new Map(emails.map((email, index) => [email, parseState(saved[index])]));
    for (const synced of await readSyncedAfter(redis, keys, positions.get('events:synced') ?? '0-0')) {
      for (const email of emails) {
        if (concerns(synced, email))
          states.set(email, mergeStates(states.get(email) ?? {}, addSynced({}, synced, email)));
      }
    }
    return states;
  };
}

function addSynced(state: LeadState, synced: LeadSynced, email: string): LeadState {
  const wrote = synced.wrote?.[email];
  const leadId = [...synced.leads, ...(synced.matched ?? [])].find((lead) => lead.email === email)?.leadId;
  let next: LeadState = typeof leadId === 'string' ? addLeadId(state, leadId, wrote?.turn, wrote?.seen) : state;
  const isNew = synced.leads.some((lead) => lead.email === email && lead.action === 'insert');
  if (isNew && wrote?.turn !== undefined) next = addWhole(next, wrote.turn);
  if (wrote !== undefined) next = addWrote(next, wrote);
  for (const note of synced.notes) {
    if (note.email !== email || note.noteKey === undefined || note.noteId === null) continue;
    const { noteKey, noteId: id, revision = 1, module } = note;
    const place = wrote && joinPlace({ order: wrote.order, turn: wrote.turn ?? '' });
    next = addNote(next, noteKey, { id, revision, module, place });
  }
  return next;
}

function emailsOf(event: StoredEvent): readonly string[] {
  switch (event.type) {
    case 'lead.enriched':
      return event.data.email === undefined || event.data.internal ? [] : [normalizeEmail(event.data.email)];
    case 'meeting.summarized':
      return externalEmails(event.data.attendees);
    case 'lead.synced':
      return [
        ...new Set(
          [...event.data.leads, ...(event.data.matched ?? [])]
            .map(({ email }) => email)
            .concat(Object.keys(event.data.wrote ?? {})),
        ),
      ];
    default:
      return [];
  }
}

function externalEmails(attendees: readonly { email?: string | undefined; side: string }[]): string[] {
  return attendees.flatMap(({ email, side }) =>
    side === 'external' && email !== undefined ? [normalizeEmail(email)] : [],
  );
}

/** In its place, so that the order in which streams are read makes no difference. */
function addEvent(events: string[], eventId: string): string[] {
  if (events.includes(eventId)) return events;
  const before = events.findLastIndex((known) => compareEventIds(known, eventId) < 0);
  return events.toSpliced(before + 1, 0, eventId).slice(-EVENTS_MAX);
}

function concerns(synced: LeadSynced, email: string): boolean {
  return (
    synced.wrote?.[email] !== undefined ||
    synced.leads.some((lead) => lead.email === email) ||
    (synced.matched ?? []).some((lead) => lead.email === email) ||
    synced.notes.some((note) => note.email === email)
  );
}

async function readSyncedAfter(redis: RedisClient, keys: Keys, position: string): Promise<LeadSynced[]> {
  const stream: StreamName = 'events:synced';
  const entries = await redis.xrange(keys.stream(stream), `(${position}`, '+', 'COUNT', TAIL_MAX);
  if (entries.length === TAIL_MAX)
    throw new NotYetError('The projection of the leads is catching up', { delayMs: CATCH_UP_MS });
  return entries.flatMap(([id, flat]) =>
    decodeOrSkip({ stream, id, fields: toRecord(flat) }).flatMap((event) =>
      event.type === 'lead.synced' ? [event.data] : [],
    ),
  );
}

function parseState(json: string | null | undefined): LeadState {
  return typeof json === 'string' ? (JSON.parse(json) as LeadState) : {};
}
