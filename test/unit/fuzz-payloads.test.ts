/** Whatever passes a schema must pass what comes after it: no throw, no endless work, nothing that a later stage cannot take. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { factsOf } from '../../src/consumers/crm-sync/lead-facts.js';
import { bookingDescription, bookingNote, meetingNote } from '../../src/consumers/crm-sync/note-text.js';
import { splitName } from '../../src/consumers/enrich/names.js';
import { leadOf } from '../../src/consumers/enrich.js';
import { makeSideOfSpeaker } from '../../src/consumers/summarize/attendees.js';
import { turnsOf } from '../../src/consumers/summarize/transcript.js';
import { meetingOf } from '../../src/consumers/summarize.js';
import { parseJson } from '../../src/ingest/parse-json.js';
import { makeSources } from '../../src/ingest/sources/index.js';
import { isUsableId } from '../../src/ingest/sources/source.js';
import { decodeEntry, encodeFollowOn } from '../../src/lib/codec.js';
import { TerminalError } from '../../src/lib/errors.js';
import { catalogue, type EventType, type NewEvent, type StoredEvent } from '../../src/lib/events.js';
import { makeLogger } from '../../src/lib/logger.js';
import { parseAnswer } from '../../src/lib/providers/gemini/reply.js';
import { lastSegment } from '../../src/lib/uri.js';
import { holds } from '../helpers/fuzz.js';
import { GROWTH_MAX, growthOf, ratioOf } from '../helpers/growth.js';
import { damaged, hostileBody, hostileText, hostileValue, samplesOf } from '../helpers/hostile.js';
import { booking, report } from '../helpers/webhooks.js';

const bodies = suite('webhook bodies under fuzz');
const entries = suite('entries under fuzz');

const sources = makeSources({
  calendly: { signingKeys: [], toleranceS: 300 },
  readai: { signingKeys: [], sharedSecret: undefined },
  internalDomains: ['seller.example'],
});

for (const source of sources) {
  bodies(`what ${source.name} could send is read, told apart and worked on without a throw`, async () => {
    await holds(
      hostileBody(samplesOf(source.name)),
      (body) => {
        const json = parseJson(body);
        if (json === undefined) return;
        const reading = source.read(json, body);
        if (reading.kind === 'invalid') {
          assert.ok(reading.issues.length > 0 && reading.issues.length <= 20);
        }
        if (reading.kind !== 'event') return;
        assert.not.match(reading.key, /[\p{Cc}\p{Cs}]/u);
        assert.ok(reading.key.length < 400);
        const fields = {
          type: reading.type,
          key: reading.key,
          at: '2026-11-02T09:00:00Z',
          v: '1',
          data: `${reading.data}`,
        };
        workOnOrRefuse(decodeEntry(catalogue[reading.type].stream, '1-0', fields));
      },
      { few: 800 },
    );
  });
}

const PROVENANCE = { key: 'k', cause: 'calendly-1-0', attempts: 1, ms: 1, waitedMs: 0, replay: undefined };

/** What no stage can take must end as a failure with a reason: not as a surprise, nor in a loop. */
function workOnOrRefuse(event: StoredEvent): void {
  try {
    workOn(event);
  } catch (error) {
    assert.instance(error, TerminalError, String(error));
  }
}

/** The stages without their calls to others. */
function workOn(event: StoredEvent): void {
  const followOn: NewEvent =
    event.type === 'readai.meeting_completed'
      ? { type: 'meeting.summarized', data: meetingOf(event, ['seller.example']) }
      : { type: 'lead.enriched', data: leadOf((event as StoredEvent<'calendly.invitee.created'>).data, []) };
  const flat = encodeFollowOn(followOn, PROVENANCE);
  const fields = Object.fromEntries(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]!]] : [])));
  const next = decodeEntry(catalogue[followOn.type].stream, '2-0', fields);
  if (next.type === 'meeting.summarized') {
    meetingNote(next);
    factsOf(next);
  } else if (next.type === 'lead.enriched') {
    bookingNote(next);
    bookingDescription(next);
    factsOf(next);
  }
}

