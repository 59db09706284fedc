import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hashContent } from '../../src/ingest/content-hash.js';
import { JSON_VALUES_MAX, parseJson } from '../../src/ingest/parse-json.js';
import { makeSources } from '../../src/ingest/sources/index.js';
import { booking, report } from '../helpers/webhooks.js';

const calendly = suite('what Calendly sends');
const readai = suite('what Read.ai sends');
const json = suite('JSON and its hash');

const settings = {
  calendly: { signingKeys: [], toleranceS: 300 },
  readai: { signingKeys: [], sharedSecret: undefined },
  internalDomains: ['seller.example'],
};

function read(name: string, body: unknown, internalDomains = settings.internalDomains) {
  const source = makeSources({ ...settings, internalDomains }).find((candidate) => candidate.name === name)!;
  return source.read(body, Buffer.from(JSON.stringify(body)));
}

function eventOf(name: string, body: unknown, internalDomains = settings.internalDomains) {
  const reading = read(name, body, internalDomains);
  if (reading.kind !== 'event') throw new Error(`read as ${JSON.stringify(reading)}`);
  return reading;
}

const ADA = 'https://api.calendly.com/scheduled_events/EVENT-1/invitees/ADA-1';
const NO_SHOW = { uri: 'https://api.calendly.com/invitee_no_shows/NS-9', created_at: '2026-11-10T16:00:00Z' };
const NO_SHOW_DELETED = { event: 'invitee_no_show.deleted' };

const CALENDLY_KEYS = [
  { name: 'a booking', body: booking(), type: 'calendly.invitee.created', id: 'ADA-1' },
  {
    name: 'a cancellation',
    body: booking({ cancellation: { reason: 'ill' } }, { event: 'invitee.canceled' }),
    type: 'calendly.invitee.canceled',
    id: 'ADA-1',
  },
  {
    name: 'a cancellation after a no-show',
    body: booking({ no_show: NO_SHOW }, { event: 'invitee.canceled' }),
    type: 'calendly.invitee.canceled',
    id: 'ADA-1',
  },
  {
    name: 'a no-show',
    body: booking({ no_show: NO_SHOW }, { event: 'invitee_no_show.created' }),
    type: 'calendly.invitee_no_show.created',
    id: 'NS-9',
  },
  {
    name: 'a no-show taken back',
    body: booking({ updated_at: '2026-11-10T17:00:00.000001Z' }, NO_SHOW_DELETED),
    type: 'calendly.invitee_no_show.deleted',
    id: 'ADA-1:2026-11-10T17:00:00.000001Z',
  },
  {
    name: 'a no-show taken back that still names it',
    body: booking({ no_show: NO_SHOW }, NO_SHOW_DELETED),
    type: 'calendly.invitee_no_show.deleted',
    id: 'NS-9',
  },
  {
    name: 'a no-show without any time of its own',
    body: booking({ updated_at: null }, NO_SHOW_DELETED),
    type: 'calendly.invitee_no_show.deleted',
    id: 'ADA-1:2026-11-02T09:00:01.000000Z',
  },
  {
    name: 'a routing form',
    body: {
      event: 'routing_form_submission.created',
      created_at: '2026-11-02T09:00:01.000000Z',
      payload: { uri: 'https://api.calendly.com/routing_form_submissions/RF-3', questions_and_answers: [] },
    },
    type: 'calendly.routing_form_submission.created',
    id: 'RF-3',
  },
  {
    name: 'a URI with a slash and a query',
    body: booking({ uri: `${ADA}/?x=1#y` }),
    type: 'calendly.invitee.created',
    id: 'ADA-1',
  },
];
for (const { name, body, type, id } of CALENDLY_KEYS) {
  calendly(`${name} has the key …:${id}`, () => {
    const event = eventOf('calendly', body);
    assert.is(event.type, type);
    assert.is(event.key, `${type.replace('.', ':')}:${id}`);
    assert.is(event.otherContent, 'kept');
  });
}

calendly('an event of another kind is ignored, whatever it holds', () => {
  for (const event of ['meeting_recap.created', 'event_type.updated', 'contact.deleted', 'toString', '__proto__']) {
    assert.equal(read('calendly', { event }), { kind: 'ignored', reason: 'unhandled_type' });
  }
});

