/** Calendly: bookings, cancellations, no-shows and routing forms. Source: developer.calendly.com "Webhook Payload". */
import type { IncomingHttpHeaders } from 'node:http';
import {
  type CalendlyInviteeWebhook,
  type CalendlyRoutingFormWebhook,
  calendlyInviteeWebhook,
  calendlyRoutingFormWebhook,
} from '../../lib/payloads/calendly.js';
import { lastSegment } from '../../lib/uri.js';
import { hashContent } from '../content-hash.js';
import { type CalendlyCheck, checkCalendlySignature, judgeCalendlyHeader } from './calendly-signature.js';
import { describeIssues, invalid, isRecord, isUsableId, type Reading, type Source } from './source.js';

type CalendlyWebhook = CalendlyInviteeWebhook | CalendlyRoutingFormWebhook;

export function makeCalendly(check: CalendlyCheck): Source {
  return {
    name: 'calendly',
    path: '/webhooks/calendly',
    isVerifiable: check.signingKeys.length > 0,
    settings: ['CALENDLY_SIGNING_KEY'],
    judgeHeaders: (headers, now) => judgeCalendlyHeader(signatureIn(headers), check, now),
    checkAuthenticity: (rawBody, headers, now) => checkCalendlySignature(rawBody, signatureIn(headers), check, now),
    read: readCalendly,
  };
}

function signatureIn(headers: IncomingHttpHeaders): string | undefined {
  const header = headers['calendly-webhook-signature'];
  return Array.isArray(header) ? header.join(',') : header;
}

function readCalendly(json: unknown, rawBody: Buffer): Reading {
  if (!isRecord(json)) return invalid('', 'should be an object');
  if (typeof json.event !== 'string') return invalid('event', 'should name the event');
  const schema = schemaOf(json.event);
  if (schema === undefined) return { kind: 'ignored', reason: 'unhandled_type' };
  const parsed = schema.safeParse(json);
  if (!parsed.success) return { kind: 'invalid', issues: describeIssues(parsed.error) };

  const webhook: CalendlyWebhook = parsed.data;
  const externalId = findExternalId(webhook);
  if (!isUsableId(externalId)) return invalid('payload.uri', 'should end in an id');
  return {
    kind: 'event',
    source: 'calendly',
    type: `calendly.${webhook.event}`,
    key: `calendly:${webhook.event}:${externalId}`,
    contentHash: hashContent(json.payload),
    otherContent: 'kept',
    requestId: undefined,
    data: rawBody,
  };
}

/** `undefined` for an event that this service has no use for; a subscription may send any. */
function schemaOf(event: string) {
  if (event === 'routing_form_submission.created') return calendlyRoutingFormWebhook;
  return calendlyInviteeWebhook.shape.event.safeParse(event).success ? calendlyInviteeWebhook : undefined;
}

/**
 * The invitee's id, never the scheduled event's: a group event shares that between its invitees. A no-show may be marked,
 * taken back and marked again, so it has an id of its own.
 */
function findExternalId(webhook: CalendlyWebhook): string {
  const id = lastSegment(webhook.payload.uri);
  if (webhook.event !== 'invitee_no_show.created' && webhook.event !== 'invitee_no_show.deleted') return id;
  const { no_show, updated_at } = webhook.payload;
  return no_show?.uri === undefined ? `${id}:${updated_at ?? webhook.created_at}` : lastSegment(no_show.uri);
}
