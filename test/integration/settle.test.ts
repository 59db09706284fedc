/** What a settlement is told whose entry went to another worker meanwhile, or which the client sent twice. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeFollowOn } from '../../src/lib/codec.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { type Entry, toEntry } from '../../src/lib/runtime/entry.js';
import { makeSettler, type Settlement, type Settler } from '../../src/lib/runtime/settler.js';
import { reportVanished } from '../../src/lib/vanished.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, pendingCount, readStream } from '../helpers/worker.js';

const test = suite('settlements that come late or twice');

const GROUP = 'enrich' as const;
const STREAM = 'events:calendly';
const KEY = 'calendly:invitee.created:a';
const log = pino({ level: 'silent' });

let redis: RedisClient;
let keys: Keys;
shareRedis(test, (shared) => {
  redis = shared.redis;
  keys = makeKeys('s:');
});

const KINDS = ['done', 'fail', 'park', 'wait', 'ack'] as const;
type Kind = (typeof KINDS)[number];

/** Pending to a consumer, from whom others may claim it. */
async function hold(consumer: string, key = KEY): Promise<Entry> {
  await redis.xgroup('CREATE', keys.stream(STREAM), GROUP, '0', 'MKSTREAM').catch(() => {});
  await appendWebhook({ redis, keys }, { type: 'calendly.invitee.created', key, body: booking('a') });
  const reply = await redis.xreadgroup('GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', keys.stream(STREAM), '>');
  const [[, [[id, flat]]]] = reply as [[string, [[string, string[]]]]];
  return toEntry(STREAM, [id, flat, 0], Date.now());
}

function settle(consumer: string, entry: Entry, settlement: Settlement, client = redis): Promise<boolean> {
  return settlerOf(consumer, client).settle(entry, settlement);
}

function settlerOf(consumer: string, client = redis, told = log): Settler {
  const { signal } = new AbortController();
  return makeSettler({ redis: client, keys, group: GROUP, consumer, log: told, repair: async () => {}, signal });
}

function claim(consumer: string, { id }: Entry): Promise<unknown> {
  return redis.xclaim(keys.stream(STREAM), GROUP, consumer, 0, id, 'JUSTID');
}

function settlementOf(kind: Kind, entry: Entry): Settlement {
  const record = { spent: 1, firstFailureAt: 1, waitedMs: 0, parkedAt: 1, code: 'refused', message: 'No.' };
  const provenance = { key: KEY, cause: entry.eventId, attempts: 1, ms: 0, waitedMs: 0, replay: undefined };
  switch (kind) {
    case 'done': {
      const data = { kind: 'booked' as const, happenedAt: '2026-11-02T09:00:00Z', facts: {} };
      return {
        kind,
        events: [{ stream: 'events:enriched', fields: encodeFollowOn({ type: 'lead.enriched', data }, provenance) }],
      };
    }
    case 'fail': {
      const error = { code: 'refused', message: 'No.' };
      const data = { eventId: entry.eventId, stream: STREAM, group: GROUP, key: KEY, attempts: 1, error };
      return { kind, stream: 'events:failed', fields: encodeFollowOn({ type: 'event.failed', data }, provenance) };
    }
    case 'park':
      return { kind, set: keys.parked(GROUP), delayMs: 60_000, record };
    case 'wait':
      return { kind, set: keys.waiting(GROUP, 'gemini'), delayMs: 60_000, record };
    case 'ack':
      return { kind };
  }
}

async function countAll(): Promise<number[]> {
  const follow = await readStream({ redis, keys }, 'events:enriched');
  const failed = await readStream({ redis, keys }, 'events:failed');
  const putOff = [await redis.zcard(keys.parked(GROUP)), await redis.zcard(keys.waiting(GROUP, 'gemini'))];
  return [follow.length, failed.length, ...putOff, await pendingCount({ redis, keys }, STREAM, GROUP)];
}

for (const kind of KINDS) {
  test(`${kind}, sent twice, is settled both times, and written once`, async () => {
    const entry = await hold('a');
    assert.is(await settle('a', entry, settlementOf(kind, entry)), true);
    const before = await countAll();
    assert.is(await settle('a', entry, settlementOf(kind, entry)), true);
    assert.equal(await countAll(), before);
  });
}

for (const [theirs, ours, isSettled] of [
  ['park', 'done', false],
  ['wait', 'done', false],
  ['fail', 'done', false],
  ['done', 'done', true],
  ['done', 'fail', false],
  ['done', 'park', false],
  ['fail', 'park', false],
  ['park', 'fail', false],
] as const) {
  const told = isSettled ? 'stands' : 'is lost';
  test(`${ours}, after another has taken the entry over and settled it as ${theirs}, ${told} and writes nothing`, async () => {
    const entry = await hold('a');
    await claim('b', entry);
    assert.is(await settle('b', entry, settlementOf(theirs, entry)), true);
    const before = await countAll();
    assert.is(await settle('a', entry, settlementOf(ours, entry)), isSettled);
    assert.equal(await countAll(), before);
  });
}

/** A log that shows when a settler has found that it cannot settle. */
function listen() {
  let lines = 0;
  const told = pino(
    { level: 'error' },
    {
      write: () => {
        lines += 1;
      },
    },
  );
  return { told, untilTold: () => waitFor('the log to tell it', () => lines > 0) };
}

for (const right of ['xadd', 'hset', 'set', 'xack', 'hdel']) {
  test(`while its user may not ${right} nothing is half settled, and once he may again it is settled once`, async () => {
    await redis.call('ACL', 'SETUSER', 'app', 'on', '>pw', '~*', '&*', '+@all', `-${right}`);
    const app = redis.duplicate({ username: 'app', password: 'pw' });
    const { told, untilTold } = listen();
    try {
      const entry = await hold('a');
      const before = await countAll();
      const mark = { key: keys.idemProcessed(KEY), ttlS: 60 };
      const settled = settlerOf('a', app, told).settle(entry, { ...settlementOf('done', entry), mark } as Settlement);
      await untilTold();
      assert.equal([await countAll(), await redis.exists(mark.key)], [before, 0]);
      await redis.call('ACL', 'SETUSER', 'app', `+${right}`);
      assert.is(await settled, true);
      assert.equal(await countAll(), [1, 0, 0, 0, 0]);
    } finally {
      app.disconnect();
    }
  });
}

test('an entry that Redis will not settle as it is holds up no other, and is settled once when it is mended', async () => {
  const { told, untilTold } = listen();
  const settler = settlerOf('a', redis, told);
  const [first, broken, last] = [await hold('a', 'k1'), await hold('a', 'k2'), await hold('a', 'k3')];
  const settleIt = (entry: Entry) => settler.settle(entry, settlementOf('done', entry));
  await redis.del(keys.progress('k2'));
  await redis.set(keys.progress('k2'), 'a text, where a hash should be');
  const [a, b, c] = [first, broken, last].map(settleIt);
  assert.equal(await Promise.all([a, c]), [true, true]);
  await untilTold();
  assert.is(await settleIt(await hold('a', 'k4')), true);
  assert.equal(await countAll(), [3, 0, 0, 0, 1]);
  assert.equal(await reportVanished({ redis, keys, log }), []);
  await redis.del(keys.progress('k2'));
  assert.is(await b, true);
  const causes = (await readStream({ redis, keys }, 'events:enriched')).map(({ fields }) => fields.cause);
  assert.is(new Set(causes).size, 4);
  assert.equal(await countAll(), [4, 0, 0, 0, 0]);
});

test.run();
