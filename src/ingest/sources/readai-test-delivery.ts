/**
 * The dashboard's "Send test request" posts a signed dummy that looks like a meeting. It has to be told from a real one
 * before anything becomes a lead, and before the schema: one dummy has no meeting id at all.
 */
import { lastSegment } from '../../lib/uri.js';
import { isRecord } from './source.js';

const PLACEHOLDER_SESSION = 'SESSIONID';
const PLACEHOLDER_NAME = /^participant (one|two)$/i;
const PLACEHOLDER_EMAIL = /^participant[ ._-]?(one|two)@company\.com$/i;
const PLACEHOLDER_DOMAIN = /@company\.com$/i;

export function isTestDelivery(body: Record<string, unknown>): boolean {
  const hasNoMeeting = isAbsent(body.session_id) && isAbsent(body.meeting_id);
  const isPlaceholder = [body.session_id, body.meeting_id].includes(PLACEHOLDER_SESSION);
  const reportId = lastSegment(textOf(body.report_url) ?? '');
  return hasNoMeeting || isPlaceholder || reportId === PLACEHOLDER_SESSION || hasOnlyPlaceholders(body.participants);
}

/** The text, where it is one that says something: blank, and the "None" of older deliveries, are nothing. */
export function textOf(value: unknown): string | undefined {
  const text = typeof value === 'string' ? value.trim() : '';
  return text === '' || /^(none|null)$/i.test(text) ? undefined : text;
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'string' && textOf(value) === undefined);
}

function hasOnlyPlaceholders(participants: unknown): boolean {
  if (!Array.isArray(participants) || participants.length === 0) return false;
  const people = participants.filter(isRecord);
  return (
    people.length === participants.length &&
    people.every(isPlaceholder) &&
    people.some(({ email }) => PLACEHOLDER_DOMAIN.test(textOf(email) ?? ''))
  );
}

/** The second of the two has no email in some dummies. */
function isPlaceholder(person: Record<string, unknown>): boolean {
  const email = textOf(person.email);
  const name = textOf(person.name) ?? `${textOf(person.first_name) ?? ''} ${textOf(person.last_name) ?? ''}`;
  if (email !== undefined && PLACEHOLDER_EMAIL.test(email)) return true;
  return PLACEHOLDER_NAME.test(name) && (email === undefined || PLACEHOLDER_DOMAIN.test(email));
}
