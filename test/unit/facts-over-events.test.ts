/** What several events say of one lead, one after another and in any order: which of it the CRM holds in the end. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeFieldMap } from '../../src/consumers/crm-sync/field-map.js';
import { type CrmEvent, factsOf } from '../../src/consumers/crm-sync/lead-facts.js';
import { planLead } from '../../src/consumers/crm-sync/plan-lead.js';
import type { LeadEnriched, MeetingSummarized } from '../../src/lib/events.js';
import { addWrote, type LeadState, toSavedValue } from '../../src/lib/lead-state.js';

const test = suite('what several events say of one lead');

const EMAIL = 'jane@brightwater.example';
const fieldMap = makeFieldMap({});

type Kind = LeadEnriched['kind'];
type Attendee = MeetingSummarized['attendees'][number];

function calendly(hour: number, kind: Kind, bookingId: string, facts: LeadEnriched['facts'], startsAt = ''): CrmEvent {
  const data = { kind, happenedAt: at(hour), email: EMAIL, facts, booking: { id: bookingId, startsAt } };
  return { ...common('enriched', hour), type: 'lead.enriched', data };
}

function met(hour: number, attendee: Partial<Attendee>): CrmEvent {
  const attendees = [{ name: '', email: EMAIL, side: 'external' as const, ...attendee }];
  const data = { meetingId: `m${hour}`, revision: 1, happenedAt: at(hour), title: 'Demo', attendees, summary: '' };
  return { ...common('summarized', hour), type: 'meeting.summarized', data };
}

const at = (hour: number) => `2026-11-02T${String(hour).padStart(2, '0')}:00:00Z`;
const common = (stream: string, hour: number) => ({
  ...{ id: `${stream}-${hour}-0`, cause: `${stream}-${hour}-0`, key: `k${hour}`, at: '', fields: {} },
});

/** The lead as it is when the events have been written in this order. */
function write(events: readonly CrmEvent[]): Record<string, unknown> {
  let known: LeadState = {};
  let fields: Record<string, unknown> | undefined;
  for (const event of events) {
    for (const lead of factsOf(event)) {
      const crmLead = fields === undefined ? undefined : { id: '1', fields };
      const fit = (_field: string, value: string) => value;
      const plan = planLead({ email: EMAIL, facts: [lead], known, crmLead, fieldMap, fit });
      fields = { ...fields, ...Object.fromEntries([...plan.fields].map(([field, { value }]) => [field, value])) };
      for (const [field, planned] of [...plan.standing, ...plan.fields]) {
        known = addWrote(known, { order: planned.order, fields: { [field]: toSavedValue(planned) } });
      }
      known = addWrote(known, { order: lead.order, ...(lead.bookings && { bookings: lead.bookings }) });
    }
  }
  return fields ?? {};
}

/** In every order, each of which must end the same. */
function inAnyOrder(events: readonly CrmEvent[]): Record<string, unknown> {
  const [first, ...others] = permute(events).map(write);
  for (const other of others) assert.equal(withoutDescription(other), withoutDescription(first!));
  return first!;
}

const withoutDescription = ({ Description: _, ...rest }: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)));

function permute<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, index) => permute(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}

for (const kind of ['canceled', 'no_show', 'no_show_undone'] as const) {
  test(`what a later booking has corrected stays when the older one is ${kind}`, () => {
    const old = { company: 'Acmee', phone: '+1 404 555 0001', leadSource: 'Google / cpc', timezone: 'UTC' };
    const lead = inAnyOrder([
      calendly(1, 'booked', 'a', old),
      calendly(2, 'booked', 'b', { company: 'Acme GmbH', phone: '+1 404 555 0002', leadSource: 'LinkedIn' }),
      calendly(3, kind, 'a', old),
    ]);
    assert.equal([lead.Company, lead.Phone, lead.Lead_Source], ['Acme GmbH', '+1 404 555 0002', 'LinkedIn']);
  });
}

test('a cancellation that comes alone still tells who it was', () => {
  const lead = inAnyOrder([calendly(3, 'canceled', 'a', { firstName: 'Jane', lastName: 'Doe', company: 'Acme' })]);
  assert.equal([lead.First_Name, lead.Last_Name, lead.Company], ['Jane', 'Doe', 'Acme']);
});

const WHOLE = { firstName: 'Jane', lastName: 'Doe' };

const names: [string, readonly CrmEvent[]][] = [
  ['a booking, then one with half of the name', [calendly(1, 'booked', 'a', WHOLE), half(2)]],
  ['a booking with half of the name, then one with all of it', [half(1), calendly(2, 'booked', 'b', WHOLE)]],
  ['half of the name, then a meeting', [half(1), met(2, { name: 'Jane Doe' })]],
  ['a meeting, then half of the name', [met(1, { name: 'Jane Doe' }), half(2)]],
  ['a meeting without a name, half of one, a meeting', [met(1, {}), half(2), met(3, { name: 'Jane Doe' })]],
];

for (const [what, events] of names) {
  test(`${what}: Jane Doe, not Jane Jane`, () => {
    const { First_Name, Last_Name } = inAnyOrder(events);
    assert.equal([First_Name, Last_Name], ['Jane', 'Doe']);
  });
}

test('half of a name that was typed is better than another that is shown', () => {
  assert.is(inAnyOrder([half(1), met(2, { name: 'Hans' })]).Last_Name, 'Jane');
  assert.is(inAnyOrder([met(1, { name: 'Hans' }), half(2)]).Last_Name, 'Jane');
});

test('half of a name is better than what an address suggests', () => {
  assert.is(inAnyOrder([met(1, {}), half(2)]).Last_Name, 'Jane');
  assert.is(inAnyOrder([half(1), met(2, {})]).Last_Name, 'Jane');
});

function half(hour: number): CrmEvent {
  return calendly(hour, 'booked', `half${hour}`, { lastName: 'Jane' });
}

const shown: [Partial<Attendee>, string | undefined, string][] = [
  [{ name: 'Karen Liu (Guest)' }, 'Karen', 'Liu'],
  [{ name: 'Karen Liu | Brightwater' }, 'Karen', 'Liu'],
  [{ name: 'Karen Liu - Acme' }, 'Karen', 'Liu'],
  [{ name: 'unknown' }, undefined, 'jane'],
  [{ name: 'jane@brightwater.example' }, undefined, 'jane'],
];

for (const [attendee, firstName, lastName] of shown) {
  test(`who is shown in a meeting as ${JSON.stringify(attendee)} is ${firstName ?? '–'} ${lastName}`, () => {
    const { First_Name, Last_Name } = write([met(1, attendee)]);
    assert.equal([First_Name, Last_Name], [firstName, lastName]);
  });
}

test('a call that was missed does not hide the next one, booked already', () => {
  const lead = inAnyOrder([
    calendly(1, 'booked', 'a', {}, at(8)),
    calendly(9, 'booked', 'b', {}, '2026-11-05T09:00:00Z'),
    calendly(10, 'no_show', 'a', {}, at(8)),
  ]);
  assert.is(lead.Lead_Status, 'Meeting Booked');
});

test.run();
