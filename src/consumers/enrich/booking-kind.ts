/** What a Calendly event means for a lead, and whether a model is worth asking about it. */
import type { LeadEnriched } from '../../lib/events.js';
import type { CalendlyInviteeWebhook, CalendlyRoutingFormWebhook } from '../../lib/payloads/calendly.js';

export type BookingKind = LeadEnriched['kind'];

/**
 * A moved booking comes as two events in any order: `invitee.canceled` with `rescheduled`, which is no cancellation, and
 * `invitee.created` with `old_invitee`, which is no second booking.
 * Source: developer.calendly.com, "See how webhook payloads change when invitees reschedule events".
 */
export function bookingKind(webhook: CalendlyInviteeWebhook | CalendlyRoutingFormWebhook): BookingKind {
  switch (webhook.event) {
    case 'invitee.created':
      return webhook.payload.old_invitee === undefined ? 'booked' : 'rescheduled';
    case 'invitee.canceled':
      return webhook.payload.rescheduled || webhook.payload.new_invitee !== undefined ? 'moved_away' : 'canceled';
    case 'invitee_no_show.created':
      return 'no_show';
    case 'invitee_no_show.deleted':
      return 'no_show_undone';
    case 'routing_form_submission.created':
      return 'routed';
  }
}

const BRINGS_SOMETHING_NEW: ReadonlySet<BookingKind> = new Set(['booked', 'rescheduled', 'routed']);

/** A booking or a form says who somebody is; what comes later only says what became of it. */
export function bringsSomethingNew(kind: BookingKind): boolean {
  return BRINGS_SOMETHING_NEW.has(kind);
}

/** Only what tells something new of somebody who could be a lead is shown to a model. */
export function isWorthAssessing(lead: Pick<LeadEnriched, 'kind' | 'email' | 'internal'>): boolean {
  return bringsSomethingNew(lead.kind) && lead.email !== undefined && !lead.internal;
}
