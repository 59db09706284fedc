import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NotYetError } from '../../src/lib/errors.js';
import { makeKeys } from '../../src/lib/keys.js';
import { type Intent, makeLeadLedger } from '../../src/lib/lead-ledger.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { failureOf } from '../helpers/failure-of.js';
import type { TestRedis } from '../helpers/redis-server.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('leases and intents of leads');

let server: TestRedis;
let redis: RedisClient;
const keys = makeKeys('p:');
const ledgerOf = (owner: string, leaseMs = 10_000) => makeLeadLedger({ redis, keys, owner, leaseMs });

shareRedis(test, (shared) => {
  ({ server, redis } = shared);
});

test('two workers never hold one lead at once, and a lead that is given up can be taken', async () => {
  const first = await ledgerOf('a').lease(['x@a.example', 'y@a.example']);
  assert.equal([...first.emails], ['x@a.example', 'y@a.example']);
  const second = await ledgerOf('b').lease(['y@a.example', 'z@a.example']);
  assert.equal([...second.emails], ['z@a.example']);
  await first.release();
  const third = await ledgerOf('b').lease(['y@a.example']);
  assert.equal([...third.emails], ['y@a.example']);
  await Promise.all([second.release(), third.release()]);
  assert.is(await redis.exists('p:lease:leads'), 0);
});

test('further leads can be taken, those that are free; they are kept and given up with the first', async () => {
  const ledger = ledgerOf('a');
  const other = await ledger.lease(['z@a.example']);
  const first = await ledger.lease(['x@a.example']);
  await first.add(['x@a.example', 'y@a.example', 'z@a.example']);
  assert.equal([...first.emails], ['x@a.example', 'y@a.example']);
  const endOf = async () => Number((await redis.hget('p:lease:leads', 'y@a.example'))!.split('|')[1]);
  const end = await endOf();
  await waitFor('the lease to be renewed', async () => (await endOf()) > end);
  first.assertHeld();
  await Promise.all([first.release(), other.release()]);
  assert.is(await redis.exists('p:lease:leads'), 0);
});

test('two batches of one worker hold different leads', async () => {
  const ledger = ledgerOf('a');
  const first = await ledger.lease(['x@a.example']);
  const second = await ledger.lease(['x@a.example']);
  assert.is(second.emails.size, 0);
  await Promise.all([first.release(), second.release()]);
});

test('the lease of a worker that died ends by itself; one that is held is kept', async () => {
  await redis.hset('p:lease:leads', 'x@a.example', `dead|${Date.now() - 1}`);
  const held = await ledgerOf('a').lease(['x@a.example']);
  assert.is(held.emails.size, 1);
  const ends: string[] = [];
  await waitFor('the lease to be renewed twice', async () => {
    const end = await redis.hget('p:lease:leads', 'x@a.example');
    if (end !== null && !ends.includes(end)) ends.push(end);
    return ends.length >= 3;
  });
  await held.release();
});

test('of workers that died no lease is left, once the last one has ended', async () => {
  await ledgerOf('dead', 5_000).lease(['x@a.example']);
  await redis.hset('p:lease:leads', 'y@a.example', `long dead|${Date.now() - 1}`);
  const held = await ledgerOf('a', 100).lease(['z@a.example']);
  await held.release();
  assert.equal((await redis.hkeys('p:lease:leads')).sort(), ['x@a.example', 'y@a.example']);
  const ttl = await redis.pttl('p:lease:leads');
  assert.ok(ttl > 100 && ttl <= 5_000, `the leases go after ${ttl} ms`);
});

const intent = (order: string, field: string, value: string): Intent => ({
  wrote: { order, fields: { [field]: value } },
});

test('an intent is remembered until the receipt of its event stands, and another event’s stays', async () => {
  const ledger = ledgerOf('a');
  const lease = await ledger.lease(['x@a.example']);
  await lease.saveIntents(new Map([['x@a.example', new Map([['e1', intent('o1', 'Company', '2abc')]])]]));
  assert.equal(
    await ledger.readIntents(['x@a.example', 'y@a.example']),
    new Map([
      ['x@a.example', new Map([['e1', intent('o1', 'Company', '2abc')]])],
      ['y@a.example', new Map()],
    ]),
  );
  await lease.saveIntents(new Map([['x@a.example', new Map([['e2', intent('o2', 'Phone', '2def')]])]]));
  await ledger.dropIntents([['x@a.example', 'e1']]);
  const left = new Map([['e2', intent('o2', 'Phone', '2def')]]);
  assert.equal((await ledger.readIntents(['x@a.example'])).get('x@a.example'), left);
  await lease.release();
  const next = await ledger.lease(['x@a.example']);
  assert.equal(next.intentsOf('x@a.example'), left, 'whoever holds the lead next knows');
  await ledger.dropIntents([['x@a.example', 'e2']]);
  assert.is(await redis.exists('p:ledger:leads'), 0);
  await next.release();
});

