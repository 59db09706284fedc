/** Webhooks that arrive while Redis is away, and what becomes of them when it is back. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeIngestMetrics } from '../../src/ingest/metrics.js';
import { makeReadiness } from '../../src/ingest/readiness.js';
import { addSpoolMetrics } from '../../src/ingest/spool/metrics.js';
import { openSpool, type Spool } from '../../src/ingest/spool/spool.js';
import { makeAppend } from '../../src/lib/append.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { fieldsOf } from '../helpers/append-bench.js';
import {
  type Answer,
  errorOf,
  type IngestBench,
  MB,
  postCalendly,
  postReadai,
  send,
  startIngestBench,
} from '../helpers/ingest-bench.js';
import { PATIENT_MS } from '../helpers/spool-bench.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, report } from '../helpers/webhooks.js';

const test = suite('ingest with a spool');

let bench: IngestBench;
/** As in ingest itself: for what is drained nobody waits. */
let drainRedis: RedisClient;
let dir: string;
let spool: Spool;
let lines: Record<string, unknown>[];

test.before(async () => {
  bench = await startIngestBench();
  drainRedis = connectRedis({ url: bench.server.url, role: 'drain' });
});
test.after.each(async () => {
  await bench.server.restart();
  await waitFor('Redis', () => bench.ingest.status === 'ready');
  // Before Redis is emptied: what this spool still holds would be the next test's.
  await spool.stop();
  await bench.reset();
  rmSync(dir, { recursive: true, force: true });
});
test.after(async () => {
  drainRedis.disconnect();
  await bench.stop();
});

/** Serves ingest with a spool; answers its URL. */
async function start({ bytesMax = 64 * MB } = {}): Promise<string> {
  dir = mkdtempSync(join(tmpdir(), 'gvi-spool-'));
  lines = [];
  const common = { keyPrefix: '', idempotencyTtlS: 3_600 };
  const append = makeAppend({ ...common, redis: bench.ingest });
  const drainAppend = makeAppend({ ...common, redis: drainRedis, timeoutMs: PATIENT_MS });
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  spool = await openSpool({ dir, bytesMax, append, drainAppend, log, deadlineMs: PATIENT_MS });
  const metrics = makeIngestMetrics();
  addSpoolMetrics(metrics.registry, spool);
  return bench.start({
    append: spool.takeIn,
    ready: makeReadiness({ redis: bench.ingest, keys: makeKeys(''), spool }),
    metrics,
    metricsText: () => metrics.registry.metrics(),
    log,
  });
}

async function endRedis(): Promise<void> {
  bench.server.kill('SIGKILL');
  await waitFor('the connection to break', () => bench.ingest.status !== 'ready');
}

/** Once Redis is found to be so: one that answers late counts as down. */
function readyz(base: string, redis: string): Promise<Answer> {
  return waitFor(`Redis to be ${redis}`, async () => {
    const answer = await send(`${base}/readyz`);
    return answer.text.includes(`"redis":"${redis}"`) && answer;
  });
}

const isDrained = () => spool.figures().records === 0;
const bookingOf = (id: string) =>
  JSON.stringify(booking({ uri: `https://api.calendly.com/scheduled_events/E/invitees/${id}` }));
const keyOf = (id: string) => `calendly:invitee.created:${id}`;
const keysOf = async (stream: string) => (await bench.entriesOf(stream)).map((entry) => fieldsOf(entry).key!);

test('while Redis is away webhooks are taken to disk, and appended in order, byte for byte, when it is back', async () => {
  const base = await start();
  await endRedis();
  const first = await postCalendly(base, ` ${bookingOf('A')}`);
  const { spoolId } = first.body as { spoolId?: string };
  assert.match(spoolId!, /^spool-\d+$/);
  assert.equal([first.status, first.body], [202, { status: 'spooled', spoolId, idempotencyKey: keyOf('A') }]);
  for (const id of ['B', 'C', 'A']) assert.is((await postCalendly(base, bookingOf(id))).body.status, 'spooled');
  const meeting = await postReadai(base, JSON.stringify(report()));
  assert.is(meeting.body.idempotencyKey, 'readai:meeting_completed:01ADA0000000000000000000AA');
  const broken = await postReadai(base, Buffer.from([123, 255]));
  assert.equal([broken.status, broken.body.status], [202, 'spooled']);
  assert.match(broken.body.idempotencyKey!, /^rejected:readai:[0-9a-f]{64}$/);

  await bench.server.restart();
  await waitFor('the drain', isDrained);
  const entries = await bench.entriesOf('calendly');
  assert.equal(await keysOf('calendly'), ['A', 'B', 'C'].map(keyOf));
  assert.is(fieldsOf(entries[0]!).data, ` ${bookingOf('A')}`);
  assert.is((await bench.entriesOf('readai')).length, 1);
  assert.equal(await keysOf('rejected'), [broken.body.idempotencyKey]);
  const told = lines.find((line) => line.msg === 'spooled webhook' && line.spoolId === spoolId);
  assert.equal([told?.status, told?.key], ['accepted', keyOf('A')]);
  assert.ok(lines.some(({ msg }) => msg === 'the spool is drained'));
  await waitFor(
    'Redis to be used again',
    async () => (await postCalendly(base, bookingOf('D'))).body.status !== 'spooled',
  );
  await waitFor('the files to go', () => readdirSync(dir).filter((name) => name.endsWith('.spool')).length === 0);
});

