import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { digestMessage } from '../../src/consumers/alert/digest.js';
import { explain } from '../../src/consumers/alert/error-text.js';
import { failureMessage } from '../../src/consumers/alert/failure-text.js';
import { pausedMessage, resumedMessage } from '../../src/consumers/alert/health-text.js';
import type { AlertMessage } from '../../src/consumers/alert/message.js';
import { findSubject, type Subject } from '../../src/consumers/alert/subject.js';
import { NotYetError, TerminalError } from '../../src/lib/errors.js';
import { BOOKING_KINDS, type StoredEvent } from '../../src/lib/events.js';
import { enrichedEvent, failedEvent, pausedEvent, resumedEvent, summarizedEvent } from '../helpers/alert-events.js';
import { storedEvent } from '../helpers/webhook-events.js';
import { booking } from '../helpers/worker.js';
import { findBlocksFault } from '../standins/slack-blocks.js';

const once = { baseUrl: 'https://gvi.example', isRepeat: false };

/** Everything a person sees, one text. */
function shown({ text, blocks }: AlertMessage): string {
  const parts = blocks.flatMap((block) => (block.type === 'context' ? block.elements : [block.text]));
  return [text, ...parts.map((part) => part.text)].join('\n');
}

function subjectOf(event: StoredEvent, failure = failedEvent({ eventId: event.id })): Promise<Subject> {
  return findSubject(failure, {
    read: async (id) => (id === event.id ? event : undefined),
    internalDomains: ['sellers.example'],
  });
}

const subjects = suite('whom a failure concerns');

subjects('a lead is told by name, email and company', async () => {
  assert.equal(await subjectOf(enrichedEvent()), {
    kind: 'booked',
    people: [{ name: 'Mara Lindqvist', email: 'mara@northlight.example', company: 'Northlight' }],
  });
});

subjects('a webhook that was never enriched tells it too', async () => {
  const event = storedEvent('calendly.invitee.created', booking('x1', 'Karen@Brightwater.example'));
  const subject = await subjectOf(event);
  assert.equal(subject.people, [{ name: 'Karen Liu', email: 'karen@brightwater.example', company: undefined }]);
});

subjects('a meeting is told by its title and its guests, of whom only those that failed are named', async () => {
  const meeting = summarizedEvent();
  assert.equal(
    (await subjectOf(meeting)).people.map(({ name }) => name),
    ['Mara Lindqvist', 'Jonas Falk'],
  );
  const failure = failedEvent({
    eventId: meeting.id,
    message: 'Zoho refused the lead jonas@northlight.example: INVALID_DATA',
  });
  assert.equal(
    (await subjectOf(meeting, failure)).people.map(({ name }) => name),
    ['Jonas Falk'],
  );
  const both = failedEvent({
    eventId: meeting.id,
    message: `${failure.data.error.message}; Zoho refused the lead mara@northlight.example: INVALID_DATA`,
  });
  assert.equal(
    (await subjectOf(meeting, both)).people.map(({ name }) => name),
    ['Mara Lindqvist', 'Jonas Falk'],
  );
});

subjects('an entry that is gone, or cannot be read, is told by its source', async () => {
  const unreadable = [
    async () => undefined,
    async () => Promise.reject(new TerminalError('does not fit', { code: 'malformed_entry' })),
    async () => Promise.reject(new NotYetError('newer', { delayMs: 1 })),
  ];
  for (const read of unreadable) {
    const failure = failedEvent({ key: 'readai:meeting_completed:1' });
    assert.equal(await findSubject(failure, { read, internalDomains: [] }), {
      kind: 'unknown',
      source: 'Read.ai',
      people: [],
    });
  }
});

subjects('a stream that cannot be read now is no reason to guess', async () => {
  const read = async () => Promise.reject(new Error('Connection is closed.'));
  await findSubject(failedEvent(), { read, internalDomains: [] }).then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'Connection is closed.'),
  );
});

subjects.run();

const texts = suite('alert texts');

texts('a failure says who, what is missing, why, what to do, and how to send it again', async () => {
  const event = enrichedEvent();
  const failure = failedEvent({ eventId: event.id });
  const message = failureMessage(failure, { ...once, subject: await subjectOf(event) });
  const text = shown(message);
  assert.match(text, 'Not in Zoho: Mara Lindqvist');
  assert.match(
    text,
    'Mara Lindqvist (mara@northlight.example, Northlight) booked a call. The lead is not in Zoho yet.',
  );
  assert.match(text, 'Zoho did not accept a value in one of the fields.');
  assert.match(text, `\`npm run -s gvi -- redrive ${event.id}\``);
  assert.match(text, `<https://gvi.example/dashboard#${event.id}|Open it on the dashboard>`);
  assert.not.match(text, '555 0199');
  assert.is(findBlocksFault(message.blocks), undefined);
});

texts('the plain text alone says the essentials', async () => {
  const event = enrichedEvent();
  const { text } = failureMessage(failedEvent({ eventId: event.id }), { ...once, subject: await subjectOf(event) });
  assert.match(text, 'Mara Lindqvist');
  assert.match(text, event.id);
  assert.not.match(text, '*');
});

texts('without an address of the dashboard there is no link', () => {
  const subject: Subject = { kind: 'unknown', source: 'Calendly', people: [] };
  assert.not.match(shown(failureMessage(failedEvent(), { subject, baseUrl: undefined, isRepeat: false })), /<http/);
});

