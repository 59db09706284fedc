/** What the `alert` group hears, and the entries behind it. */
import type {
  EventFailed,
  LeadEnriched,
  MeetingSummarized,
  ProviderHealth,
  StoredEvent,
} from '../../src/lib/events.js';

let count = 0;

function nextId(stream: string): string {
  count += 1;
  return `${stream}-${1_763_900_000_000 + count}-0`;
}

export function failedEvent(
  {
    code = 'zoho_invalid_data',
    message = 'Zoho refused it',
    ...data
  }: Partial<EventFailed> & { code?: string; message?: string } = {},
  at = '2026-11-23T12:13:20.000Z',
): StoredEvent<'event.failed'> {
  const eventId = data.eventId ?? nextId('enriched');
  const key = data.key ?? 'calendly:invitee.created:abc';
  return {
    ...{ id: nextId('failed'), type: 'event.failed', key, at, cause: eventId, fields: {} },
    data: {
      eventId,
      stream: 'events:enriched',
      group: 'crm-sync',
      key,
      attempts: 6,
      error: { code, message },
      ...data,
    },
  };
}

export function pausedEvent(
  data: Partial<ProviderHealth> = {},
  at = '2026-11-23T12:00:00.000Z',
): StoredEvent<'provider.paused'> {
  const health: ProviderHealth = { provider: 'zoho', kind: 'outage', reason: 'zoho_unavailable', since: at, ...data };
  const id = nextId('health');
  return {
    id,
    type: 'provider.paused',
    key: `health:${health.provider}:${health.since}`,
    at,
    cause: undefined,
    fields: {},
    data: health,
  };
}

export function resumedEvent({ data }: StoredEvent<'provider.paused'>, at: string): StoredEvent<'provider.resumed'> {
  return {
    id: nextId('health'),
    type: 'provider.resumed',
    key: `health:${data.provider}`,
    at,
    cause: undefined,
    fields: {},
    data,
  };
}

export function enrichedEvent(data: Partial<LeadEnriched> = {}): StoredEvent<'lead.enriched'> {
  return {
    ...{
      id: nextId('enriched'),
      type: 'lead.enriched',
      key: 'calendly:invitee.created:abc',
      at: '2026-11-23T12:13:19.000Z',
    },
    ...{ cause: 'calendly-1763900000000-0', fields: {} },
    data: {
      kind: 'booked',
      happenedAt: '2026-11-23T12:13:00.000000Z',
      email: 'mara@northlight.example',
      facts: { firstName: 'Mara', lastName: 'Lindqvist', company: 'Northlight', phone: '+46 8 555 0199' },
      ...data,
    },
  };
}

export function summarizedEvent(data: Partial<MeetingSummarized> = {}): StoredEvent<'meeting.summarized'> {
  return {
    ...{
      id: nextId('summarized'),
      type: 'meeting.summarized',
      key: 'readai:meeting_completed:01TESTMEETING',
      at: '2026-11-23T12:13:19.000Z',
    },
    ...{ cause: 'readai-1763900000000-0', fields: {} },
    data: {
      meetingId: '01TESTMEETING',
      revision: 1,
      happenedAt: '2026-11-20T15:00:00Z',
      startedAt: '2026-11-20T14:00:00Z',
      title: 'Mock-up review',
      reportUrl: 'https://app.read.ai/analytics/meetings/01TESTMEETING',
      attendees: [
        { name: 'Mara Lindqvist', email: 'mara@northlight.example', side: 'external' },
        { name: 'Jonas Falk', email: 'jonas@northlight.example', side: 'external' },
        { name: 'Priya Nair', email: 'priya@sellers.example', side: 'internal' },
        { name: 'Room 3', side: 'unknown' },
      ],
      summary: 'They review mock-ups by email and want that to stop.',
      ...data,
    },
  };
}
