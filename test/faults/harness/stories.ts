/**
 * Webhooks of invented leads: bookings, cancellations, moves, no-shows, meetings and their revisions. Each is a fact with a
 * time of its own, so that it is known how the CRM must look in the end whatever the order of arrival.
 */
import { booking, report } from '../../helpers/webhooks.js';
import type { Random } from './random.js';

export type StoryKind = 'booked' | 'canceled' | 'moved' | 'no_show' | 'meeting' | 'revision';

/** One webhook, ready to be sent any number of times. */
export type Delivery = {
  source: 'calendly' | 'readai';
  kind: StoryKind | 'moved_away';
  /** The idempotency key; of a meeting that of its first revision. */
  key: string;
  email: string;
  /** By the sender's clock, ISO 8601. */
  happenedAt: string;
  body: string;
};

export type StoryOptions = {
  /** How many people they are about [20]. */
  leads?: number;
  /** How often each kind comes, relative to the others. */
  mix?: Partial<Record<StoryKind, number>>;
  /** Laid over the payload of a Calendly webhook, over the whole of a Read.ai one; for poison and the like. */
  alter?: (delivery: Omit<Delivery, 'body'>, body: Record<string, unknown>) => void;
};

export type Stories = {
  /** The next webhook; a move comes as two. */
  next: (kind?: StoryKind) => Delivery[];
  /** So many webhooks, in the order in which they happened. */
  take: (count: number) => Delivery[];
};

type Booking = { id: string; uri: string; startsAt: string };
type Lead = {
  email: string;
  name: string;
  company: string;
  bookings: Booking[];
  meetings: { id: string; pushes: number }[];
};

const MIX: Record<StoryKind, number> = { booked: 50, canceled: 8, moved: 8, no_show: 4, meeting: 24, revision: 6 };
const NAMES = ['Ada Byron', 'Grace Hopper', 'Alan Kay', 'Barbara Liskov', 'Edsger Dijkstra', 'Radia Perlman'];
const START = Date.parse('2026-11-02T09:00:00Z');
const FAR_AHEAD = Date.parse('2031-03-03T09:00:00Z');