texts('a repeat is marked where everybody reads it', () => {
  const subject: Subject = { kind: 'unknown', source: 'Calendly', people: [] };
  const { text, blocks } = failureMessage(failedEvent(), { ...once, subject, isRepeat: true });
  assert.ok(text.startsWith('(possible repeat)'));
  assert.match(JSON.stringify(blocks[0]), '(possible repeat)');
});

texts('the log gets no name, no address and no message of an error', async () => {
  const event = enrichedEvent();
  const failure = failedEvent({ eventId: event.id, message: 'Zoho refused the lead mara@northlight.example' });
  const { facts } = failureMessage(failure, { ...once, subject: await subjectOf(event) });
  assert.not.match(JSON.stringify(facts), /mara|lindqvist|northlight/i);
  assert.match(JSON.stringify(facts), event.id);
});

texts('every kind of booking has its own sentence', () => {
  const sentences = BOOKING_KINDS.map((kind) => {
    const subject: Subject = { kind, people: [{ name: 'Mara' }] };
    return JSON.stringify(failureMessage(failedEvent(), { ...once, subject }).blocks[1]);
  });
  assert.ok(new Set(sentences).size >= BOOKING_KINDS.length - 2);
  assert.ok(sentences.every((sentence) => sentence.includes('Mara')));
});

texts('a digest counts by reason and group, names ten, and sends all again with one command', () => {
  const failures = Array.from({ length: 23 }, (_, index) =>
    failedEvent(
      index < 20 ? { code: 'zoho_no_permission' } : { code: 'model_blocked', group: 'enrich' },
      `2026-11-23T12:${String(10 + index)}:00.000Z`,
    ),
  );
  const named = Array.from(
    { length: 10 },
    (_, index): Subject => ({ kind: 'booked', people: [{ name: `Lead ${index}` }] }),
  );
  const message = digestMessage(failures, { ...once, subjects: named });
  const text = shown(message);
  assert.match(text, 'Not in Zoho: 23 events');
  assert.match(text, 'between 12:10 and 12:32 UTC');
  assert.match(text, /\*20 ×\* .*\(zoho_no_permission, crm-sync\)\n• \*3 ×\* .*\(model_blocked, enrich\)/);
  assert.match(text, 'Lead 9');
  assert.match(text, '… and 13 more');
  for (const { data } of failures) assert.match(text, data.eventId);
  assert.is(findBlocksFault(message.blocks), undefined);
});

texts('a configuration fault says what to do, an outage that nobody need do anything', () => {
  const configuration = shown(
    pausedMessage(pausedEvent({ kind: 'configuration', reason: 'zoho_invalid_code' }), false),
  );
  assert.match(configuration, 'Zoho no longer accepts our refresh token.');
  assert.match(configuration, 'scripts/zoho_oauth_helper.md');
  const outage = shown(pausedMessage(pausedEvent(), false));
  assert.match(outage, 'Zoho has been out of reach since 12:00 UTC on 23 Nov');
  assert.match(outage, 'none is lost');
});

texts('the end of a pause says how long it was', () => {
  const text = shown(resumedMessage(resumedEvent(pausedEvent(), '2026-11-23T12:34:00.000Z'), false));
  assert.match(text, 'Zoho works again');
  assert.match(text, 'from 12:00 UTC on 23 Nov to 12:34 UTC on 23 Nov');
});

texts('a code that nobody has described is told honestly', () => {
  assert.match(explain('zoho_something_new').why, 'Zoho refused it, for a reason that has no description yet.');
  assert.match(explain('zoho_http_503').why, 'could not be reached');
  for (const code of ['toString', 'constructor_timeout', '__proto__', '']) {
    assert.is(explain(code).why, 'A reason that has no description yet.');
  }
});

const hostile = fc.oneof(
  fc.constantFrom(
    '<!channel>',
    '<https://evil.example|Trust me>',
    '\ud800<@U1>',
    '&lt;!here&gt;',
    '```*_~',
    'a\nb\r\nc',
  ),
  fc.string({ unit: 'binary', maxLength: 5_000 }),
);

texts('nothing that a stranger writes goes live, and every message fits', () => {
  fc.assert(
    fc.property(hostile, hostile, hostile, fc.boolean(), (name, other, message, isMeeting) => {
      const people = [{ name, email: other, company: other }, { name: other }];
      const subject: Subject = isMeeting ? { kind: 'meeting', title: name, people } : { kind: 'booked', people };
      const failure = failedEvent({ message, code: other });
      const failures = Array.from({ length: 50 }, () => failure);
      const messages = [
        failureMessage(failure, { ...once, subject }),
        digestMessage(failures, { ...once, subjects: Array.from({ length: 10 }, () => subject) }),
        pausedMessage(pausedEvent({ kind: 'configuration', reason: other, since: name }), true),
      ];
      for (const alert of messages) {
        assert.is(findBlocksFault(alert.blocks), undefined);
        assert.not.match(
          shown(alert).replaceAll(/<https:\/\/gvi\.example\/dashboard#[a-z0-9-]+\|[\w ]+>/g, ''),
          /[<>]/,
        );
        assert.not.match(alert.text, /\p{Surrogate}/u);
      }
    }),
    { numRuns: 150 },
  );
});

texts.run();
