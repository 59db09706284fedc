import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isColleagueBooking, isInternalMeeting, sideOf } from '../../src/lib/colleagues.js';
import { isPersonalDomain, isRoleAddress, normalizeEmail } from '../../src/lib/email-address.js';
import { calendlyInviteeWebhook } from '../../src/lib/payloads/calendly.js';
import { readaiMeetingWebhook } from '../../src/lib/payloads/readai.js';

const test = suite('who is a colleague');

const meeting = (owner: string | null, ...emails: (string | null)[]) =>
  readaiMeetingWebhook.parse({
    session_id: 's',
    owner: owner === null ? null : { name: 'Owner', email: owner },
    participants: emails.map((email, index) => ({ name: `P${index}`, email })),
  });
const booking = (email: string, ...hosts: string[]) =>
  calendlyInviteeWebhook.parse({
    event: 'invitee.created',
    created_at: '2026-11-02T09:00:00Z',
    payload: {
      uri: 'https://x/1',
      email,
      scheduled_event: { event_memberships: hosts.map((user_email) => ({ user_email })) },
    },
  });

const meetings: [string, ReturnType<typeof meeting>, string[], boolean][] = [
  [
    'all of them on the internal domain, whatever the case',
    meeting('a@vendor.example', 'a@vendor.example', 'B@VENDOR.example'),
    ['vendor.example'],
    true,
  ],
  [
    'one from outside',
    meeting('a@vendor.example', 'a@vendor.example', 'k@brightwater.example'),
    ['vendor.example'],
    false,
  ],
  ['one whose address is not known', meeting('a@vendor.example', 'a@vendor.example', null), ['vendor.example'], false],
  ['a subdomain is another domain', meeting(null, 'a@mail.vendor.example'), ['vendor.example'], false],
  [
    'a calendar room beside colleagues',
    meeting(null, 'a@vendor.example', 'c_1@resource.calendar.google.com'),
    ['vendor.example'],
    true,
  ],
  ['nobody at all', meeting('a@vendor.example'), ['vendor.example'], false],
  [
    'without INTERNAL_DOMAINS only the owner is a colleague',
    meeting('a@vendor.example', 'a@vendor.example', 'b@vendor.example'),
    [],
    false,
  ],
  ['without INTERNAL_DOMAINS, the owner alone', meeting('a@vendor.example', 'A@vendor.example'), [], true],
];

for (const [name, webhook, domains, expected] of meetings) {
  test(`a meeting among colleagues only: ${name}: ${expected}`, () =>
    assert.is(isInternalMeeting(webhook, domains), expected));
}

test('an owner from outside the internal domains is no colleague', () => {
  assert.is(sideOf('buyer@brightwater.example', meeting('buyer@brightwater.example'), ['vendor.example']), 'external');
});

test("without INTERNAL_DOMAINS the host's company is internal, but not a host's mail provider", () => {
  assert.is(isColleagueBooking(booking('sam@vendor.example', 'rep@vendor.example'), []), true);
  assert.is(isColleagueBooking(booking('ada@gmail.com', 'rep@gmail.com'), []), false);
  assert.is(isColleagueBooking(booking('rep@gmail.com', 'REP@gmail.com'), []), true);
  assert.is(isColleagueBooking(booking('sam@vendor.example', 'rep@vendor.example'), ['other.example']), false);
});

test('what an address says of a company and a person', () => {
  assert.equal(['gmail.com', 'yahoo.co.uk', 'proton.me', 'brightwater.example'].map(isPersonalDomain), [
    true,
    true,
    true,
    false,
  ]);
  assert.equal(['info@x.example', 'Sales+eu@x.example', 'ada@x.example'].map(isRoleAddress), [true, true, false]);
  assert.is(normalizeEmail(' Ada+Demo@X.example '), 'ada+demo@x.example');
});

test.run();
