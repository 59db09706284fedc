import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bookingOfInvitee } from '../../src/consumers/enrich/booking.js';
import { bookingKind, isWorthAssessing } from '../../src/consumers/enrich/booking-kind.js';
import { factsOfInvitee, findEmail } from '../../src/consumers/enrich/lead-facts.js';
import { leadSourceOf } from '../../src/consumers/enrich/lead-source.js';
import { type AskedFor, answerTo } from '../../src/consumers/enrich/questions.js';
import { type CalendlyInviteeWebhook, calendlyInviteeWebhook } from '../../src/lib/payloads/calendly.js';
import { readFixture } from '../helpers/webhook-events.js';

const questions = suite('what a question asks for');

const asked: [AskedFor, string, string, boolean][] = [
  ['company', 'Company', 'Acme', true],
  ['company', 'What company do you work for?', 'Acme', true],
  ['company', 'Which organisation are you with?', 'Acme', true],
  ['company', 'Company / brand name', 'Acme', true],
  ['company', 'Where do you work?', 'Acme', true],
  ['company', 'Wie heißt Ihre Firma?', 'Acme GmbH', true],
  ['company', 'Unternehmen', 'Acme GmbH', true],
  ['company', 'Nom de votre entreprise', 'Acme SARL', true],
  ['company', '会社名', '株式会社アクメ', true],
  ['company', 'Company size', '11-50', false],
  ['company', 'How many employees does your company have?', '40', false],
  ['company', 'What does your company do?', 'We make tea', false],
  ['company', 'Company website', 'acme.example', false],
  ['company', 'What is your role at the company?', 'CEO', false],
  ['company', 'Are you a company or an individual?', 'Company', false],
  ['company', 'Tell us about your company', 'We make tea', false],
  ['company', 'How did you hear about our company?', 'A friend', false],
  ['company', 'Company', 'n/a', false],
  ['company', 'Company', 'We are a small family-owned maker of fine teas from the far north', false],
  ['jobTitle', 'Job title', 'Head of Design', true],
  ['jobTitle', 'What is your role?', 'Head of Design', true],
  ['jobTitle', 'Position', 'Leiterin Einkauf', true],
  ['jobTitle', 'Which position are you hiring for?', 'Designer', false],
  ['jobTitle', 'Title', 'Mrs.', false],
  ['phone', 'Phone number', '+49 151 5550123', true],
  ['phone', 'Telefon', '(030) 555-0123', true],
  ['phone', 'Your WhatsApp', '+1 404-555-1234 ext. 9', true],
  ['phone', 'Phone number', 'call my office', false],
  ['phone', 'Phone number', '12', false],
  ['industry', 'What is your industry?', 'Food & beverages', true],
  ['industry', 'How many years in this industry?', '12', false],
  ['website', 'Website', 'https://acme.example/shop', true],
  ['website', 'Company URL', 'acme.example', true],
  ['website', 'Website', 'we have none yet', false],
  ['website', 'Website', 'ada@acme.example', false],
  ['email', 'Work email', 'ada@acme.example', true],
  ['email', 'Work email', 'ada at acme', false],
];

for (const [kind, question, answer, isAnswer] of asked) {
  questions(`"${question}" with "${answer}" is ${isAnswer ? 'a' : 'no'} ${kind}`, () => {
    assert.is(answerTo(kind, [{ question, answer }]), isAnswer ? answer : undefined);
  });
}

questions('an unusable answer gives way to the next question of the same kind', () => {
  const answers = [
    { question: 'Company', answer: '-' },
    { question: 'Organisation', answer: 'Acme' },
  ];
  assert.is(answerTo('company', answers), 'Acme');
});

const facts = suite('the facts of a booking');

type Payload = {
  questions_and_answers: { question: string; answer: string }[];
  text_reminder_number: string | null;
  scheduled_event: { location: object };
  tracking: Record<string, string | null>;
  timezone: string;
};

const booking = (change: (payload: Payload) => void = () => {}): CalendlyInviteeWebhook => {
  const body = readFixture<{ payload: Payload }>('calendly_invitee_created.json');
  change(body.payload);
  return calendlyInviteeWebhook.parse(body);
};

facts('name, company, title, phone, source and time zone come from where they stand', () => {
  assert.equal(factsOfInvitee(booking()), {
    firstName: 'Laura',
    lastName: 'Brandt',
    company: 'Northwind Foods',
    jobTitle: 'Head of Packaging Design',
    phone: '+49 151 5550123',
    leadSource: 'Google / cpc',
    timezone: 'Europe/Berlin',
  });
});

facts('a hole among the answers is no reason to refuse the booking', () => {
  const webhook = booking((payload) => payload.questions_and_answers.unshift(null as never));
  assert.is(factsOfInvitee(webhook).company, 'Northwind Foods');
});

facts('an answer wins over the number for reminders', () => {
  const webhook = booking((payload) =>
    payload.questions_and_answers.push({ question: 'Phone', answer: '030 5550199' }),
  );
  assert.is(factsOfInvitee(webhook).phone, '030 5550199');
});

facts('the number that the host is to call is theirs', () => {
  const webhook = booking((payload) => {
    payload.text_reminder_number = null;
    payload.scheduled_event.location = { type: 'outbound_call', location: '+44 20 7946 0018' };
  });
  assert.is(factsOfInvitee(webhook).phone, '+44 20 7946 0018');
});

facts("the number that they are to call is the host's, and no fact", () => {
  const webhook = booking((payload) => {
    payload.text_reminder_number = null;
    payload.scheduled_event.location = { type: 'inbound_call', location: '+44 20 7946 0018' };
  });
  assert.is(factsOfInvitee(webhook).phone, undefined);
});

