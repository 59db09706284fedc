/**
 * What no version of this service would write, put into the streams by hand, while a worker runs: each such entry ends in
 * exactly one failure with a clear code, what stands beside it is done, and what people look with copes.
 */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeEntry } from '../../src/lib/codec.js';
import { parseConfig } from '../../src/lib/config.js';
import { makeDebugQueries } from '../../src/lib/debug.js';
import { TerminalError } from '../../src/lib/errors.js';
import { makeEventId, type StreamName } from '../../src/lib/event-id.js';
import { catalogue, type EventType, GROUPS, STREAMS, streamsOf } from '../../src/lib/events.js';
import { readOverview } from '../../src/lib/overview.js';
import { holds } from '../helpers/fuzz.js';
import { runGvi, startGvi, withoutWait } from '../helpers/gvi.js';
import { damaged, hostileText, hostileValue, samplesOf } from '../helpers/hostile.js';
import { type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking } from '../helpers/worker.js';

const test = suite('streams under fuzz');

const KEY_PREFIX = 'fuzz:';
const PATIENCE_MS = 60_000;

let server: TestRedis;
let pipeline: Pipeline;
/** By event id: the stream, and why it cannot be decoded. */
const bad = new Map<string, { stream: StreamName; message: string }>();
const good: string[] = [];
/** All that was put there by hand. */
const put: string[] = [];
let withProto = 0;

test.before(async () => {
  server = await startRedis();
  pipeline = await startPipeline({ redisUrl: server.url, keyPrefix: KEY_PREFIX, env: { DRY_RUN: 'true' } });
});
test.after(async () => {
  await pipeline.stop();
  await server.stop();
});

type Fields = Record<string, string | Buffer>;

const SAMPLES = [...samplesOf('calendly'), ...samplesOf('readai')];
const text = fc.oneof(
  hostileText,
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
);
const data = fc.oneof(
  { weight: 3, arbitrary: damaged(SAMPLES).map((json) => JSON.stringify(json)) },
  { weight: 2, arbitrary: hostileValue.map((value) => JSON.stringify(value)) },
  { weight: 1, arbitrary: text },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '['.repeat(100_000),
      `${'['.repeat(50_000)}${']'.repeat(50_000)}`,
      `"${'x'.repeat(2e6)}"`,
    ),
  },
);
/** Stands for the id that the entry will have. */
const ITSELF = 'itself';
const fields: fc.Arbitrary<Fields> = fc.record(
  {
    type: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...Object.keys(catalogue)) },
      { weight: 1, arbitrary: text },
    ),
    // A newer version would wait for a newer worker, so there is none among them.
    v: fc.constantFrom('1', '1', '1', '0', '-1', '1.5', 'NaN', '1e3', ' ', 'Infinity', '9'.repeat(40)),
    at: text,
    cause: fc.oneof(text, fc.constantFrom('calendly-1-0', 'events:calendly-1-0', '-', ITSELF)),
    data,
    attempts: text,
    hash: text,
    ['__proto__']: text,
    constructor: text,
  },
  { requiredKeys: [] },
);

async function putByHand(stream: StreamName, { ...given }: Fields, key: string | undefined): Promise<void> {
  const all: Fields = { ...given, ...(key === undefined ? {} : { key }), note: 'by hand' };
  const id = await add(stream, all);
  const eventId = makeEventId(stream, id);
  put.push(eventId);
  if (Object.hasOwn(all, '__proto__')) withProto += 1;
  const read = Object.fromEntries(Object.entries(all).map(([name, value]) => [name, value.toString()]));
  try {
    decodeEntry(stream, id, read);
  } catch (error) {
    assert.instance(error, TerminalError);
    bad.set(eventId, { stream, message: (error as Error).message });
  }
}

/** Under the next id of the stream, where the entry names itself; the workers may write there as well. */
async function add(stream: StreamName, all: Fields): Promise<string> {
  const key = pipeline.keys.stream(stream);
  if (all.cause !== ITSELF) return (await pipeline.redis.xadd(key, '*', ...Object.entries(all).flat())) as string;
  for (;;) {
    const [last] = await pipeline.redis.xrevrange(key, '+', '-', 'COUNT', 1);
    const [ms = '1', sequence = '0'] = (last?.[0] ?? '1-0').split('-');
    const id = `${ms}-${BigInt(sequence) + 1n}`;
    const flat = Object.entries({ ...all, cause: makeEventId(stream, id) }).flat();
    try {
      return (await pipeline.redis.xadd(key, id, ...flat)) as string;
    } catch (error) {
      if (!/equal or smaller/.test((error as Error).message)) throw error;
    }
  }
}

async function sendGood(): Promise<void> {
  good.push(await pipeline.send('calendly', booking(`good-${good.length}`)));
}

async function rest(): Promise<void> {
  await waitFor(
    'the pipeline to be at rest',
    async () => {
      const { groups } = await readOverview(pipeline);
      return Object.values(groups).every(({ backlog, pending, parked }) => backlog + pending + parked === 0);
    },
    PATIENCE_MS,
  );
}

