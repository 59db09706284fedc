import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { makeLeadLedger } from '../../src/lib/lead-ledger.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('leases and intents of leads');

let server: Awaited<ReturnType<typeof startRedis>>;
let redis: RedisClient;
const keys = makeKeys('p:');
const ledgerOf = (owner: string, leaseMs = 10_000) => makeLeadLedger({ redis, keys, owner, leaseMs });

test.before(async () => {
  server = await startRedis();
  redis = server.connect() as unknown as RedisClient;
});
test.before.each(async () => {
  await redis.flushall();
});
test.after(() => server.stop());

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

test('two batches of one worker hold different leads', async () => {
  const ledger = ledgerOf('a');
  const first = await ledger.lease(['x@a.example']);
  const second = await ledger.lease(['x@a.example']);
  assert.is(second.emails.size, 0);
  await Promise.all([first.release(), second.release()]);
});

test('the lease of a worker that died ends by itself; one that is held is kept', async () => {
  await redis.hset('p:lease:leads', 'x@a.example', `dead|${Date.now() - 1}`);
  const held = await ledgerOf('a', 60).lease(['x@a.example']);
  assert.is(held.emails.size, 1);
  const ends: string[] = [];
  await waitFor('the lease to be renewed twice', async () => {
    const end = await redis.hget('p:lease:leads', 'x@a.example');
    if (end !== null && !ends.includes(end)) ends.push(end);
    return ends.length >= 3;
  });
  await held.release();
});

test('an intent is remembered until its receipt stands, and what was added since stays', async () => {
  const ledger = ledgerOf('a');
  const saved = await ledger.saveIntents(new Map([['x@a.example', { written: { o1: { Company: '2abc' } } }]]));
  assert.equal((await ledger.readIntents(['x@a.example', 'y@a.example'])).get('x@a.example'), {
    written: { o1: { Company: '2abc' } },
  });
  const later = await ledger.saveIntents(new Map([['x@a.example', { written: { o2: { Phone: '2def' } } }]]));
  await ledger.dropIntents(saved);
  assert.equal((await ledger.readIntents(['x@a.example'])).get('x@a.example')?.written, {
    o1: { Company: '2abc' },
    o2: { Phone: '2def' },
  });
  await ledger.dropIntents(later);
  assert.is((await ledger.readIntents(['x@a.example'])).size, 0);
});

test.run();
