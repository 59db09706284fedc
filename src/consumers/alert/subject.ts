/** Whom a failure concerns and what the CRM lacks because of it: name, email and company, nothing more of a person. */
import { NotYetError, TerminalError } from '../../lib/errors.js';
import type { EventFailed, LeadEnriched, MeetingSummarized, StoredEvent } from '../../lib/events.js';
import { leadOf } from '../enrich.js';
import { meetingOf } from '../summarize.js';

export type Person = { name?: string | undefined; email?: string | undefined; company?: string | undefined };

export type Subject =
  | { kind: LeadEnriched['kind']; people: Person[] }
  | { kind: 'meeting'; title: string; people: Person[] }
  /** The entry is gone or cannot be read. */
  | { kind: 'unknown'; source: string; people: [] };

type Read = (eventId: string) => Promise<StoredEvent | undefined>;

const PEOPLE_MAX = 5;

/** Reads the entry that failed. Throws only where the stream could not be read. */
export async function findSubject(
  { key, data }: StoredEvent<'event.failed'>,
  { read, internalDomains }: { read: Read; internalDomains: readonly string[] },
): Promise<Subject> {
  const failed = await readOrNothing(data.eventId, read);
  const subject = failed && describeSafely(failed, internalDomains);
  return subject === undefined ? { kind: 'unknown', source: sourceOf(key), people: [] } : narrow(subject, data);
}

/** As in "Ada Lovelace (ada@example.com, Analytical Engines)". */
export function nameOf({ name, email, company }: Person): string {
  const rest = [name === undefined ? undefined : email, company].filter((part) => part !== undefined).join(', ');
  const first = name ?? email ?? 'Somebody who left no name';
  return rest === '' ? first : `${first} (${rest})`;
}

async function readOrNothing(eventId: string, read: Read): Promise<StoredEvent | undefined> {
  try {
    return await read(eventId);
  } catch (error) {
    // The entry does not fit the catalogue, or a newer version wrote it: an alert is worth more than its name.
    if (error instanceof TerminalError || error instanceof NotYetError) return undefined;
    throw error;
  }
}

function describeSafely(event: StoredEvent, internalDomains: readonly string[]): Subject | undefined {
  try {
    return describe(event, internalDomains);
  } catch {
    // What broke the consumer may break us as well.
    return undefined;
  }
}

function describe(event: StoredEvent, internalDomains: readonly string[]): Subject | undefined {
  switch (event.type) {
    case 'lead.enriched':
      return ofLead(event.data);
    case 'meeting.summarized':
      return ofMeeting(event.data);
    case 'readai.meeting_completed':
      return ofMeeting(meetingOf(event, internalDomains));
    case 'calendly.invitee.created':
    case 'calendly.invitee.canceled':
    case 'calendly.invitee_no_show.created':
    case 'calendly.invitee_no_show.deleted':
    case 'calendly.routing_form_submission.created':
      return ofLead(leadOf(event.data, internalDomains));
    default:
      return undefined;
  }
}

function ofLead({ kind, email, facts, assessment }: LeadEnriched): Subject {
  const name = [facts.firstName, facts.lastName].filter((part) => part !== undefined).join(' ');
  return {
    kind,
    people: [{ name: name === '' ? undefined : name, email, company: facts.company ?? assessment?.facts.company }],
  };
}

function ofMeeting({ title, attendees }: MeetingSummarized): Subject {
  const guests = attendees.filter(({ side }) => side === 'external');
  return { kind: 'meeting', title, people: guests.map(({ name, email }) => ({ name, email })) };
}

/** Where one lead of several failed, the error names it by email. */
function narrow(subject: Subject, { error }: EventFailed): Subject {
  if (subject.kind === 'unknown') return subject;
  const named = subject.people.filter(({ email }) => email !== undefined && error.message.includes(email));
  return { ...subject, people: (named.length > 0 ? named : subject.people).slice(0, PEOPLE_MAX) };
}

function sourceOf(key: string): string {
  if (key.startsWith('calendly:')) return 'Calendly';
  return key.startsWith('readai:') ? 'Read.ai' : 'a webhook';
}