facts('no fact is longer than 200 code points, and none is cut within a character', () => {
  const webhook = booking((payload) => {
    payload.tracking.utm_source = '🚀'.repeat(5000);
    payload.timezone = '\u{1F680}'.repeat(5000);
  });
  const { leadSource, timezone } = factsOfInvitee(webhook);
  assert.is(Array.from(leadSource!).length, 100);
  assert.is(Array.from(timezone!).length, 200);
  assert.not.match(timezone!, /\p{Cs}/u);
});

const places = suite('where a call is held');

for (const [type, location, place] of [
  ['zoom_conference', 'https://zoom.example/j/1', 'Zoom'],
  ['custom', 'My office, 2nd floor', 'My office, 2nd floor'],
  ['custom', 'https://meet.example/secret', 'Online'],
  ['constructor', 'My office', 'My office'],
  ['__proto__', undefined, undefined],
] as const) {
  places(`a location of type ${type} at ${location} is ${place}`, () => {
    const webhook = booking((payload) => {
      payload.scheduled_event.location = { type, location };
    });
    assert.is(bookingOfInvitee(webhook).place, place);
  });
}

const sources = suite('the source of a lead');

const trackings: [string | undefined, string | undefined, string][] = [
  ['google', 'cpc', 'Google / cpc'],
  ['LinkedIn', 'Paid', 'LinkedIn / paid'],
  ['newsletter', undefined, 'Newsletter'],
  [undefined, 'email', 'Calendly'],
  [undefined, undefined, 'Calendly'],
  ['{{campaign.source}}', 'cpc', 'Calendly'],
  ['(not set)', undefined, 'Calendly'],
  ['google', '(none)', 'Google'],
  ['__proto__', undefined, '__proto__'],
  ['constructor', 'cpc', 'Constructor / cpc'],
];

for (const [utm_source, utm_medium, want] of trackings) {
  sources(`source ${utm_source} and medium ${utm_medium} read "${want}"`, () => {
    assert.is(leadSourceOf({ utm_source, utm_medium }), want);
  });
}

sources('no tracking at all reads "Calendly"', () => assert.is(leadSourceOf(null), 'Calendly'));

const emails = suite('the email in a routing form');

emails('the answer to the question for it is taken, lower-cased, plus part included', () => {
  assert.is(findEmail([{ question: 'Work email', answer: ' Ada+Demo@Acme.example ' }]), 'ada+demo@acme.example');
});

emails('an answer that is an address is taken whatever was asked', () => {
  assert.is(findEmail([{ question: 'How do we reach you?', answer: 'ada@acme.example' }]), 'ada@acme.example');
});

emails('of two addresses that nobody asked for, neither is taken', () => {
  const answers = [
    { question: 'Reach you', answer: 'ada@acme.example' },
    { question: 'Reach you otherwise', answer: 'ada@home.example' },
  ];
  assert.is(findEmail(answers), undefined);
});

for (const question of [
  'Email of the colleague who referred you',
  'Should we invite somebody?',
  'Whom else should we invite? (email)',
  'Email of another invitee',
  'Anyone we should invite along?',
  'Anyone else we should invite? (email)',
  'Is anyone else joining? Their email',
  'Emails to add to the invite',
  'Email of anybody else on the call',
]) {
  emails(`what answers "${question}" is not theirs`, () => {
    assert.is(findEmail([{ question, answer: 'bo@acme.example' }]), undefined);
  });
}

for (const question of ['Which email should we send the invite to?', 'Work email (never shared with anyone else)']) {
  emails(`what answers "${question}" is theirs`, () => {
    assert.is(findEmail([{ question, answer: 'ada@acme.example' }]), 'ada@acme.example');
  });
}

const kinds = suite('what a Calendly event means');

const events: [string, string][] = [
  ['invitee-created', 'booked'],
  ['reschedule-1-new-created', 'rescheduled'],
  ['reschedule-2-old-canceled', 'moved_away'],
  ['reschedule-3-then-canceled', 'canceled'],
  ['invitee-canceled', 'canceled'],
  ['no-show-created', 'no_show'],
  ['no-show-deleted', 'no_show_undone'],
];

for (const [fixture, kind] of events) {
  kinds(`${fixture} means ${kind}`, () => {
    assert.is(bookingKind(calendlyInviteeWebhook.parse(readFixture(`calendly/${fixture}.json`))), kind);
  });
}

const leads: [Parameters<typeof isWorthAssessing>[0], boolean][] = [
  [{ kind: 'booked', email: 'a@b.example' }, true],
  [{ kind: 'rescheduled', email: 'a@b.example' }, true],
  [{ kind: 'routed', email: 'a@b.example' }, true],
  [{ kind: 'routed' }, false],
  [{ kind: 'booked', email: 'a@b.example', internal: true }, false],
  [{ kind: 'canceled', email: 'a@b.example' }, false],
  [{ kind: 'moved_away', email: 'a@b.example' }, false],
  [{ kind: 'no_show', email: 'a@b.example' }, false],
  [{ kind: 'no_show_undone', email: 'a@b.example' }, false],
];

for (const [lead, isWorth] of leads) {
  kinds(`${JSON.stringify(lead)} is ${isWorth ? '' : 'not '}shown to a model`, () => {
    assert.is(isWorthAssessing(lead), isWorth);
  });
}

questions.run();
facts.run();
places.run();
sources.run();
emails.run();
kinds.run();