export function makeStories(random: Random, options: StoryOptions = {}): Stories {
  const leads = Array.from({ length: options.leads ?? 20 }, (_, n) => makeLead(random, n));
  const mix = { ...MIX, ...options.mix };
  let clock = START;
  let starts = 0;

  const tick = () => {
    clock += random.int(1, 30_000);
    return new Date(clock).toISOString().replace('Z', '000Z');
  };

  function next(kind: StoryKind = pickKind(random, mix)): Delivery[] {
    const lead = random.pick(leads);
    const standing = lead.bookings.length > 0 ? random.pick(lead.bookings) : undefined;
    if (kind === 'revision' && lead.meetings.length > 0) return [push(lead, random.pick(lead.meetings))];
    if (kind === 'meeting' || kind === 'revision') return [push(lead, newMeeting(lead))];
    if (kind === 'booked' || standing === undefined) return [book(lead)];
    lead.bookings = lead.bookings.filter((other) => other !== standing);
    if (kind === 'moved') return move(lead, standing);
    return [kind === 'no_show' ? miss(lead, standing) : cancel(lead, standing)];
  }

  function newBooking(lead: Lead): Booking {
    const id = random.id('inv');
    starts += 1;
    const startsAt = new Date(FAR_AHEAD + starts * 3_600_000).toISOString();
    const made = { id, startsAt, uri: `https://api.calendly.com/scheduled_events/${random.id('ev')}/invitees/${id}` };
    lead.bookings.push(made);
    return made;
  }

  function newMeeting(lead: Lead) {
    const made = { id: random.id('MEET').toUpperCase(), pushes: 0 };
    lead.meetings.push(made);
    return made;
  }

  function calendly(
    lead: Lead,
    of: Booking,
    about: { event: string; kind: Delivery['kind']; id?: string; payload?: Record<string, unknown> },
  ): Delivery {
    const happenedAt = tick();
    const [first, last] = lead.name.split(' ');
    const body = booking(
      {
        ...{ uri: of.uri, email: lead.email, name: lead.name, first_name: first, last_name: last },
        questions_and_answers: [
          { question: 'Company', answer: `${lead.company} ${happenedAt.slice(0, 23)}`, position: 0 },
        ],
        scheduled_event: {
          uri: of.uri.replace(/\/invitees.*/, ''),
          name: `Demo ${of.id}`,
          start_time: of.startsAt,
          event_memberships: [{ user_email: 'rep@seller.example', user_name: 'Rob Rep' }],
        },
        ...about.payload,
      },
      { event: about.event, created_at: happenedAt },
    );
    const key = `calendly:${about.event}:${about.id ?? of.id}`;
    return finish({ source: 'calendly', kind: about.kind, key, email: lead.email, happenedAt }, body);
  }

  const book = (lead: Lead) => calendly(lead, newBooking(lead), { event: 'invitee.created', kind: 'booked' });

  function cancel(lead: Lead, of: Booking): Delivery {
    const cancellation = { canceled_by: lead.name, reason: 'Something came up', canceler_type: 'invitee' };
    const payload = { status: 'canceled', rescheduled: false, cancellation };
    return calendly(lead, of, { event: 'invitee.canceled', kind: 'canceled', payload });
  }

  function miss(lead: Lead, of: Booking): Delivery {
    const id = random.id('ns');
    const payload = { no_show: { uri: `https://api.calendly.com/invitee_no_shows/${id}` } };
    return calendly(lead, of, { event: 'invitee_no_show.created', kind: 'no_show', id, payload });
  }

  function move(lead: Lead, old: Booking): Delivery[] {
    const payload = { old_invitee: old.uri };
    const fresh = newBooking(lead);
    const toNew = { new_invitee: fresh.uri, status: 'canceled', rescheduled: true };
    const away = calendly(lead, old, { event: 'invitee.canceled', kind: 'moved_away', payload: toNew });
    return [away, calendly(lead, fresh, { event: 'invitee.created', kind: 'moved', payload })];
  }

  function push(lead: Lead, meeting: { id: string; pushes: number }): Delivery {
    meeting.pushes += 1;
    const happenedAt = tick();
    const title = `Call ${meeting.id} push ${meeting.pushes}`;
    const body = report({
      ...{ session_id: meeting.id, title, request_id: random.id('REQ'), end_time: happenedAt },
      report_url: `https://app.read.ai/analytics/meetings/${meeting.id}`,
      participants: [
        { name: lead.name, email: lead.email },
        { name: 'Rob Rep', email: 'rep@seller.example' },
      ],
    });
    const kind = meeting.pushes === 1 ? 'meeting' : 'revision';
    const key = `readai:meeting_completed:${meeting.id}`;
    return finish({ source: 'readai', kind, key, email: lead.email, happenedAt }, body);
  }

  function finish(delivery: Omit<Delivery, 'body'>, body: Record<string, unknown>): Delivery {
    options.alter?.(delivery, body);
    return { ...delivery, body: JSON.stringify(body) };
  }

  return {
    next,
    take(count) {
      const taken: Delivery[] = [];
      while (taken.length < count) taken.push(...next());
      return taken;
    },
  };
}

function makeLead(random: Random, n: number): Lead {
  const name = NAMES[n % NAMES.length]!;
  const tag = random.id('c');
  const email = `${name.toLowerCase().replace(' ', '.')}@${tag}.example`;
  return { email, name, company: `Company ${tag}`, bookings: [], meetings: [] };
}

function pickKind(random: Random, mix: Record<StoryKind, number>): StoryKind {
  const kinds = Object.entries(mix) as [StoryKind, number][];
  let left = random.next() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [kind, weight] of kinds) {
    left -= weight;
    if (left < 0) return kind;
  }
  return 'booked';
}
