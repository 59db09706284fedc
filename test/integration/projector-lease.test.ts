/** One worker at a time projects, and another one takes over when it dies. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { makeLease } from '../../src/lib/lease.js';
import { PROJECTOR_LEASE_MS, type Projection, type Projector, startProjector } from '../../src/lib/projector.js';
import type { RedisClient } from '../../src/lib/redis.js';
import type { TestRedis } from '../helpers/redis-server.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('the lease of the projector');
const keys = makeKeys('');
const LEASE = keys.lease('projector');
/** Within two seconds the projections are at rest; the rest is for a slow machine. */
const AT_REST_MS = 8_000;

let server: TestRedis;
let redis: RedisClient;
const projectors: Projector[] = [];

shareRedis(test, (shared) => {
  ({ server, redis } = shared);
});
test.after.each(async () => {
  await Promise.all(projectors.splice(0).map((projector) => projector.stop()));
});

/** A projector on a connection of its own, and how many entries it has folded. */
function start(owner: string) {
  const client = server.connect({ maxRetriesPerRequest: 0 }) as unknown as RedisClient;
  const folded = { count: 0 };
  const counting: Projection<{ events: string[] }> = {
    ...{ name: 'seen', version: 1, on: ['alert.sent'], ids: () => ['all'] },
    evolve(state = { events: [] }, event) {
      folded.count += 1;
      return { events: [...state.events, event.id] };
    },
  };
  const projections = [counting as Projection];
  const log = pino({ level: 'silent' });
  projectors.push(startProjector({ redis: client, keys, projections, owner, log }));
  return { folded, die: () => client.disconnect() };
}

async function add(count: number): Promise<void> {
  const data = JSON.stringify({ failureId: 'failed-1-0', eventId: 'calendly-1-0', delivery: 'log' });
  for (let n = 0; n < count; n += 1) {
    const fields = ['type', 'alert.sent', 'key', 'k', 'at', 'now', 'v', '1', 'cause', 'failed-1-0', 'data', data];
    await redis.xadd('events:alerted', '*', ...fields);
  }
}

const seen = async (): Promise<number> => JSON.parse((await redis.get('seen:all')) ?? '{"events":[]}').events.length;

test('of two one folds, and when it dies the other goes on where it stood', async () => {
  const first = start('first');
  await waitFor('the first to hold the lease', async () => (await redis.get(LEASE)) === 'first');
  const second = start('second');
  await add(700);
  await waitFor('all to be folded', async () => (await seen()) === 700);
  const byNow = first.folded.count + second.folded.count;
  assert.is(byNow, 700, 'none was folded by both');
  first.die();
  assert.ok((await redis.pttl(LEASE)) <= PROJECTOR_LEASE_MS);
  await add(700);
  await waitFor('the other to be at rest', async () => (await seen()) === 1_400, AT_REST_MS);
  assert.is(first.folded.count + second.folded.count, 1_400);
  assert.is(await redis.get(LEASE), 'second');
});

test('one that stops lets the other take over at once', async () => {
  start('first');
  await waitFor('the first to hold the lease', async () => (await redis.get(LEASE)) === 'first');
  start('second');
  await projectors.shift()!.stop();
  await waitFor('the second to hold it', async () => (await redis.get(LEASE)) === 'second', AT_REST_MS);
});

test('a lease that went to another is neither kept, lengthened nor taken away', async () => {
  const [mine, other] = ['mine', 'other'].map((owner) => makeLease(redis, { key: 'lease:x', owner, ms: 60_000 }));
  assert.ok(await mine!.hold());
  assert.ok(await mine!.hold());
  assert.not(await other!.hold());
  await other!.release();
  assert.is(await redis.get('lease:x'), 'mine');
  await redis.set('lease:x', 'other', 'PX', 30_000);
  assert.not(await mine!.hold());
  assert.ok((await redis.pttl('lease:x')) <= 30_000);
  await mine!.release();
  assert.is(await redis.get('lease:x'), 'other');
  await other!.release();
  assert.is(await redis.get('lease:x'), null);
});

test.run();