const field = fc.oneof(
  hostileText,
  hostileValue.map((value) => JSON.stringify(value)),
);
const types = Object.keys(catalogue) as (keyof typeof catalogue)[];
const wild = fc.record(
  {
    type: fc.oneof(fc.constantFrom<string>(...types), hostileText),
    key: field,
    at: field,
    v: fc.oneof(
      fc.constantFrom('1', '1', '1', '0', '-1', '1.5', '1e3', ' 1', 'NaN', 'Infinity', '9'.repeat(30)),
      hostileText,
    ),
    cause: field,
    data: fc.oneof(
      field,
      damaged([...samplesOf('calendly'), ...samplesOf('readai')]).map((json) => JSON.stringify(json)),
    ),
    ['__proto__']: field,
  },
  { requiredKeys: [] },
);

entries('an entry is decoded, or refused as malformed without a word of what it holds', async () => {
  let withProto = 0;
  await holds(
    fc.tuple(wild, fc.constantFrom(...types)),
    ([fields, type]) => {
      if (Object.hasOwn(fields, '__proto__')) withProto += 1;
      const given = fields as Record<string, string>;
      try {
        const event = decodeEntry(catalogue[type].stream, '1-0', given);
        assert.is(event.key, given.key);
        assert.match(given.v!, /^[1-9]\d*$/);
      } catch (error) {
        assert.instance(error, TerminalError);
        assert.is((error as TerminalError).code, 'malformed_entry');
        assert.match((error as Error).message, /^[\x20-\x7e]{1,300}$/);
      }
    },
    { few: 800 },
  );
  assert.ok(withProto > 0);
});

entries('what the log is told of an error quotes neither text nor control characters', async () => {
  await holds(
    hostileText.filter((text) => text.trim().length > 3),
    (text) => {
      const planted = `PLANTED${text}`;
      const attempts = [
        () => JSON.parse(planted),
        () => BigInt(planted),
        () => new Intl.DateTimeFormat('en', { timeZone: planted }),
      ];
      for (const attempt of attempts) assert.not.match(logOf(errorOf(attempt)), 'PLANTED');
      const redis = new Error(`ERR unknown command 'AUTH', with args beginning with: '${planted}'`);
      assert.not.match(logOf(redis), 'PLANTED');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      assert.not.match(logOf(new TypeError(text)), /[\x00-\x1f\x7f-\x9f\u202e]|\\u001b/);
    },
    { few: 200 },
  );
});

function errorOf(attempt: () => unknown): unknown {
  try {
    return attempt();
  } catch (error) {
    return error;
  }
}

const logger = makeLogger({ level: 'info', name: 'fuzz', readable: false });

/** The line that would be written. */
function logOf(error: unknown): string {
  const symbol = Object.getOwnPropertySymbols(logger).find(({ description }) => description === 'pino.serializers')!;
  const { err } = (logger as unknown as Record<symbol, { err: (error: unknown) => unknown }>)[symbol]!;
  return JSON.stringify(err(error));
}

const bounds = suite('bounded work');

/** What patterns that go back and forth stumble over. */
const RUNS = [
  ...['/', '?', ' ', '\t', 'i', '(', '.', '@', 'a', '-', '[', '|', '"', '<', '&', '\u00e9', '\u200b', '\n'],
  ...['iv', '-a', 'a ', 'a.', '/a', '//', ' - ', '(a', 'a(', '\r\n', 'Dr. ', 'x, ', '0 ', '{"'],
];

bounds('long runs of one character take no longer than others of their length', () => {
  for (const run of RUNS) {
    const long = `${run.repeat(400_000)}!`;
    assert.type(lastSegment(long), 'string');
    assert.is(isUsableId(long), false);
    assert.is(isUsableId(long.slice(0, 257)), false);
  }
});

/** The work of a consumer on what was stored: the catalogue's shape, then the rules. */
function growthOfWork(work: (event: StoredEvent) => unknown, type: EventType, make: (size: number) => unknown) {
  const store = (size: number) => {
    const fields = { type, key: 'readai:meeting_completed:S', at: '2026-11-02T09:00:00Z', v: '1' };
    return decodeEntry(catalogue[type].stream, '1-0', { ...fields, data: JSON.stringify(make(size)) });
  };
  return growthOf(work, store, 2_000);
}

const workOnLead = (event: StoredEvent) => leadOf((event as StoredEvent<'calendly.invitee.created'>).data, []);