const CALENDLY_INVALID = [
  { name: 'no object', body: [booking()], path: '' },
  { name: 'null', body: null, path: '' },
  { name: 'no event', body: {}, path: 'event' },
  { name: 'an event that is no text', body: { event: 7 }, path: 'event' },
  { name: 'no payload', body: { event: 'invitee.created', created_at: '2026-11-02T09:00:01Z' }, path: 'payload' },
  { name: 'no email', body: booking({ email: undefined }), path: 'payload.email' },
  { name: 'no URI', body: booking({ uri: null }), path: 'payload.uri' },
  { name: 'a URI without an id', body: booking({ uri: '///' }), path: 'payload.uri' },
  { name: 'a URI with an endless id', body: booking({ uri: `${ADA}${'x'.repeat(300)}` }), path: 'payload.uri' },
  { name: 'a URI with a line break', body: booking({ uri: `${ADA}\nx` }), path: 'payload.uri' },
];
for (const { name, body, path } of CALENDLY_INVALID) {
  calendly(`${name} is invalid at "${path}"`, () => {
    const reading = read('calendly', body);
    assert.is(reading.kind, 'invalid');
    if (reading.kind === 'invalid') assert.ok(reading.issues.some((issue) => issue.path === path));
  });
}

calendly('issues say what should be there, and never what was', () => {
  const reading = read('calendly', booking({ email: 'not-an-address-of-ada', uri: 4711, rescheduled: 'perhaps' }));
  const told = JSON.stringify(reading);
  for (const value of ['not-an-address-of-ada', '4711', 'perhaps']) assert.not.match(told, value);
});

calendly('only the payload is content: the envelope may differ between two deliveries', () => {
  const first = eventOf('calendly', booking());
  assert.is(eventOf('calendly', booking({}, { created_at: '2026-11-02T09:00:09Z' })).contentHash, first.contentHash);
  assert.is.not(eventOf('calendly', booking({ name: 'Ada King' })).contentHash, first.contentHash);
});

const MEETING_KEY = 'readai:meeting_completed:01ADA0000000000000000000AA';

readai('a report has the key of its session and hands on its bytes', () => {
  const event = eventOf('readai', report());
  assert.is(event.type, 'readai.meeting_completed');
  assert.is(event.key, MEETING_KEY);
  assert.is(event.requestId, '01REQUEST00000000000000001');
  assert.is(event.otherContent, 'revision');
  assert.is(event.data.toString(), JSON.stringify(report()));
});

const LEGACY = [
  { name: 'meeting_completed as trigger', body: report({ trigger: 'meeting_completed' }) },
  { name: 'meeting_completed as event_type', body: report({ trigger: undefined, event_type: 'meeting_completed' }) },
  { name: 'no type at all', body: report({ trigger: null }) },
  {
    name: 'meeting_id instead of session_id',
    body: report({ session_id: undefined, meeting_id: '01ADA0000000000000000000AA' }),
  },
];
for (const { name, body } of LEGACY) {
  readai(`a caller of the former service is understood: ${name}`, () => {
    assert.is(eventOf('readai', body).key, MEETING_KEY);
  });
}

for (const trigger of ['meeting_start', 'meeting_paused', 'constructor']) {
  readai(`the trigger ${trigger} is ignored`, () => {
    assert.equal(read('readai', report({ trigger })), { kind: 'ignored', reason: 'unhandled_type' });
    const body = report({ trigger: undefined, event_type: trigger });
    assert.equal(read('readai', body), { kind: 'ignored', reason: 'unhandled_type' });
  });
}

const ONE = {
  name: 'Participant One',
  first_name: 'Participant',
  last_name: 'One',
  email: 'participant_one@company.com',
};
const TWO = {
  name: 'Participant Two',
  first_name: 'Participant',
  last_name: 'Two',
  email: 'participant_two@company.com',
};
const TESTS = [
  { name: 'no meeting id', body: report({ session_id: undefined }) },
  { name: 'a blank meeting id', body: report({ session_id: ' ', meeting_id: 'None' }) },
  { name: 'nothing at all', body: {} },
  { name: 'the placeholder session', body: report({ session_id: 'SESSIONID' }) },
  { name: 'the placeholder session as meeting_id', body: report({ session_id: undefined, meeting_id: 'SESSIONID' }) },
  {
    name: 'the placeholder report',
    body: report({ report_url: 'https://app.read.ai/analytics/meetings/SESSIONID' }),
  },
  { name: 'the placeholder people', body: report({ participants: [ONE, TWO] }) },
  {
    name: 'the placeholder people, one without email',
    body: report({ participants: [ONE, { ...TWO, email: 'None' }] }),
  },
  { name: 'the placeholder people by email', body: report({ participants: [{ email: ONE.email }] }) },
  { name: 'the placeholder session in a start', body: report({ session_id: 'SESSIONID', trigger: 'meeting_start' }) },
  { name: 'the placeholder session in a body that fits nothing', body: { session_id: 'SESSIONID', participants: 7 } },
];
for (const { name, body } of TESTS) {
  readai(`a test delivery is ignored: ${name}`, () => {
    assert.equal(read('readai', body), { kind: 'ignored', reason: 'test_delivery' });
  });
}

