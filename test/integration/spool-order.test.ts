/** The order in which webhooks came is the order of their entries: into an outage, through it, and out of it. */
import { mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Spool } from '../../src/ingest/spool/spool.js';
import { type Append, makeAppend, StoreUnavailableError } from '../../src/lib/append.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { booked } from '../helpers/append-bench.js';
import { startLink, type TestLink } from '../helpers/redis-link.js';
import { type SpoolBench, startSpoolBench } from '../helpers/spool-bench.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('the order of arrival, with a spool');

let bench: SpoolBench;
let link: TestLink;
let client: RedisClient;
let append: Append;

test.before(async () => {
  bench = await startSpoolBench();
});
test.before.each(async () => {
  link = await startLink(bench.server.port);
  client = connectRedis({ url: `redis://127.0.0.1:${link.port}`, role: 'ingest' });
  append = makeAppend({ redis: client, keyPrefix: '', idempotencyTtlS: 3_600 });
  await waitFor('the connection', () => client.status === 'ready');
});
test.after.each(async () => {
  await bench.reset();
  client.disconnect();
  await link.stop();
});
test.after(() => bench.stop());

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const keyOf = (number: number) => `calendly:invitee.created:N-${number}`;
const takeIn = (spool: Spool, number: number) => spool.takeIn(booked('first', keyOf(number)));
const isDrained = (spool: Spool) => spool.figures().records === 0;
const read = () => bench.keysOf('calendly');

test('what waits for a Redis that hangs is not overtaken by what comes once that is known', async () => {
  const spool = await bench.open({ append });
  await takeIn(spool, 1);
  link.swallow();
  const first = takeIn(spool, 2);
  await sleep(500);
  const second = takeIn(spool, 3);
  await first;
  await Promise.all([second, takeIn(spool, 4)]);
  link.heal();
  await waitFor('the drain', () => isDrained(spool));
  assert.equal(await read(), numbers(4).map(keyOf));
});

test('what is on its way to Redis as that is found away is taken by it all the same where the disk refuses', async () => {
  const answers: ((error?: Error) => void)[] = [];
  const answering: Append = async (...args) => {
    const cause = await new Promise<Error | undefined>((resolve) => answers.push(resolve));
    if (cause) throw new StoreUnavailableError('lost', { cause });
    return bench.append(...args);
  };
  const spool = await bench.open({ append: answering, bytesMax: 8 });
  const first = takeIn(spool, 1).catch((error: Error) => error.name);
  const second = takeIn(spool, 2);
  answers[0]!(new Error('no reply within 800 ms'));
  assert.is(await first, 'StoreUnavailableError');
  answers[1]!();
  assert.is((await second).status, 'accepted');
});

test('at the end of a drain, what has waited for it for longest goes first', async () => {
  await bench.fill();
  const gates: (() => void)[] = [];
  const drainAppend: Append = async (...args) => {
    await new Promise<void>((resolve) => gates.push(resolve));
    return bench.append(...args);
  };
  const spool = await bench.open({ drainAppend });
  for (const number of [1, 2]) await takeIn(spool, number);
  await bench.empty();
  await waitFor('the first', () => gates.length === 1);
  gates.shift()!();
  await waitFor('the second', () => gates.length === 1);
  // By a clock of the test's own: what waits for longer than it may goes to disk.
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const first = takeIn(spool, 3);
    mock.timers.tick(100);
    const second = takeIn(spool, 4);
    mock.timers.tick(150);
    gates.shift()!();
    assert.equal(
      (await Promise.all([first, second])).map(({ status }) => status),
      ['accepted', 'accepted'],
    );
  } finally {
    mock.timers.reset();
  }
  assert.equal(await read(), numbers(4).map(keyOf));
});

test('under a load that goes on all the time none overtakes another', async () => {
  const spool = await bench.open({ append });
  const answers: Promise<unknown>[] = [];
  /** Until one of what it sends is answered so. */
  const sendUntil = async (status: string) => {
    let isAnswered = false;
    await waitFor(`one to be ${status}`, () => {
      const answer = takeIn(spool, answers.length + 1).then((taken) => {
        isAnswered ||= taken.status === status;
      });
      answers.push(answer);
      return isAnswered;
    });
  };
  await sendUntil('accepted');
  link.swallow();
  await sendUntil('spooled');
  link.heal();
  await sendUntil('accepted');
  await Promise.all(answers);
  await waitFor('the drain', () => isDrained(spool));
  assert.equal(await read(), numbers(answers.length).map(keyOf));
});

test.run();