bounds('a lead is no more work by the character where every text of a booking is long', () => {
  for (const run of RUNS) {
    const growth = growthOfWork(workOnLead, 'calendly.invitee.created', (size) => {
      const text = `a${run.repeat(size / run.length)}!`;
      const many = [{ question: text, answer: text }];
      const location = { type: 'outbound_call', location: text };
      const members = [{ user_name: text, user_email: text }];
      return booking({
        ...{ uri: text, name: text, first_name: null, old_invitee: text, text_reminder_number: text, timezone: text },
        ...{ tracking: { utm_source: text, utm_medium: text }, questions_and_answers: many },
        scheduled_event: { uri: text, name: text, start_time: text, location, event_memberships: members },
      });
    });
    assert.ok(growth < GROWTH_MAX, `${JSON.stringify(run)}: ${growth.toFixed(1)}`);
  }
});

bounds('a routing form is no more work by the answer', () => {
  const growth = growthOfWork(workOnLead, 'calendly.routing_form_submission.created', (size) => ({
    ...{ event: 'routing_form_submission.created', created_at: '2026-11-02T09:00:00Z' },
    payload: {
      uri: 'https://api.calendly.com/routing_form_submissions/F-1',
      questions_and_answers: Array.from({ length: size / 10 }, (_, i) => ({
        question: `What is your email ${i}`,
        answer: `a${i}@b`,
      })),
    },
  }));
  assert.ok(growth < GROWTH_MAX, growth.toFixed(1));
});

bounds('a short name is split at once, whatever numerals and titles it is made of', () => {
  for (const run of ['iv', 'iiv', 'v', 'ph.d', 'Dr. ', 'md', 'van ', ', ']) {
    const name = `A, ${run.repeat(30)}`.slice(0, 68);
    const ratio = ratioOf(splitName, `${name}x`, 'A, Quite An Ordinary Name Of Someone Who Has Taken Very Many More');
    assert.ok(ratio < 100, `${run}: ${ratio.toFixed(1)}`);
  }
});

const workOnMeeting = (event: StoredEvent) => {
  const meeting = event as StoredEvent<'readai.meeting_completed'>;
  meetingOf(meeting, ['seller.example']);
  turnsOf(meeting.data, makeSideOfSpeaker(meeting.data, ['seller.example']));
};

const CROWDS: Record<string, (index: number) => string> = {
  'names of their own': (index) => `Person${index} Number${index}`,
  'a surname in common': (index) => `Person${index} Smith`,
  'one name in many spellings': (index) => `Ann${'-'.repeat(index % 50)} Smith (${index})`,
};
for (const [what, nameOf] of Object.entries(CROWDS)) {
  bounds(`a meeting is no more work by the head, with ${what}`, () => {
    const growth = growthOfWork(workOnMeeting, 'readai.meeting_completed', (size) => {
      const names = Array.from({ length: size / 32 }, (_, index) => nameOf(index));
      return report({
        participants: names.map((name) => ({ name })),
        transcript: { speaker_blocks: names.map((name) => ({ speaker: { name: `${name} X` }, words: 'We do.' })) },
      });
    });
    assert.ok(growth < GROWTH_MAX, growth.toFixed(1));
  });
}

bounds('a meeting is no more work by the character where every text is long', () => {
  for (const run of RUNS) {
    const growth = growthOfWork(workOnMeeting, 'readai.meeting_completed', (size) => {
      const text = `a${run.repeat(size / run.length)}!`;
      const person = { name: text, email: text };
      return report({
        ...{ title: text, summary: text, report_url: text, action_items: [{ text }] },
        ...{ owner: person, participants: [person, { first_name: text, last_name: text }] },
        transcript: { speaker_blocks: [{ speaker: { name: text }, words: text }] },
      });
    });
    assert.ok(growth < GROWTH_MAX, `${JSON.stringify(run)}: ${growth.toFixed(1)}`);
  }
});

bounds('an answer of a model is no more work by the character, good or not', () => {
  for (const run of [...RUNS, '```', '``` ', '```json\n', '{', '{}', '}{', '[[', '\\"']) {
    const text = (size: number) => `\`\`\`${run.repeat((4 * size) / run.length)}`;
    const good = growthOf(parseAnswer, (size) => JSON.stringify({ summary: text(size) }), 2_000);
    const bad = growthOf(parseAnswer, (size) => `Here: ${text(size)}`, 2_000);
    assert.ok(good < GROWTH_MAX && bad < GROWTH_MAX, `${JSON.stringify(run)}: ${good.toFixed(1)}, ${bad.toFixed(1)}`);
  }
});

bodies.run();
entries.run();
bounds.run();
