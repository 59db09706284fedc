/**
 * Who is a colleague, and so never a lead. `INTERNAL_DOMAINS` says it; where that is empty, Calendly's hosts' domain and
 * Read.ai's owner stand in for it.
 */
import { domainOf, isPersonalDomain, normalizeEmail } from './email-address.js';
import type { CalendlyInviteeWebhook } from './payloads/calendly.js';
import type { ReadaiMeetingWebhook, ReadaiPerson } from './payloads/readai.js';

export type Side = 'external' | 'internal' | 'unknown';

export function isInternalDomain(email: string, internalDomains: readonly string[]): boolean {
  return internalDomains.includes(domainOf(email));
}

/** True where the person who booked is a colleague. */
export function isColleagueBooking(webhook: CalendlyInviteeWebhook, internalDomains: readonly string[]): boolean {
  const email = normalizeEmail(webhook.payload.email);
  if (internalDomains.length > 0) return isInternalDomain(email, internalDomains);
  const hosts = (webhook.payload.scheduled_event?.event_memberships ?? []).flatMap(({ user_email }) =>
    user_email === undefined ? [] : [normalizeEmail(user_email)],
  );
  return hosts.some(
    (host) => host === email || (!isPersonalDomain(domainOf(host)) && domainOf(host) === domainOf(email)),
  );
}

/** The side of one participant of a meeting; `unknown` where no email says it. */
export function sideOf(
  email: string | undefined,
  meeting: Pick<ReadaiMeetingWebhook, 'owner'>,
  internalDomains: readonly string[],
): Side {
  if (email === undefined) return 'unknown';
  const address = normalizeEmail(email);
  if (internalDomains.length > 0) return isInternalDomain(address, internalDomains) ? 'internal' : 'external';
  const owner = meeting.owner?.email;
  return owner !== undefined && normalizeEmail(owner) === address ? 'internal' : 'external';
}

/** True only where every participant is known to be a colleague: of such a meeting no content is kept. */
export function isInternalMeeting(
  meeting: Pick<ReadaiMeetingWebhook, 'owner' | 'participants'>,
  internalDomains: readonly string[],
): boolean {
  const people = meeting.participants.filter((participant) => !isMachine(participant));
  return people.length > 0 && people.every(({ email }) => sideOf(email, meeting, internalDomains) === 'internal');
}

/** A room of a calendar, or somebody's note taker: it sits in the meeting and buys nothing. */
export function isMachine({ email, name }: ReadaiPerson): boolean {
  const domain = email === undefined ? '' : domainOf(email);
  if (/(^|\.)(resource|group)\.calendar\.google\.com$/.test(domain)) return true;
  return NOTE_TAKERS.has(domain) && /note ?taker|notes|assistant|\bbot\b|record/i.test(name ?? '');
}

const NOTE_TAKERS = new Set([
  ...['read.ai', 'otter.ai', 'fireflies.ai', 'fathom.video', 'tldv.io'],
  ...['avoma.com', 'gong.io', 'chorus.ai', 'grain.com', 'sembly.ai', 'meetgeek.ai'],
]);
