/**
 * Who was in a meeting, and on whose side. Read.ai names speakers by label only, which may differ from the participant's
 * name or be a room: a side is taken from a name only where it can mean nobody else.
 */
import { clipLine } from '../../lib/clip.js';
import { isMachine, type Side, sideOf } from '../../lib/colleagues.js';
import { normalizeEmail } from '../../lib/email-address.js';
import type { MeetingSummarized } from '../../lib/events.js';
import type { ReadaiMeetingWebhook, ReadaiPerson } from '../../lib/payloads/readai.js';

export type Attendee = MeetingSummarized['attendees'][number];

const NAME_MAX = 100;
const ATTENDEES_MAX = 100;

/**
 * The participants, each once, then speakers who are none of them. The owner stands here only as a participant: who
 * recorded a meeting is not made a lead by that.
 */
export function attendeesOf(meeting: ReadaiMeetingWebhook, internalDomains: readonly string[]): Attendee[] {
  const attendees = new Map<string, Attendee>();
  for (const person of meeting.participants.filter((participant) => !isMachine(participant))) {
    const attendee = attendeeOf(person, meeting, internalDomains);
    const id = attendee.email ?? `name:${wordsOf(attendee.name).join(' ')}`;
    if (!attendees.has(id)) attendees.set(id, attendee);
  }
  const names = [...meeting.participants, ...(meeting.owner ? [meeting.owner] : [])].map(nameOfPerson);
  for (const speaker of new Set(speakersOf(meeting))) {
    const isKnown = names.some((name) => name !== undefined && isPartOf(wordsOf(speaker), wordsOf(name)));
    if (!isKnown) attendees.set(`speaker:${speaker}`, { name: speaker, side: 'unknown' });
  }
  return [...attendees.values()].slice(0, ATTENDEES_MAX);
}

/** From a speaker's label to a side; `unknown` for nobody's name, and where people of both sides could be meant. */
export function makeSideOfSpeaker(
  meeting: ReadaiMeetingWebhook,
  internalDomains: readonly string[],
): (speaker: string | undefined) => Side {
  const roster = [...meeting.participants, ...(meeting.owner ? [meeting.owner] : [])].map((person) => {
    const { name, side } = attendeeOf(person, meeting, internalDomains);
    return { words: wordsOf(name), side };
  });
  return (speaker) => {
    const words = wordsOf(speaker ?? '');
    if (words.length === 0) return 'unknown';
    const exact = roster.filter((person) => isPartOf(words, person.words) && isPartOf(person.words, words));
    const close = roster.filter(({ words: other }) => isSurelyTheSame(words, other));
    const sides = new Set((exact.length > 0 ? exact : close).map(({ side }) => side));
    return sides.size === 1 ? [...sides][0]! : 'unknown';
  };
}

function attendeeOf(person: ReadaiPerson, meeting: ReadaiMeetingWebhook, internalDomains: readonly string[]): Attendee {
  const email = emailOf(person, meeting);
  const name = nameOfPerson(person) ?? email ?? 'Somebody without a name';
  const side = sideOf(email, meeting, internalDomains);
  return { name, ...(email !== undefined && { email }), side };
}

/** Their own, else that of the only other entry with exactly this name. */
function emailOf(person: ReadaiPerson, { participants, owner }: ReadaiMeetingWebhook): string | undefined {
  if (isEmail(person.email)) return normalizeEmail(person.email);
  const words = wordsOf(nameOfPerson(person) ?? '');
  if (words.length < 2) return undefined;
  const namesakes = [...participants, ...(owner ? [owner] : [])].filter((other) => {
    const theirs = wordsOf(nameOfPerson(other) ?? '');
    return isPartOf(words, theirs) && isPartOf(theirs, words);
  });
  const emails = new Set(namesakes.flatMap(({ email }) => (isEmail(email) ? [normalizeEmail(email)] : [])));
  return emails.size === 1 ? [...emails][0] : undefined;
}

function isEmail(text: string | undefined): text is string {
  return text !== undefined && text.length <= 254 && /^[^\s@]+@[^\s@]+$/.test(text);
}

function nameOfPerson({ name, first_name, last_name }: ReadaiPerson): string | undefined {
  const full = name ?? [first_name, last_name].filter((part) => part !== undefined).join(' ');
  return clipLine(full, NAME_MAX) || undefined;
}

function speakersOf({ transcript }: ReadaiMeetingWebhook): string[] {
  return (transcript?.speaker_blocks ?? []).flatMap(({ speaker, words }) => {
    const name = clipLine(speaker?.name ?? '', NAME_MAX);
    return name === '' || words === undefined ? [] : [name];
  });
}

/** "João Angelo" is "João Angelo Silva"; "Karen" alone may be any Karen. */
function isSurelyTheSame(a: readonly string[], b: readonly string[]): boolean {
  return Math.min(a.length, b.length) >= 2 && (isPartOf(a, b) || isPartOf(b, a));
}

function isPartOf(words: readonly string[], others: readonly string[]): boolean {
  return words.length > 0 && words.every((word) => others.includes(word));
}

/** Without case, accents, and what meeting software adds: "Karen Liu (Guest)", "Karen Liu | Brightwater". */
function wordsOf(name: string): string[] {
  const plain = name
    .replace(/\([^)]*\)|\|.*$/g, ' ')
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase();
  return plain.match(/[\p{L}\p{N}]+/gu) ?? [];
}
