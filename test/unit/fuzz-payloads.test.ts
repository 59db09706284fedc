/** Whatever passes a schema must pass what comes after it: no throw, no endless work, nothing that a later stage cannot take. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { factsOf } from '../../src/consumers/crm-sync/lead-facts.js';
import { bookingDescription, bookingNote, meetingNote } from '../../src/consumers/crm-sync/note-text.js';
import { leadOf } from '../../src/consumers/enrich.js';
import { meetingOf } from '../../src/consumers/summarize.js';
import { parseJson } from '../../src/ingest/parse-json.js';
import { makeSources } from '../../src/ingest/sources/index.js';
import { isUsableId, lastSegment } from '../../src/ingest/sources/source.js';
import { decodeEntry, encodeFollowOn } from '../../src/lib/codec.js';
import { TerminalError } from '../../src/lib/errors.js';
import { catalogue, type NewEvent, type StoredEvent } from '../../src/lib/events.js';
import { makeLogger } from '../../src/lib/logger.js';
import { holds } from '../helpers/fuzz.js';
import { damaged, hostileBody, hostileText, hostileValue, samplesOf } from '../helpers/hostile.js';

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
    __proto__: field,
  },
  { requiredKeys: [] },
);

entries('an entry is decoded, or refused as malformed without a word of what it holds', async () => {
  await holds(
    fc.tuple(wild, fc.constantFrom(...types)),
    ([fields, type]) => {
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

bounds('long runs of one character take no longer than others of their length', () => {
  for (const character of ['/', '?', ' ', '\t', 'i', '(', '.', '@', 'a']) {
    const long = `${character.repeat(400_000)}!`;
    assert.type(lastSegment(long), 'string');
    assert.is(isUsableId(long), false);
    assert.is(isUsableId(long.slice(0, 257)), false);
  }
});

bodies.run();
entries.run();
bounds.run();