test('each bad entry ends in one failure with a clear code, and the good between them are done', async () => {
  let count = 0;
  await holds(
    fc.tuple(fc.constantFrom(...STREAMS), fields, fc.option(hostileText, { nil: undefined })),
    async ([stream, given, key]) => {
      count += 1;
      // Told apart by a number, as an event that is done already is only acknowledged.
      await putByHand(stream, given, key === undefined ? undefined : `${key}${count}`);
      if (count % 10 === 0) await sendGood();
    },
    { few: 250 },
  );
  await sendGood();
  for (const eventId of good) assert.is((await pipeline.finished(eventId)).status, 'processed');
  await rest();

  const told = await readOutcomes();
  const isHeard = (stream: StreamName) => GROUPS.some((group) => streamsOf(group).includes(stream));
  for (const [eventId, { stream, message }] of bad) {
    if (!isHeard(stream)) continue;
    assert.is(told.get(eventId)?.length, 1, `${eventId} has ${told.get(eventId)?.length ?? 0} outcomes: ${message}`);
    assert.is(told.get(eventId)![0], streamsOf('alert').includes(stream) ? 'alert.sent' : 'malformed_entry');
  }
  assert.ok(bad.size > 50);
  assert.ok(withProto > 0);
});

/** By the entry that is done with: the codes of its failures, or that it went to the log. */
async function readOutcomes(): Promise<Map<string, string[]>> {
  const outcomes = new Map<string, string[]>();
  const add = (eventId: string, outcome: string) => outcomes.set(eventId, [...(outcomes.get(eventId) ?? []), outcome]);
  for (const { eventId, type, body } of await readOwn('events:failed')) {
    if (type !== 'event.failed' || bad.has(eventId)) continue;
    assert.match(body.error.message, /^[\x20-\x7e]{1,300}$/, 'a message that quotes');
    add(body.eventId, body.error.code);
  }
  for (const { eventId, type, body } of await readOwn('events:alerted')) {
    if (type === 'alert.sent' && !bad.has(eventId)) add(body.failureId, 'alert.sent');
  }
  return outcomes;
}

/** What the workers wrote; what was put there by hand has a note. */
async function readOwn(stream: StreamName) {
  const entries = await pipeline.redis.xrange(pipeline.keys.stream(stream), '-', '+');
  return entries.flatMap(([id, flat]) => {
    const at = (name: string) => flat[flat.lastIndexOf(name) + 1]!;
    if (flat.includes('by hand')) return [];
    return [{ eventId: makeEventId(stream, id), type: at('type'), body: JSON.parse(at('data')) }];
  });
}

test('an entry under the key of an event that is done is acknowledged, and changes nothing of that', async () => {
  const [done] = good;
  const { key } = await pipeline.finished(done!);
  const failedBefore = (await readOwn('events:failed')).length;
  await putByHand('events:calendly', { type: 'calendly.invitee.created', v: '1', data: '{' }, key);
  await rest();
  assert.is((await readOwn('events:failed')).length, failedBefore);
  assert.is((await pipeline.finished(done!)).status, 'processed');
});

test('the projector has passed them all, and knows the last good lead', async () => {
  const email = `good-${good.length - 1}@brightwater.example`;
  const state = await waitFor(
    'the lead',
    () => pipeline.redis.get(pipeline.keys.projection('lead', email)),
    PATIENCE_MS,
  );
  assert.ok(JSON.parse(state).events.length > 0);
  const heard: EventType[] = ['lead.enriched', 'meeting.summarized', 'lead.synced'];
  for (const stream of heard.map((type) => catalogue[type].stream)) {
    const [last] = await pipeline.redis.xrevrange(pipeline.keys.stream(stream), '+', '-', 'COUNT', 1);
    await waitFor(
      `the projector to reach the end of ${stream}`,
      async () => (await pipeline.redis.hget(pipeline.keys.projector('lead'), stream)) === last?.[0],
      PATIENCE_MS,
    );
  }
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const STEERS = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
const settings = () => ({ REDIS_URL: server.url, KEY_PREFIX });

test('`gvi status`, `failed` and `show` tell of them, with and without --json', async () => {
  const [first] = bad.keys();
  for (const args of [['status'], ['failed'], ['show', first!], ['show', good[0]!]]) {
    for (const json of [[], ['--json']]) {
      const { code, stdout, stderr } = await runGvi([...args, ...json], settings());
      assert.is(code, 0, `${args.join(' ')}: ${stderr}`);
      assert.not.match(stderr, /\n\s+at /);
      assert.not.match(stdout, STEERS);
      if (json.length > 0) assert.type(JSON.parse(stdout), 'object');
    }
  }
});

test('`gvi tail` follows them and prints nothing that steers a terminal', async () => {
  const last = (await readOwn('events:synced')).at(-1)!.eventId;
  const gvi = startGvi(['tail', '--since', '0'], settings());
  await waitFor('the last line', () => gvi.stdout().includes(last), PATIENCE_MS);
  gvi.child.kill('SIGINT');
  assert.is(await gvi.exited, 0);
  assert.not.match(gvi.stdout(), STEERS);
  assert.is(withoutWait(gvi.stderr()), '');
});

test('the debug answers can be written as JSON for every entry, whatever it holds', async () => {
  const config = parseConfig(settings());
  const debug = makeDebugQueries({ redis: pipeline.redis, keys: pipeline.keys, config });
  assert.ok(JSON.stringify(await debug.info()).length > 0);
  for (const eventId of put) {
    const chain = await debug.event(eventId);
    assert.type(chain?.eventId, 'string');
    assert.ok(JSON.stringify(chain).length > 0);
  }
});

test.run();
