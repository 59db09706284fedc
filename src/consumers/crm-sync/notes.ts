/** Which notes an event asks for, and how a note that stands already is told. */
import { normalizeEmail } from '../../lib/email-address.js';
import type { CrmEvent } from './lead-facts.js';
import { bookingNote, markerOfKey, meetingNote } from './note-text.js';

export type NotePlan = {
  email: string;
  /** The same for every revision of what the note is about. */
  noteKey: string;
  revision: number;
  title: string;
  content: string;
  /** The line by which the note is found again in the CRM. */
  marker: string;
};

/** One note for each lead that the event concerns. */
export function notesOf(event: CrmEvent, emails: readonly string[]): NotePlan[] {
  const text = event.type === 'meeting.summarized' ? meetingNote(event) : bookingNote(event);
  if (text === undefined) return [];
  const noteKey = noteKeyOf(event);
  const revision = event.type === 'meeting.summarized' ? event.data.revision : 1;
  return emails.map((email) => ({
    ...text,
    email: normalizeEmail(email),
    noteKey,
    revision,
    marker: markerOfKey(noteKey),
  }));
}

/** The idempotency key without the revision. */
export function noteKeyOf({ key }: { key: string }): string {
  return key.replace(/:r\d+$/, '');
}

/** The key in a note's marker line; of several the last, as that is the one we wrote. */
export function noteKeyIn(content: string): string | undefined {
  return [...content.matchAll(/^\[gvi:(.+)\]\s*$/gm)].at(-1)?.[1];
}