test('a Redis that hangs, and one that is full, count as away', async () => {
  const base = await start();
  bench.server.kill('SIGSTOP');
  const hanging = await Promise.all(['A', 'B'].map((id) => postCalendly(base, bookingOf(id))));
  assert.equal(
    hanging.map(({ body }) => body.status),
    ['spooled', 'spooled'],
  );
  bench.server.kill('SIGCONT');
  await waitFor('the drain', isDrained);
  assert.equal((await keysOf('calendly')).sort(), ['A', 'B'].map(keyOf));

  await bench.redis.config('SET', 'maxmemory', '1');
  assert.is((await postCalendly(base, bookingOf('C'))).body.status, 'spooled');
  const ready = await readyz(base, 'not_writable');
  assert.equal([ready.status, ready.body], [200, { status: 'ready', redis: 'not_writable', spool: 'accepting' }]);
  await bench.redis.config('SET', 'maxmemory', '0');
  await waitFor('the drain', isDrained);
  assert.is((await keysOf('calendly')).at(-1), keyOf('C'));
});

test('under load, with Redis killed and back several times, nothing is lost, doubled or out of order', async () => {
  const base = await start();
  const senders = ['P', 'Q', 'R', 'S', 'T', 'U'];
  const taken = new Map<string, string[]>();
  const seen = new Set<string>();
  let isOver = false;
  const load = async (sender: string) => {
    const mine: string[] = [];
    taken.set(sender, mine);
    for (let number = 1; !isOver; number += 1) {
      const { status, body } = await postCalendly(base, bookingOf(`${sender}-${number}`));
      assert.is(status, 202);
      seen.add(body.status!);
      mine.push(keyOf(`${sender}-${number}`));
    }
  };
  const sent = Promise.all(senders.map(load));
  // It is awaited at the end; where the test fails before, that is what counts.
  sent.catch(() => {});
  for (let round = 1; round <= 3; round += 1) {
    const before = taken.get('P')!.length;
    await endRedis();
    await waitFor('some to be spooled', () => taken.get('P')!.length > before + 5);
    seen.clear();
    await bench.server.restart();
    // The load goes on: the spool is left all the same.
    await waitFor('Redis to be used again', () => seen.has('accepted'));
  }
  isOver = true;
  await sent;
  await waitFor('the drain', isDrained);
  const keys = await keysOf('calendly');
  for (const sender of senders) {
    assert.equal(
      keys.filter((key) => key.includes(`:${sender}-`)),
      taken.get(sender),
    );
  }
  assert.is(keys.length, [...taken.values()].flat().length);
});

test('while it takes webhooks the service is ready, and the figures say how many wait', async () => {
  const base = await start();
  const up = await readyz(base, 'up');
  assert.equal([up.status, up.body], [200, { status: 'ready', redis: 'up', spool: 'accepting' }]);
  await endRedis();
  await postCalendly(base, bookingOf('A'));
  await postCalendly(base, bookingOf('B'));
  const down = await send(`${base}/readyz`);
  assert.equal([down.status, down.body], [200, { status: 'ready', redis: 'down', spool: 'accepting' }]);
  await waitFor('the front to be looked at', async () =>
    /^gvi_spool_oldest_age_seconds [\d.]*[1-9]/m.test((await send(`${base}/metrics`)).text),
  );
  const { text } = await send(`${base}/metrics`);
  assert.match(text, /^gvi_spool_records 2$/m);
  assert.match(text, /^gvi_spool_bytes [1-9]\d{3}$/m);
  assert.match(text, /^gvi_spool_unreadable 0$/m);
});

test('a full spool is answered as an outage, and says so', async () => {
  const base = await start({ bytesMax: 4_000 });
  await endRedis();
  const answers = [];
  const isFull = () => lines.some(({ reason }) => reason === 'the spool is full');
  while (!isFull()) answers.push(await postCalendly(base, bookingOf(String(answers.length))));
  const refused = answers.at(-1)!;
  assert.equal(errorOf(refused), [503, 'unavailable']);
  assert.is(refused.headers.get('retry-after'), '5');
  const ready = await send(`${base}/readyz`);
  assert.equal([ready.status, ready.body], [503, { status: 'unavailable', redis: 'down', spool: 'full' }]);
  await bench.server.restart();
  await waitFor('the drain', isDrained);
  assert.is((await keysOf('calendly')).length, answers.filter(({ status }) => status === 202).length);
});

test.run();
