/** What is appended from the spool a second time: no delivery makes two entries, wherever a crash or a lost reply fell. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Append, StoreUnavailableError } from '../../src/lib/append.js';
import { booked, fieldsOf, reported } from '../helpers/append-bench.js';
import { type SpoolBench, startSpoolBench } from '../helpers/spool-bench.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('repeats of what was spooled');

let bench: SpoolBench;

test.before(async () => {
  bench = await startSpoolBench();
});
test.after.each(() => bench.reset());
test.after(() => bench.stop());

const KEY = 'calendly:invitee.created:N-1';
const OLD_SEGMENT = join(import.meta.dirname, '..', 'fixtures', 'former-versions', 'spool-v1-without-delivery.spool');

/** As if the pipeline had given up on the event. */
const fail = (key: string) => bench.redis.hset(`progress:${key}`, 'state', 'failed');
const entriesOf = (stream: string) => bench.redis.xrange(`events:${stream}`, '-', '+');
const statuses = () => bench.logLines().flatMap(({ msg, status }) => (msg === 'spooled webhook' ? [status] : []));

/** Drains what lies in the directory, and gives that free. */
async function drain(): Promise<void> {
  const spool = await bench.open();
  await waitFor('the drain', () => spool.figures().records === 0);
  await spool.stop();
}

/** As a crash before anything of a drain came to disk leaves it: the same files again. */
async function drainTwice(meanwhile: () => Promise<unknown>): Promise<void> {
  const files = bench
    .segments()
    .map((name) => ({ path: join(bench.dir, name), bytes: readFileSync(join(bench.dir, name)) }));
  await drain();
  await meanwhile();
  for (const { path, bytes } of files) writeFileSync(path, bytes);
  await drain();
}

test('a direct append whose reply was lost, and whose event failed before the drain, is no second entry', async () => {
  let isReplyLost = true;
  const append: Append = async (...args) => {
    const answer = await bench.append(...args);
    if (!isReplyLost) return answer;
    isReplyLost = false;
    await fail(KEY);
    throw new StoreUnavailableError('lost', { cause: new Error('no reply within 800 ms') });
  };
  const spool = await bench.open({ append });
  assert.is((await spool.takeIn(booked('first', KEY))).status, 'spooled');
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.is((await entriesOf('calendly')).length, 1);
  assert.equal(statuses(), ['duplicate']);
  assert.is(await bench.redis.hget(`progress:${KEY}`, 'state'), 'failed');
});

test('records that come back after a crash are no second entries, also of events that failed meanwhile', async () => {
  await bench.fill();
  const spool = await bench.open();
  const meetingKey = reported('A').key;
  for (const webhook of [booked('first', KEY), reported('A'), reported('B', 'q2')]) await spool.takeIn(webhook);
  await spool.stop();
  await bench.empty();
  await drainTwice(() => Promise.all([KEY, meetingKey, `${meetingKey}:r2`].map(fail)));
  assert.equal([(await entriesOf('calendly')).length, (await entriesOf('readai')).length], [1, 2]);
  assert.equal(statuses(), ['accepted', 'accepted', 'accepted', 'duplicate', 'duplicate', 'duplicate']);
});

test('of two deliveries in the spool the second is a new try where the first has failed, and each is one entry', async () => {
  await bench.fill();
  const spool = await bench.open();
  for (const content of ['first', 'first']) await spool.takeIn(booked(content, KEY));
  await spool.stop();
  await bench.empty();
  const append: Append = async (...args) => {
    const answer = await bench.append(...args);
    await fail(KEY);
    return answer;
  };
  const draining = await bench.open({ append });
  await waitFor('the drain', () => draining.figures().records === 0);
  const names = (await entriesOf('calendly')).map((entry) => fieldsOf(entry).delivery);
  assert.equal([names.length, new Set(names).size], [2, 2]);
});

test('a record of the version that gave deliveries no name is read, and makes one entry as well', async () => {
  mkdirSync(bench.dir);
  copyFileSync(OLD_SEGMENT, join(bench.dir, '1763900000000000.spool'));
  await drainTwice(() => fail(KEY));
  assert.is((await entriesOf('calendly')).length, 1);
  assert.equal(statuses(), ['accepted', 'duplicate']);
});

test.run();
