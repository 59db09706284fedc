/** Stories of a few leads as `crm-sync` hears them: bookings, moves, cancellations, no-shows and meetings, in the order in which they happened. */
import type { CrmEvent } from '../../src/consumers/crm-sync/lead-facts.js';
import type { LeadEnriched, MeetingSummarized } from '../../src/lib/events.js';
import type { Random } from '../faults/harness/random.js';

export const STORY_EMAILS = ['ada@brightwater.example', 'bob@acme.example', 'cleo@gmail.com'];

const COMPANIES = ['Brightwater', 'Brightwater Inc', 'Acme', 'Acme Ltd'];
const NAMES = [
  ['Ada', 'Byron'],
  ['Ada', 'Lovelace'],
  ['Bob', 'Stone'],
  [undefined, 'Cleo'],
] as const;
const PHONES = ['+1 404 555 0001', '+1 404 555 0002', `+${'9'.repeat(40)}`];
const INDUSTRIES = ['Education', 'Healthcare', 'no such industry'];
const START_MS = Date.parse('2026-11-02T09:00:00Z');

type Booking = { id: string; email: string; startsAt: string };

/** `count` events, in order; ties in time are among them. */
export function tellStory(random: Random, count: number): CrmEvent[] {
  const events: CrmEvent[] = [];
  const bookings: Booking[] = [];
  const meetings: { id: string; happenedAt: string; attendees: MeetingSummarized['attendees']; revision: number }[] =
    [];
  let atMs = START_MS;
  let made = 0;

  const nextAt = () => {
    // Several things happen in one moment now and then.
    if (random.chance(0.8)) atMs += random.int(0, 7_200_000);
    return new Date(atMs).toISOString();
  };
  const maybe = <T>(chance: number, value: T): T | undefined => (random.chance(chance) ? value : undefined);
  const add = (event: Pick<CrmEvent, 'type' | 'key' | 'data'>) => {
    made += 1;
    const [stream, source] =
      event.type === 'lead.enriched' ? (['enriched', 'calendly'] as const) : (['summarized', 'readai'] as const);
    const id = `${1_790_000_000_000 + made}-0`;
    events.push({ ...event, id: `${stream}-${id}`, at: '', cause: `${source}-${id}`, fields: {} } as CrmEvent);
  };
  const enriched = (name: string, { kind, booking }: Pick<LeadEnriched, 'kind' | 'booking'>, email: string) => {
    const [firstName, lastName] = random.pick(NAMES);
    const facts = definedOnly({
      firstName: maybe(0.7, firstName),
      lastName: maybe(0.7, lastName),
      company: maybe(0.5, random.pick(COMPANIES)),
      phone: maybe(0.4, random.pick(PHONES)),
      industry: maybe(0.2, random.pick(INDUSTRIES)),
      leadSource: 'Calendly',
    });
    const guessed = definedOnly({
      company: maybe(0.5, random.pick(COMPANIES)),
      jobTitle: maybe(0.5, random.pick(['COO', 'CTO'])),
      industry: maybe(0.5, random.pick(INDUSTRIES)),
    });
    const by = { model: 'm', prompt: 'p', tokens: { prompt: 1, output: 1, thoughts: 0 } };
    const data: LeadEnriched = {
      ...{ kind, happenedAt: nextAt(), email, facts },
      ...(random.chance(0.5) && { assessment: { by, facts: guessed, fit: random.pick(['strong', 'fair'] as const) } }),
      ...(booking !== undefined && { booking }),
    };
    add({ type: 'lead.enriched', key: `calendly:${name}`, data });
  };
  const startsAt = () => new Date(atMs + random.int(0, 20 * 86_400_000) - 2 * 86_400_000).toISOString();

  const steps: (() => void)[] = [
    () => {
      const booking = { id: `b${made}`, email: random.pick(STORY_EMAILS), startsAt: startsAt() };
      bookings.push(booking);
      const { email, ...own } = booking;
      enriched(`invitee.created:${own.id}`, { kind: 'booked', booking: own }, email);
    },
    () => {
      const old = random.pick(bookings);
      if (old === undefined) return;
      const moved = { id: `b${made}`, email: old.email, startsAt: startsAt() };
      const { email, ...own } = moved;
      const canceled = { id: old.id, startsAt: old.startsAt, canceledBy: email };
      const halves = [
        () => enriched(`invitee.canceled:${old.id}:moved`, { kind: 'moved_away', booking: canceled }, email),
        () =>
          enriched(`invitee.created:${own.id}`, { kind: 'rescheduled', booking: { ...own, replaces: old.id } }, email),
      ];
      for (const tell of random.shuffle(halves)) tell();
      bookings.splice(bookings.indexOf(old), 1, moved);
    },
    () => {
      const old = random.pick(bookings);
      if (old === undefined) return;
      const { email, ...own } = old;
      enriched(`invitee.canceled:${own.id}`, { kind: 'canceled', booking: { ...own, reason: 'Ill' } }, email);
      bookings.splice(bookings.indexOf(old), 1);
    },
    () => {
      const old = random.pick(bookings);
      if (old === undefined) return;
      const { email, ...own } = old;
      const kind = random.pick(['no_show', 'no_show_undone'] as const);
      enriched(`invitee_no_show:${own.id}:${made}`, { kind, booking: own }, email);
    },
    () =>
      enriched(
        `routing_form_submission.created:f${made}`,
        { kind: 'routed', booking: { id: `f${made}` } },
        random.pick(STORY_EMAILS),
      ),
    () => {
      const emails = random.shuffle(STORY_EMAILS).slice(0, random.int(1, 3));
      const attendees = emails.map((email) => ({
        name: random.pick(['Ada B.', 'Bob', '']),
        email,
        side: 'external' as const,
      }));
      meetings.push({ id: `m${made}`, happenedAt: nextAt(), attendees, revision: 0 });
      meet(meetings.at(-1)!);
    },
    () => {
      const meeting = random.pick(meetings);
      if (meeting !== undefined) meet(meeting);
    },
  ];

  function meet(meeting: (typeof meetings)[number]): void {
    meeting.revision += 1;
    const { id, happenedAt, attendees, revision } = meeting;
    const pain = { text: `pain of ${id}.${revision}`, quote: 'it hurts', speaker: 'Ada', status: 'confirmed' as const };
    const data: MeetingSummarized = {
      ...{
        meetingId: id,
        revision,
        happenedAt,
        title: 'Demo',
        attendees,
        summary: `What ${id} was about, ${revision}.`,
      },
      ...(random.chance(0.5) && { meddic: { identifiedPain: pain } }),
    };
    add({
      type: 'meeting.summarized',
      key: `readai:meeting_completed:${id}${revision === 1 ? '' : `:r${revision}`}`,
      data,
    });
  }

  while (events.length < count) random.pick(steps)();
  return events;
}

function definedOnly<T extends Record<string, unknown>>(given: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