const ADA_PERSON = { name: 'Ada Lovelace', email: 'ada@analytical.example' };
const NO_TESTS = [
  { name: 'one placeholder beside a real person', body: report({ participants: [ONE, ADA_PERSON] }) },
  { name: 'a person at company.com', body: report({ participants: [{ name: 'Jo Doe', email: 'jo@company.com' }] }) },
  {
    name: 'placeholder names without any email',
    body: report({ participants: [{ name: 'Participant One', email: null }] }),
  },
  {
    name: 'a placeholder name with a real address',
    body: report({ participants: [{ ...ONE, email: 'one@client.example' }] }),
  },
  { name: 'nobody', body: report({ participants: [] }) },
  {
    name: 'a report URL that only begins like it',
    body: report({ report_url: 'https://app.read.ai/SESSIONID/01ADA' }),
  },
];
for (const { name, body } of NO_TESTS) {
  readai(`a real meeting is not taken for a test: ${name}`, () => {
    assert.is(read('readai', body).kind, 'event');
  });
}

const READAI_INVALID = [
  { name: 'no object', body: 'meeting' },
  { name: 'a session id that is no text', body: report({ session_id: 17 }) },
  { name: 'an endless session id', body: report({ session_id: 'x'.repeat(257) }) },
  { name: 'participants that are no list', body: report({ participants: 'Ada' }) },
  { name: 'a trigger that is no text', body: report({ trigger: { name: 'meeting_end' } }) },
];
for (const { name, body } of READAI_INVALID) {
  readai(`${name} is invalid`, () => {
    assert.is(read('readai', body).kind, 'invalid');
  });
}

for (const [field, body] of [
  ['session_id', report({ session_id: 'MEETING:r2' })],
  ['meeting_id', report({ session_id: undefined, meeting_id: 'MEETING:r10' })],
] as const) {
  readai(`a ${field} that ends as the key of a revision does is invalid, and named`, () => {
    const reading = read('readai', body);
    assert.is(reading.kind === 'invalid' && reading.issues[0]?.path, field);
  });
}

readai('an id may have colons and end in digits', () => {
  for (const id of ['a:r2:b', 'a:r', 'a:2', 'r2']) {
    assert.is(eventOf('readai', report({ session_id: id })).key, `readai:meeting_completed:${id}`);
  }
});

readai('the request id is no content, all else is', () => {
  const first = eventOf('readai', report());
  assert.is(eventOf('readai', report({ request_id: '01OTHER' })).contentHash, first.contentHash);
  assert.is.not(eventOf('readai', report({ summary: 'Ada wants two pilots.' })).contentHash, first.contentHash);
});

const COLLEAGUES = [
  { name: 'Rob Rep', email: 'rep@seller.example' },
  { name: 'Sue Sales', email: 'Sue@SELLER.example' },
];

readai('of a meeting among colleagues only, nothing that was said is kept', () => {
  const event = eventOf('readai', report({ participants: COLLEAGUES }));
  const { transcript, summary, chapter_summaries, action_items, key_questions, topics, ...rest } = report({
    participants: COLLEAGUES,
  });
  assert.equal(JSON.parse(event.data.toString()), rest);
  assert.is.not(
    eventOf('readai', report({ participants: COLLEAGUES, summary: 'Other' })).contentHash,
    event.contentHash,
  );
});

for (const [name, guest] of [
  ['a customer', ADA_PERSON],
  ['a guest without email', { name: 'Somebody', email: null }],
] as const) {
  readai(`with ${name} at the table, all of it is kept`, () => {
    const body = report({ participants: [...COLLEAGUES, guest] });
    assert.is(eventOf('readai', body).data.toString(), JSON.stringify(body));
  });
}

