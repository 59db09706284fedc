/** Webhooks as Calendly and Read.ai send them, about invented people, and their signatures. */
import { createHmac } from 'node:crypto';

export const CALENDLY_KEY = 'calendly-key-of-the-tests';
/** Base64, as Read.ai shows its keys. */
export const READAI_KEY = Buffer.from('thirty-two bytes of a test key!!').toString('base64');

type Json = Record<string, unknown>;

/** An `invitee.created` for Ada; `payload` is laid over hers. */
export function booking(payload: Json = {}, envelope: Json = {}): Json {
  return {
    event: 'invitee.created',
    created_at: '2026-11-02T09:00:01.000000Z',
    created_by: 'https://api.calendly.com/users/SUBSCRIBER',
    ...envelope,
    payload: {
      uri: 'https://api.calendly.com/scheduled_events/EVENT-1/invitees/ADA-1',
      email: 'ada@analytical.example',
      name: 'Ada Lovelace',
      first_name: null,
      last_name: null,
      status: 'active',
      questions_and_answers: [{ question: 'Company', answer: 'Analytical Engines', position: 0 }],
      timezone: 'Europe/London',
      created_at: '2026-11-02T09:00:00.123456Z',
      updated_at: '2026-11-02T09:00:00.223456Z',
      rescheduled: false,
      old_invitee: null,
      new_invitee: null,
      no_show: null,
      scheduled_event: {
        uri: 'https://api.calendly.com/scheduled_events/EVENT-1',
        name: 'Product demo',
        start_time: '2026-11-10T15:00:00.000000Z',
        event_memberships: [{ user_email: 'rep@seller.example', user_name: 'Rob Rep' }],
      },
      ...payload,
    },
  };
}

/** A `meeting_end` of Ada and Rob; `overrides` is laid over it. */
export function report(overrides: Json = {}): Json {
  return {
    session_id: '01ADA0000000000000000000AA',
    trigger: 'meeting_end',
    title: 'Analytical Engines: discovery',
    start_time: '2026-11-10T15:00:00Z',
    end_time: '2026-11-10T15:45:00Z',
    participants: [
      { name: 'Ada Lovelace', first_name: 'Ada', last_name: 'Lovelace', email: 'ada@analytical.example' },
      { name: 'Rob Rep', first_name: 'Rob', last_name: 'Rep', email: 'rep@seller.example' },
    ],
    owner: { name: 'Rob Rep', first_name: 'Rob', last_name: 'Rep', email: 'rep@seller.example' },
    summary: 'Ada wants a pilot.',
    action_items: [{ text: 'Send the contract' }],
    key_questions: [{ text: 'Who signs?' }],
    topics: [{ text: 'Pilot' }],
    report_url: 'https://app.read.ai/analytics/meetings/01ADA0000000000000000000AA',
    chapter_summaries: [{ title: 'Scope', description: 'Three sites.', topics: [] }],
    transcript: {
      speaker_blocks: [{ start_time: '1794322800000', speaker: { name: 'Ada Lovelace' }, words: 'We need a pilot.' }],
      speakers: [{ name: 'Ada Lovelace' }],
    },
    platform: 'meet',
    platform_meeting_id: 'abc-defg-hij',
    request_id: '01REQUEST00000000000000001',
    ...overrides,
  };
}

export function calendlySignature(
  body: string | Buffer,
  { key = CALENDLY_KEY, time = Math.floor(Date.now() / 1000) } = {},
): string {
  return `t=${time},v1=${createHmac('sha256', key).update(`${time}.`).update(body).digest('hex')}`;
}

export function readaiSignature(body: string | Buffer, key = READAI_KEY): string {
  return createHmac('sha256', Buffer.from(key, 'base64')).update(body).digest('hex');
}
