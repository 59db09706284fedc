/**
 * Who was in a meeting, and on whose side. Read.ai names speakers by label only, which may differ from the participant's
 * name or be a room: a side is taken from a name only where it can mean nobody else.
 */
import { clipLine } from '../../lib/clip.js';
import { isMachine, type Side, sideOf } from '../../lib/colleagues.js';
import { normalizeEmail } from '../../lib/email-address.js';
import type { MeetingSummarized } from '../../lib/events.js';
import type { ReadaiMeetingWebhook, ReadaiPerson } from '../../lib/payloads/readai.js';
import { foldWords, indexNames, type NameIndex, wordsOf } from './name-words.js';

export type Attendee = MeetingSummarized['attendees'][number];

/** `leftOut`: how many people are not among them, as there were too many. */
export type Attendance = { attendees: Attendee[]; leftOut: number };

const NAME_MAX = 100;
const ATTENDEES_MAX = 100;
/** More are not looked at: who sends a meeting must not choose how long it takes. */
const PEOPLE_MAX = 1_000;
const SPEAKERS_MAX = 1_000;

/**
 * The participants, each once, then speakers who are none of them. The owner stands here only as a participant: who
 * recorded a meeting is not made a lead by that.
 */
export function attendeesOf(meeting: ReadaiMeetingWebhook, internalDomains: readonly string[]): Attendance {
  const roster = rosterOf(meeting, internalDomains);
  const attendees = new Map<string, Attendee>();
  for (const { source, attendee, words } of roster) {
    if (source === meeting.owner || isMachine(source)) continue;
    const id = attendee.email ?? `name:${words.join(' ')}`;
    if (!attendees.has(id)) attendees.set(id, attendee);
  }
  const names = indexNames(namesOf(roster.filter(({ hasName }) => hasName)));
  for (const speaker of speakersOf(meeting)) {
    const isKnown = names.holding(wordsOf(speaker)).length > 0;
    if (!isKnown) attendees.set(`speaker:${speaker}`, { name: speaker, side: 'unknown' });
  }
  const shown = [...attendees.values()].slice(0, ATTENDEES_MAX);
  return { attendees: shown, leftOut: countUnseen(meeting) + attendees.size - shown.length };
}

/** From a speaker's label to a side; `unknown` for nobody's name, and where people of both sides could be meant. */
export function makeSideOfSpeaker(
  meeting: ReadaiMeetingWebhook,
  internalDomains: readonly string[],
): (speaker: string | undefined) => Side {
  const names = indexNames(namesOf(rosterOf(meeting, internalDomains)));
  const sides = new Map<string, Side>();
  return (speaker) => {
    const words = wordsOf(clipLine(speaker ?? '', NAME_MAX));
    const folded = foldWords(words);
    const known = sides.get(folded);
    if (known !== undefined) return known;
    // Who was not looked at could be meant as well.
    if (countUnseen(meeting) > 0 || sides.size >= SPEAKERS_MAX) return 'unknown';
    const side = sideOfName(words, names);
    sides.set(folded, side);
    return side;
  };
}

/** Exactly this name, else a surely same one: "João Angelo" is "João Angelo Silva"; "Karen" alone may be any Karen. */
function sideOfName(words: readonly string[], names: NameIndex<KnownName>): Side {
  const longer = names.holding(words);
  const exact = longer.filter((name) => name.words.length === words.length);
  const close = [...longer, ...names.within(words)].filter((name) => Math.min(name.words.length, words.length) >= 2);
  const sides = new Set((exact.length > 0 ? exact : close).flatMap((name) => [...name.sides]));
  return sides.size === 1 ? [...sides][0]! : 'unknown';
}

type KnownName = { words: readonly string[]; sides: Set<Side> };

/** Each name once, with the sides of all who bear it. */
function namesOf(people: readonly Person[]): KnownName[] {
  const names = new Map<string, KnownName>();
  for (const { words, attendee } of people) {
    const folded = foldWords(words);
    const name = names.get(folded) ?? { words, sides: new Set() };
    names.set(folded, name);
    name.sides.add(attendee.side);
  }
  return [...names.values()];
}

type Person = { source: ReadaiPerson; attendee: Attendee; words: readonly string[]; hasName: boolean };

/** The participants and the owner, each with the words of the name, which are made once. */
function rosterOf(meeting: ReadaiMeetingWebhook, internalDomains: readonly string[]): Person[] {
  const { participants, owner } = meeting;
  const people = [...participants.slice(0, PEOPLE_MAX), ...(owner ? [owner] : [])].map((source) => {
    const name = nameOfPerson(source);
    return { source, name, words: wordsOf(name ?? '') };
  });
  const emails = new Map<string, Set<string>>();
  for (const { source, words } of people) {
    const folded = foldWords(words);
    if (!emails.has(folded)) emails.set(folded, new Set());
    if (isEmail(source.email)) emails.get(folded)!.add(normalizeEmail(source.email));
  }
  return people.map(({ source, name, words }) => {
    const email = isEmail(source.email) ? normalizeEmail(source.email) : emailOfNamesake(words, emails);
    const shown = name ?? email ?? 'Somebody without a name';
    const side = sideOf(email, meeting, internalDomains);
    return {
      source,
      attendee: { name: shown, ...(email !== undefined && { email }), side },
      words: name === undefined ? wordsOf(shown) : words,
      hasName: name !== undefined,
    };
  });
}

/** Of the only other entry with exactly this name. */
function emailOfNamesake(
  words: readonly string[],
  emails: ReadonlyMap<string, ReadonlySet<string>>,
): string | undefined {
  const found = words.length < 2 ? undefined : emails.get(foldWords(words));
  return found?.size === 1 ? [...found][0] : undefined;
}

function countUnseen({ participants }: ReadaiMeetingWebhook): number {
  return Math.max(0, participants.length - PEOPLE_MAX);
}

function isEmail(text: string | undefined): text is string {
  return text !== undefined && text.length <= 254 && /^[^\s@]+@[^\s@]+$/.test(text);
}

function nameOfPerson({ name, first_name, last_name }: ReadaiPerson): string | undefined {
  const full = name ?? [first_name, last_name].filter((part) => part !== undefined).join(' ');
  return clipLine(full, NAME_MAX) || undefined;
}

function speakersOf({ transcript }: ReadaiMeetingWebhook): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { speaker, words } of transcript?.speaker_blocks ?? []) {
    const name = words === undefined ? '' : clipLine(speaker?.name ?? '', NAME_MAX);
    if (name !== '') names.add(name);
    if (names.size === SPEAKERS_MAX) break;
  }
  return names;
}