json('the hash of a value depends neither on the order of its keys nor on white space', () => {
  const value = JSON.parse('{ "b": [1, {"y": null, "x": true}], "a": "\\u00e9" }');
  assert.is(hashContent(value), hashContent(JSON.parse('{"a":"é","b":[1,{"x":true,"y":null}]}')));
  assert.match(hashContent(value), /^[\w-]{22}$/);
  assert.is.not(hashContent([1, 2]), hashContent([2, 1]));
  assert.is.not(hashContent({ a: '1' }), hashContent({ a: 1 }));
  assert.is.not(hashContent(['a,b']), hashContent(['a', 'b']));
});

json('keys that mean something to JavaScript are keys like any other', () => {
  const parsed = parseJson(Buffer.from('{"__proto__":{"isAdmin":true},"constructor":1}'));
  assert.is(({} as Record<string, unknown>).isAdmin, undefined);
  assert.is.not(hashContent(parsed), hashContent({ constructor: 1 }));
});

for (const field of ['action_items', 'participants', 'chapter_summaries']) {
  readai(`of very many wrong ${field} the first few are told`, () => {
    const reading = read('readai', report({ [field]: Array(1_000).fill(7) }));
    assert.is(reading.kind === 'invalid' && reading.issues.length, 10);
    assert.is(reading.kind === 'invalid' && reading.issues[9]?.path, `${field}.9`);
  });
}

readai('an issue of a list says at which item it is, and where in that', () => {
  const reading = read('readai', report({ participants: [null, { name: 'Ada' }, { name: 'Rob', email: 7 }] }));
  assert.is(reading.kind === 'invalid' && reading.issues[0]?.path, 'participants.2.email');
});

const isUsable = (text: string) => parseJson(Buffer.from(text)) !== undefined;
const listOf = (item: string, count: number) => `[${Array(count).fill(item).join(',')}]`;

const UNUSABLE = [
  { name: 'nothing', bytes: Buffer.alloc(0) },
  { name: 'text', bytes: Buffer.from('hello') },
  { name: 'a cut object', bytes: Buffer.from('{"a":') },
  { name: 'invalid UTF-8 in a string', bytes: Buffer.from([0x22, 0xff, 0xfe, 0x22]) },
  { name: 'UTF-16', bytes: Buffer.from('{"a":1}', 'utf16le') },
  { name: 'a byte order mark', bytes: Buffer.from('\ufeff{}') },
  { name: 'a nesting bomb of lists', bytes: Buffer.from('['.repeat(100_000) + ']'.repeat(100_000)) },
  { name: 'a nesting bomb of objects', bytes: Buffer.from(`${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`) },
];
for (const { name, bytes } of UNUSABLE) {
  json(`${name} is no usable JSON`, () => {
    assert.is(parseJson(bytes), undefined);
  });
}

for (const [name, few, many] of [
  ['in a list', listOf('1', JSON_VALUES_MAX - 1), listOf('1', JSON_VALUES_MAX + 1)],
  [
    'in lists of lists',
    listOf('[[]]', Math.floor(JSON_VALUES_MAX / 3) - 1_000),
    listOf('[[]]', Math.ceil(JSON_VALUES_MAX / 3) + 1_000),
  ],
  ['in objects', listOf('{"a":"b"}', JSON_VALUES_MAX / 2 - 1), listOf('{"a":"b"}', JSON_VALUES_MAX / 2 + 1)],
] as const) {
  json(`so many values ${name} are read, and no more`, () => {
    assert.ok(isUsable(few));
    assert.not(isUsable(many));
  });
}

json('what stands in a text is one value', () => {
  assert.type(parseJson(Buffer.from(JSON.stringify(',[{"\\'.repeat(200_000)))), 'string');
  assert.not(isUsable(`["\\\\",${'1,'.repeat(JSON_VALUES_MAX)}1]`));
});

json('null, and what is nested as deep as real bodies are, is usable', () => {
  assert.is(parseJson(Buffer.from('null')), null);
  assert.is.not(parseJson(Buffer.from('['.repeat(200) + ']'.repeat(200))), undefined);
});

calendly.run();
readai.run();
json.run();
