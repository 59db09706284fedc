/**
 * What a salesperson needs to know of a booking. Whoever holds its links can cancel it or walk in, so cancel and
 * reschedule links, join links and meeting passwords stay behind.
 */
import { clipLine, clipText } from '../../lib/clip.js';
import type { LeadEnriched } from '../../lib/events.js';
import type { CalendlyInviteeWebhook, CalendlyRoutingFormWebhook } from '../../lib/payloads/calendly.js';
import { lastSegment } from '../../lib/uri.js';
import type { Answer } from './questions.js';

type Booking = NonNullable<LeadEnriched['booking']>;
type Invitee = CalendlyInviteeWebhook['payload'];

const LINE_MAX = 200;
const ANSWER_MAX = 500;
const ANSWERS_MAX = 10;

export function bookingOfInvitee({ event, payload }: CalendlyInviteeWebhook): Booking {
  const { scheduled_event: scheduled } = payload;
  return compact({
    id: idOf(payload.uri),
    replaces: payload.old_invitee === undefined ? undefined : idOf(payload.old_invitee),
    name: line(scheduled?.name),
    startsAt: line(scheduled?.start_time),
    timezone: line(payload.timezone),
    host: hostsOf(payload),
    place: placeOf(payload),
    ...(event === 'invitee.canceled' && cancellationOf(payload)),
    answers: boundAnswers(payload.questions_and_answers),
  });
}

export function bookingOfRoutingForm({ payload }: CalendlyRoutingFormWebhook): Booking {
  return compact({ id: idOf(payload.uri), answers: boundAnswers(payload.questions_and_answers) });
}

type Loose<T> = { [K in keyof T]: T[K] | undefined };

function compact(booking: Loose<Booking>): Booking {
  return Object.fromEntries(Object.entries(booking).filter(([, value]) => value !== undefined)) as Booking;
}

function line(text: string | undefined): string | undefined {
  return clipLine(text ?? '', LINE_MAX) || undefined;
}

function idOf(uri: string): string {
  return clipLine(lastSegment(uri), LINE_MAX);
}

function hostsOf({ scheduled_event: scheduled }: Invitee): string | undefined {
  const hosts = scheduled?.event_memberships ?? [];
  return line(hosts.flatMap(({ user_name, user_email }) => user_name ?? user_email ?? []).join(', '));
}

/** By `location.type` of developer.calendly.com's "Webhook Payload". A map, as `constructor` is no place. */
const PLACES = new Map([
  ['zoom', 'Zoom'],
  ['zoom_conference', 'Zoom'],
  ['google_conference', 'Google Meet'],
  ['microsoft_teams_conference', 'Microsoft Teams'],
  ['webex_conference', 'Webex'],
  ['gotomeeting', 'GoToMeeting'],
  ['gotomeeting_conference', 'GoToMeeting'],
  ['outbound_call', 'Phone call'],
  ['inbound_call', 'Phone call'],
]);

const OPENS_A_DOOR = /:\/\/|\bwww\.|\b[\w-]+\.(us|com|net|io)\/|pass(word|code)|\bpwd\b|\bpin\b|\bcode\b/i;

function placeOf({ scheduled_event: scheduled }: Invitee): string | undefined {
  const { type, location } = scheduled?.location ?? {};
  const known = PLACES.get(type ?? '');
  if (known !== undefined || location === undefined) return known;
  // Cut first, as the pattern takes the square of the length; what is cut off is not shown either.
  return OPENS_A_DOOR.test(location.slice(0, 2 * LINE_MAX)) ? 'Online' : line(location);
}

function cancellationOf(payload: Invitee): Pick<Loose<Booking>, 'reason' | 'canceledBy'> {
  const { reason, canceled_by, canceler_type } = payload.cancellation ?? payload.scheduled_event?.cancellation ?? {};
  const by = line(canceled_by);
  return {
    reason: clipText(reason ?? '', ANSWER_MAX) || undefined,
    canceledBy: by !== undefined && canceler_type !== undefined ? `${by} (${clipLine(canceler_type, 20)})` : by,
  };
}

function boundAnswers(answers: readonly Answer[]): Booking['answers'] {
  const given = answers.flatMap(({ question, answer }) => {
    const text = clipText(answer ?? '', ANSWER_MAX);
    return text === '' ? [] : [{ question: clipLine(question ?? '', LINE_MAX), answer: text }];
  });
  return given.length === 0 ? undefined : given.slice(0, ANSWERS_MAX);
}
