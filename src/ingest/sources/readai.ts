/** Read.ai: the report of a meeting. Source: support.read.ai article 16352415827219. */
import { isInternalMeeting } from '../../lib/colleagues.js';
import { readaiMeetingWebhook } from '../../lib/payloads/readai.js';
import { hashContent } from '../content-hash.js';
import { checkReadaiDelivery, judgeReadaiHeaders, type ReadaiCheck } from './readai-signature.js';
import { isTestDelivery, textOf } from './readai-test-delivery.js';
import { describeIssues, invalid, isRecord, isUsableId, type Reading, type Source } from './source.js';

export type ReadaiOptions = ReadaiCheck & { internalDomains: readonly string[] };

/** `meeting_completed` is what an older service's callers say; they may say it as `event_type`. */
const REPORT_TRIGGERS = new Set(['meeting_end', 'meeting_completed']);

/** What was said, or follows from it: of a meeting among colleagues only, none of it is kept. */
const CONTENT_FIELDS = new Set([
  'transcript',
  'summary',
  'chapter_summaries',
  'action_items',
  'key_questions',
  'topics',
]);

/** Such an id would give a meeting the key of another one's revision. */
const REVISION_SUFFIX = /:r\d+$/;

export function makeReadai({ internalDomains, ...check }: ReadaiOptions): Source {
  return {
    name: 'readai',
    path: '/webhooks/readai',
    isVerifiable: check.signingKeys.length > 0 || check.sharedSecret !== undefined,
    settings: ['READAI_SIGNING_KEY', 'READAI_SHARED_SECRET'],
    judgeHeaders: (headers) => judgeReadaiHeaders(headers, check),
    checkAuthenticity: (rawBody, headers) => checkReadaiDelivery(rawBody, headers, check),
    read: (json, rawBody) => readReadai(json, rawBody, internalDomains),
  };
}

function readReadai(json: unknown, rawBody: Buffer, internalDomains: readonly string[]): Reading {
  if (!isRecord(json)) return invalid('', 'should be an object');
  if (isTestDelivery(json)) return { kind: 'ignored', reason: 'test_delivery' };
  const trigger = textOf(json.trigger) ?? textOf(json.event_type);
  // A body that names no trigger is left to the schema: only an unknown name says that it is something else.
  if (trigger !== undefined && !REPORT_TRIGGERS.has(trigger)) return { kind: 'ignored', reason: 'unhandled_type' };
  const parsed = readaiMeetingWebhook.safeParse(json);
  if (!parsed.success) return { kind: 'invalid', issues: describeIssues(parsed.error) };

  const meeting = parsed.data;
  const meetingId = meeting.session_id ?? meeting.meeting_id ?? '';
  const idField = meeting.session_id === undefined ? 'meeting_id' : 'session_id';
  if (!isUsableId(meetingId)) return invalid(idField, 'should be a short id');
  if (REVISION_SUFFIX.test(meetingId)) return invalid(idField, 'should not end as the key of a revision does');
  const { request_id, ...content } = json;
  return {
    kind: 'event',
    source: 'readai',
    type: 'readai.meeting_completed',
    key: `readai:meeting_completed:${meetingId}`,
    contentHash: hashContent(content),
    otherContent: 'revision',
    requestId: meeting.request_id,
    data: isInternalMeeting(meeting, internalDomains) ? withoutContent(json) : rawBody,
  };
}

function withoutContent(json: Record<string, unknown>): Buffer {
  const kept = Object.entries(json).filter(([name]) => !CONTENT_FIELDS.has(name));
  return Buffer.from(JSON.stringify(Object.fromEntries(kept)));
}
