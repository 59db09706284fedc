/** Groups that nobody serves: which are found, and how they are told of. */
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findAbandonedGroups, tellAbandonedGroups } from '../../src/lib/abandoned-groups.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import { readOverview } from '../../src/lib/overview.js';
import { addPipelineMetrics } from '../../src/lib/pipeline-metrics.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('groups that nobody serves');

const HOUR_MS = 3_600_000;

let server: TestRedis;
let redis: RedisClient;
let keys: Keys;
let stream: string;
let tests = 0;

test.before(async () => {
  server = await startRedis();
  redis = connectRedis({ url: server.url, role: 'tool' });
});
test.before.each(async () => {
  tests += 1;
  keys = makeKeys(`t${tests}:`);
  stream = keys.stream('events:calendly');
  for (const ageMs of [3 * HOUR_MS, 2 * HOUR_MS]) {
    await redis.xadd(stream, `${Date.now() - ageMs}-0`, 'type', 'calendly.invitee.created');
  }
});
test.after(async () => {
  redis.disconnect();
  await server.stop();
});

const read = (group: string, count: number) =>
  redis.xreadgroup('GROUP', group, 'somebody', 'COUNT', count, 'STREAMS', stream, '>');

async function found(idleMs?: number): Promise<string[]> {
  const groups = await findAbandonedGroups({ redis, keys }, idleMs === undefined ? {} : { idleMs });
  return groups.map(({ group, isKnown, pending, backlog }) => `${group} ${isKnown} ${pending}+${backlog}`);
}

test('a group of ours is found when entries wait for hours and nobody has read for as long', async () => {
  await redis.xgroup('CREATE', stream, 'enrich', '0');
  assert.equal(await found(), ['enrich true 0+2'], 'it has no consumer at all');
  await read('enrich', 1);
  assert.equal(await found(), [], 'somebody has just read');
  await waitFor('it to be left for long', async () => (await found(100)).join() === 'enrich true 1+1');
  assert.equal(await found(4 * HOUR_MS), [], 'nothing waits for so long');
  await read('enrich', 1);
  const ids = (await redis.xrange(stream, '-', '+')).map(([id]) => id);
  await redis.xack(stream, 'enrich', ...ids);
  assert.equal(await found(0), [], 'it is done with all');
});

test('a group of ours that was never made, or that somebody destroyed, is found as well', async () => {
  assert.equal(await found(), ['enrich true 0+2']);
  assert.equal(await found(4 * HOUR_MS), [], 'nothing waits for so long');
  await redis.del(stream);
  assert.equal(await found(), [], 'nothing waits at all');
});

test('a group of ours is found as well where all that it has is put off', async () => {
  await redis.xgroup('CREATE', stream, 'enrich', '$');
  const [[oldest] = [''], [newer] = ['']] = await redis.xrange(stream, '-', '+');
  await redis.zadd(keys.parked('enrich'), Date.now(), `calendly-${newer}`);
  await redis.zadd(keys.waiting('enrich', 'gemini'), Date.now(), `calendly-${oldest}`);
  const [group] = await findAbandonedGroups({ redis, keys });
  assert.equal([group?.group, group?.parked, Math.round((group?.oldestAgeMs ?? 0) / HOUR_MS)], ['enrich', 2, 3]);
  await redis.del(keys.parked('enrich'), keys.waiting('enrich', 'gemini'));
  assert.equal(await found(), []);
});

test('the age of a group is that of the oldest it has put off, whichever is tried next', async () => {
  const now = Date.now();
  const eventId = (ageMs: number) => `calendly-${now - ageMs}-0`;
  // In the order in which they were tried last: a probe is put behind those that came after it.
  const waiting = [1, 2, 5, 3].map((hours, place) => [now + place, eventId(hours * HOUR_MS)] as const);
  await redis.zadd(keys.waiting('enrich', 'gemini'), ...waiting.flat());
  // By when it is due.
  await redis.zadd(keys.parked('enrich'), now, eventId(HOUR_MS), now + 60_000, eventId(6 * HOUR_MS));
  const ageOf = async () => Math.round((await readOverview({ redis, keys })).groups.enrich!.oldestAgeMs / HOUR_MS);
  assert.is(await ageOf(), 6);
  await redis.del(keys.parked('enrich'));
  assert.is(await ageOf(), 5);
});

test('a group that is none of the service is found at once, whoever reads for it', async () => {
  await redis.xgroup('CREATE', stream, 'enrich', '$');
  await redis.xgroup('CREATE', stream, 'stranger', '0');
  await read('stranger', 1);
  assert.equal(await found(), ['stranger false 1+1']);
});

test('each is told of in a line and on the gauge while it keeps entries, and no longer', async () => {
  for (const group of ['enrich', 'stranger']) await redis.xgroup('CREATE', stream, group, '0');
  await redis.xgroup('CREATE', stream, 'caught-up', '$');
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  await tellAbandonedGroups({ redis, keys, log });
  assert.equal(
    lines.map(({ level, group, pending, backlog, msg }) => [level, group, pending, backlog, String(msg).split(':')[0]]),
    [
      [40, 'enrich', 0, 2, 'nobody reads for a group'],
      [
        40,
        'stranger',
        0,
        2,
        'a group that is none of this service keeps entries from being trimmed; gvi drop-group removes it',
      ],
    ],
  );
  const gauge = async () => {
    const registry = new Registry();
    await addPipelineMetrics(registry, () => readOverview({ redis, keys }))();
    return (await registry.metrics()).split('\n').filter((line) => line.startsWith('gvi_group_abandoned_entries'));
  };
  assert.equal(await gauge(), [
    'gvi_group_abandoned_entries{stream="events:calendly",group="caught-up"} 0',
    'gvi_group_abandoned_entries{stream="events:calendly",group="enrich"} 2',
    'gvi_group_abandoned_entries{stream="events:calendly",group="stranger"} 2',
  ]);
  await redis.xgroup('DESTROY', stream, 'stranger');
  await redis.xgroup('SETID', stream, 'enrich', '$');
  assert.equal(await gauge(), ['gvi_group_abandoned_entries{stream="events:calendly",group="caught-up"} 0']);
});

test.run();
