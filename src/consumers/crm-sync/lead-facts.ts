/** What one event says of a lead, in our own field names, each with its quality and its place in the lead's order. */
import { domainOf, isPersonalDomain, isRoleAddress, localPartOf, normalizeEmail } from '../../lib/email-address.js';
import type { LeadEnriched, LeadField, MeddicElement, StoredEvent } from '../../lib/events.js';
import type { LeadState, Quality } from '../../lib/lead-state.js';
import { bringsSomethingNew } from '../enrich/booking-kind.js';
import { NO_CAMPAIGN } from '../enrich/lead-source.js';
import { nameOf } from '../enrich/names.js';
import { bookingDescription } from './note-text.js';

export type Fact = { field: LeadField; value: string; quality: Quality };

export type CrmEvent = StoredEvent<'lead.enriched'> | StoredEvent<'meeting.summarized'>;

/** What an event says of one lead. */
export type LeadFacts = {
  event: CrmEvent;
  email: string;
  /** Sorts a lead's events by when they happened; see `orderOf`. */
  order: string;
  facts: Fact[];
  /** By booking: its state and start. */
  bookings?: Record<string, [state: string, startsAt: string]>;
  /** Addresses that the event came with and the lead no longer bears, and what was known of it under them. */
  former?: { email: string; known: LeadState }[];
};

/** Everything that an event says, lead by lead: none for colleagues and for people without an address. */
export function factsOf(event: CrmEvent): LeadFacts[] {
  return event.type === 'lead.enriched' ? factsOfBooking(event) : factsOfMeeting(event);
}

/** What fills the mandatory fields of a lead that is new to the CRM, where nothing better is known. */
export function standInFacts(email: string): Fact[] {
  const domain = domainOf(email);
  const company: Fact[] =
    isPersonalDomain(domain) || isRoleAddress(email) ? [] : [{ field: 'company', value: domain, quality: 0 }];
  return [{ field: 'lastName', value: localPartOf(email), quality: 0 }, ...company];
}

/**
 * Orders a lead's events by when they happened, not by when they came: time by the sender's clock; in a tie the old half
 * of a moved booking first and a cancellation after its booking, and of a meeting the lower revision first; then the id of the
 * webhook's entry. As text it sorts like the order itself.
 */
export function orderOf(event: CrmEvent): string {
  const rank = event.type === 'meeting.summarized' ? rankOfRevision(event.data.revision) : RANKS[event.data.kind];
  const [ms = '0', sequence = '0'] = (event.cause ?? event.id).split('-').slice(1);
  return `${toMicros(event.data.happenedAt)}.${rank}.${Number(ms).toString(36)}.${Number(sequence).toString(36).padStart(3, '0')}`;
}

/** After those of bookings. */
function rankOfRevision(revision: number): string {
  return `4${revision.toString(36).padStart(3, '0')}`;
}

/** The id of the webhook's entry in an order, within its stream. */
export function entryOf(order: string): string {
  const [, , ms = '0', sequence = '0'] = order.split('.');
  return `${Number.parseInt(ms, 36)}-${Number.parseInt(sequence, 36)}`;
}

/** The time in an order, ms since 1970. */
export function timeOf(order: string): number {
  return Number.parseInt(order, 36) / 1000;
}

const RANKS: Record<LeadEnriched['kind'], number> = {
  moved_away: 0,
  booked: 1,
  rescheduled: 1,
  routed: 1,
  canceled: 2,
  no_show: 3,
  no_show_undone: 3,
};

/** Microseconds since 1970 as eleven base-36 digits: Calendly's times are that fine. */
function toMicros(instant: string): string {
  const ms = Date.parse(instant);
  const micros = Number(/\.\d{3}(\d{3})/.exec(instant)?.[1] ?? 0);
  return (Number.isNaN(ms) ? 0 : ms * 1000 + micros).toString(36).padStart(11, '0');
}

function factsOfBooking(event: StoredEvent<'lead.enriched'>): LeadFacts[] {
  const { data } = event;
  if (data.email === undefined || data.internal || data.kind === 'moved_away') return [];
  const isNew = bringsSomethingNew(data.kind);
  // What became of a booking comes with what was said when it was made: a later booking may have said better.
  const given = toFacts(data.facts, isNew ? 2 : 1).map(
    (fact): Fact => (fact.field === 'leadSource' && fact.value === NO_CAMPAIGN ? { ...fact, quality: 1 } : fact),
  );
  const assessed = toFacts(data.assessment?.facts ?? {}, 1).filter(({ field }) => !(field in data.facts));
  const description: Fact[] = isNew ? [{ field: 'description', value: bookingDescription(event), quality: 2 }] : [];
  return [
    {
      event,
      email: normalizeEmail(data.email),
      order: orderOf(event),
      facts: [...given, ...assessed, ...description],
      ...bookingsOf(data),
    },
  ];
}

/** A last name without a first one may be all of a name or either half: a whole name is better, whoever tells it. */
function toFacts(facts: LeadEnriched['facts'], quality: Quality): Fact[] {
  const half = quality === 2 ? 0.75 : 0.5;
  const isHalf = (field: string) => field === 'lastName' && !facts.firstName;
  return Object.entries(facts).flatMap(([name, value]) => {
    const field = name as keyof LeadEnriched['facts'];
    return value === undefined || value === '' ? [] : [{ field, value, quality: isHalf(field) ? half : quality }];
  });
}

/** The new half of a moved booking also ends the old one, whatever becomes of the other half. */
function bookingsOf({ kind, booking }: LeadEnriched): Pick<LeadFacts, 'bookings'> {
  const state = BOOKING_STATES[kind];
  if (booking === undefined || state === undefined) return {};
  const moved = booking.replaces === undefined ? {} : { [booking.replaces]: ['moved', ''] as [string, string] };
  return { bookings: { ...moved, [booking.id]: [state, booking.startsAt ?? ''] } };
}

const BOOKING_STATES: Partial<Record<LeadEnriched['kind'], string>> = {
  booked: 'booked',
  rescheduled: 'booked',
  canceled: 'canceled',
  no_show: 'no_show',
  no_show_undone: 'booked',
};

function factsOfMeeting(event: StoredEvent<'meeting.summarized'>): LeadFacts[] {
  const { data } = event;
  if (data.skip !== undefined) return [];
  const byEmail = new Map<string, LeadFacts>();
  for (const { name, email, side } of data.attendees) {
    if (side !== 'external' || email === undefined) continue;
    const address = normalizeEmail(email);
    // A display name is no more than a hint: what a person typed into a form is better.
    const facts = [...toFacts(nameOf({ first: undefined, last: undefined, full: name }), 1), ...meddicFacts(event)];
    byEmail.set(address, { event, email: address, order: orderOf(event), facts });
  }
  return [...byEmail.values()];
}

/** Only what a customer's own words confirm may stand in a CRM field; the rest is in the note, marked as such. */
function meddicFacts({ data }: StoredEvent<'meeting.summarized'>): Fact[] {
  return Object.entries(data.meddic ?? {}).flatMap(([element, finding]) =>
    finding?.status === 'confirmed'
      ? [{ field: `meddic.${element as MeddicElement}` as const, value: finding.text, quality: 1 as const }]
      : [],
  );
}