test('what another has meanwhile got its receipt for is not noted again by who has read it before', async () => {
  const ledger = ledgerOf('a');
  const first = await ledger.lease(['x@a.example']);
  await first.saveIntents(new Map([['x@a.example', new Map([['e1', intent('o1', 'Company', '2abc')]])]]));
  await first.release();
  const second = await ledgerOf('b').lease(['x@a.example']);
  await ledger.dropIntents([['x@a.example', 'e1']]);
  const own = ['e2', intent('o2', 'Phone', '2def')] as const;
  await second.saveIntents(new Map([['x@a.example', new Map([...second.intentsOf('x@a.example'), own])]]));
  assert.equal((await ledger.readIntents(['x@a.example'])).get('x@a.example'), new Map([own]));
  const changed = ['e2', intent('o2', 'Phone', '2xyz')] as const;
  await second.saveIntents(new Map([['x@a.example', new Map([changed])]]));
  assert.equal((await ledger.readIntents(['x@a.example'])).get('x@a.example'), new Map([changed]));
  await second.release();
});

test('who has lost a lease can neither save nor write, and is told at once', async () => {
  const held = await ledgerOf('a').lease(['x@a.example', 'y@a.example']);
  held.assertHeld();
  await redis.hset('p:lease:leads', 'y@a.example', `b|${Date.now() + 60_000}`);
  const saving = held.saveIntents(new Map([['y@a.example', new Map([['e1', intent('o1', 'Company', '2abc')]])]]));
  assert.instance(await failureOf(saving), NotYetError);
  assert.is(held.signal.aborted, true);
  assert.throws(
    () => held.assertHeld(),
    (error: unknown) => error instanceof NotYetError,
  );
  assert.is(await redis.exists('p:ledger:leads'), 0, 'nothing was saved');
  await held.release();
  assert.equal(Object.keys(await redis.hgetall('p:lease:leads')), ['y@a.example'], 'what is another’s is left');
});

test('a lease that is gone from Redis is not made again, and stops what runs under it', async () => {
  const held = await ledgerOf('a', 300).lease(['x@a.example']);
  await redis.flushall();
  await waitFor('the loss to be noticed', () => held.signal.aborted);
  assert.is(await redis.exists('p:lease:leads'), 0);
  await held.release();
});

test('a lease of a dead worker from before the clock of Redis went back holds nobody up', async () => {
  await redis.hset('p:lease:leads', 'x@a.example', `dead|${Date.now() + 3_600_000}`);
  const lease = await ledgerOf('a').lease(['x@a.example']);
  assert.equal([...lease.emails], ['x@a.example']);
  await lease.release();
});

test('a lease that cannot be renewed while Redis is away ends by itself', async () => {
  const client = server.connect({ maxRetriesPerRequest: null }) as unknown as RedisClient;
  const ledger = makeLeadLedger({ redis: client, keys, owner: 'a', leaseMs: 400 });
  const held = await ledger.lease(['x@a.example']);
  server.kill('SIGSTOP');
  await waitFor('the lease to end', () => held.signal.aborted);
  assert.throws(
    () => held.assertHeld(),
    (error: unknown) => error instanceof NotYetError,
  );
  server.kill('SIGCONT');
  await held.release();
  client.disconnect();
});

test('what is known from before a new connection is not relied on', async () => {
  const client = server.connect() as unknown as RedisClient;
  const ledger = makeLeadLedger({ redis: client, keys, owner: 'a', leaseMs: 10_000 });
  const first = await ledger.lease(['x@a.example']);
  assert.ok(ledger.remembersSince() <= first.takenAt);
  await first.release();
  client.disconnect(true);
  await waitFor('the new connection', () => ledger.remembersSince() === Number.POSITIVE_INFINITY);
  const second = await ledger.lease(['x@a.example']);
  assert.is(ledger.remembersSince(), second.takenAt);
  await second.release();
  client.disconnect();
});

test('as many leads as may come together are leased, saved and dropped in one call each', async () => {
  const ledger = ledgerOf('a');
  const emails = Array.from({ length: 9_000 }, (_, index) => `n${index}@a.example`);
  const lease = await ledger.lease(emails);
  assert.is(lease.emails.size, 9_000);
  await lease.saveIntents(new Map(emails.map((email) => [email, new Map([['e1', intent('o1', 'Company', '2abc')]])])));
  assert.is(await redis.hlen('p:ledger:leads'), 9_000);
  await ledger.dropIntents(emails.map((email) => [email, 'e1']));
  assert.is(await redis.hlen('p:ledger:leads'), 0);
  await lease.release();
  assert.is(await redis.exists('p:lease:leads'), 0);
});

test.run();
