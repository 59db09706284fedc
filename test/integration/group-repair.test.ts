/** Groups that are destroyed, or whose cursor is moved, by hand and under the workers' feet. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineBatchConsumer, defineConsumer } from '../../src/lib/consumer.js';
import { OutageError, RetryableError, TerminalError } from '../../src/lib/errors.js';
import { type Keys, makeKeys } from '../../src/lib/keys.js';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { makeGroupStore } from '../../src/lib/runtime/group-store.js';
import { makeGroupUpkeep } from '../../src/lib/runtime/group-upkeep.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import {
  appendWebhook,
  booking,
  pendingCount,
  readStream,
  startTestWorker,
  type TestWorker,
} from '../helpers/worker.js';

const test = suite('repair of groups');

let server: Awaited<ReturnType<typeof startRedis>>;
let redis: RedisClient;
let keys: Keys;
let tests = 0;
const workers: TestWorker[] = [];

test.before(async () => {
  server = await startRedis();
  redis = server.connect();
});
test.before.each(() => {
  tests += 1;
  keys = makeKeys(`t${tests}:`);
});
test.after.each(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});
test.after(() => server.stop());

const add = (name: string) =>
  appendWebhook(
    { redis, keys },
    { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
  );
const enriched = () => readStream({ redis, keys }, 'events:enriched');
const failed = () => readStream({ redis, keys }, 'events:failed');
const nameOf = (key: string | undefined) => key?.split(':')[2] ?? '';
const namesOf = (entries: Awaited<ReturnType<typeof enriched>>) =>
  entries.map(({ fields }) => nameOf(fields.key)).sort();
const calendly = () => keys.stream('events:calendly');
const pending = () => pendingCount({ redis, keys }, 'events:calendly', 'enrich').catch(() => -1);
const emitBooked = (at: string) => [
  { type: 'lead.enriched' as const, data: { kind: 'booked' as const, happenedAt: at, facts: {} } },
];

/** What an event does stands in its name: `done`, `slow` until released, `parked` and `waiting` until let through. */
function makeWorld() {
  const world = { calls: [] as string[], release: () => {}, isOpen: false };
  const released = new Promise<void>((resolve) => {
    world.release = resolve;
  });
  const consumer = defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    needs: ({ key }) => (nameOf(key).startsWith('waiting') ? ['gemini'] : []),
    async handle(event) {
      const name = nameOf(event.key);
      world.calls.push(name);
      if (name.startsWith('slow')) await released;
      if (name.startsWith('parked') && !world.isOpen) throw new RetryableError('not now', { code: 'busy' });
      if (name.startsWith('waiting') && !world.isOpen) {
        throw new OutageError('Gemini answered 503', { code: 'gemini_503', provider: 'gemini' });
      }
      if (name.startsWith('failing') && !world.isOpen) throw new TerminalError('No', { code: 'refused' });
      return emitBooked(event.data.created_at);
    },
  });
  return Object.assign(world, { consumer });
}

/** How often any cursor was set. */
async function countMoves(): Promise<number> {
  return Number(/cmdstat_xgroup\|setid:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
}

async function start(
  consumer: Parameters<typeof startTestWorker>[0]['consumers'][number],
  env = {},
  concurrency?: number,
): Promise<TestWorker> {
  const worker = await startTestWorker({
    ...{ redisUrl: server.url, keyPrefix: keys.prefix, consumers: [consumer] },
    ...(concurrency === undefined ? {} : { concurrency }),
    env: { RETRY_BASE_MS: '100', RETRY_MAX_MS: '100', MAX_ATTEMPTS: '500', ...env },
  });
  workers.push(worker);
  return worker;
}

/** Done, held, parked and waiting ones; resolves when each of them has come to be that. */
async function fill(): Promise<string[]> {
  const names = ['done1', 'slow1', 'parked1', 'waiting1', 'done2', 'slow2', 'waiting2', 'parked2', 'done3'];
  for (const name of names) await add(name);
  await waitFor('the first three', async () => (await enriched()).length === 3);
  await waitFor('two to be held', async () => (await pending()) >= 2);
  await waitFor('two to wait', async () => (await redis.zcard(keys.waiting('enrich', 'gemini'))) > 0);
  return names.sort();
}

/** All is let through, and some is added: in the end each is there once. */
async function finish(world: ReturnType<typeof makeWorld>, names: readonly string[]): Promise<void> {
  await add('last');
  await waitFor('the group to go on', async () => namesOf(await enriched()).includes('last'));
  world.isOpen = true;
  world.release();
  const all = [...names, 'last'].sort();
  await waitFor('all', async () => (await enriched()).length >= all.length, 20_000);
  await waitFor('nothing pending', async () => (await pending()) === 0);
  assert.equal(namesOf(await enriched()), all);
  assert.equal(await failed(), []);
  for (const name of ['slow1', 'slow2', 'done1', 'done2', 'done3']) {
    assert.is(world.calls.filter((call) => call === name).length, 1, `${name} ran once`);
  }
}

const manglings: Record<string, () => Promise<unknown>> = {
  'XGROUP DESTROY': () => redis.xgroup('DESTROY', calendly(), 'enrich'),
  'XGROUP DESTROY and CREATE at the start': async () => {
    await redis.multi().xgroup('DESTROY', calendly(), 'enrich').xgroup('CREATE', calendly(), 'enrich', '0').exec();
  },
  'XGROUP SETID 0': () => redis.xgroup('SETID', calendly(), 'enrich', '0'),
  'XGROUP SETID 0 with a count': () => redis.xgroup('SETID', calendly(), 'enrich', '0', 'ENTRIESREAD', 0),
};

for (const [name, mangle] of Object.entries(manglings)) {
  test(`${name} doubles nothing and loses nothing: done, held, parked, waiting`, async () => {
    const world = makeWorld();
    await start(world.consumer);
    const names = await fill();
    await mangle();
    await finish(world, names);
  });

  test(`${name}, the worker being dead: what it held is done once`, async () => {
    const first = makeWorld();
    const dying = await start(first.consumer);
    const names = await fill();
    // As after a SIGKILL: nobody goes on, nobody hands back.
    await dying.stop();
    workers.length = 0;
    const [held] = (await redis.xpending(calendly(), 'enrich', '-', '+', 10)) as [string][];
    assert.ok(held !== undefined);
    await mangle();
    const second = makeWorld();
    await start(second.consumer);
    second.calls.push('done1', 'done2', 'done3');
    await finish(second, names);
  });
}

const movesAhead: Record<string, () => Promise<unknown>> = {
  'XGROUP SETID $': () => redis.xgroup('SETID', calendly(), 'enrich', '$'),
  'XGROUP SETID into the future': () => redis.xgroup('SETID', calendly(), 'enrich', '9999999999999-0'),
  'XGROUP DESTROY and CREATE at the end': async () => {
    await redis.multi().xgroup('DESTROY', calendly(), 'enrich').xgroup('CREATE', calendly(), 'enrich', '$').exec();
  },
};

for (const [name, move] of Object.entries(movesAhead)) {
  test(`${name} over a backlog passes nothing over, and doubles nothing`, async () => {
    const world = makeWorld();
    const first = await start(world.consumer);
    const names = await fill();
    await first.stop();
    for (const backlog of ['slow3', 'done4', 'done5']) {
      await add(backlog);
      names.push(backlog);
    }
    await move();
    world.calls.splice(0);
    world.calls.push('done1', 'done2', 'done3');
    await start(world.consumer);
    await finish(world, names);
  });
}

test('a cursor whose reading Redis does not count is not taken for one that was moved ahead', async () => {
  const world = makeWorld();
  for (let n = 0; n < 2; n += 1) await start(world.consumer, {}, 1);
  await add('done0');
  await waitFor('the first', async () => (await enriched()).length === 1);
  await redis.xgroup('SETID', calendly(), 'enrich', '0');
  const before = await countMoves();
  const isOver = async () => (await redis.hget(keys.cursors('enrich'), 'upto:events:calendly')) === null;
  await waitFor('what was handed out to be looked at', async () => (await countMoves()) > before && (await isOver()));
  const moves = await countMoves();
  await Promise.all(Array.from({ length: 50 }, (_, n) => add(`done${n + 1}`)));
  await waitFor('all', async () => (await enriched()).length === 51);
  assert.is(await countMoves(), moves);
});

test('a group that was there for long is made again where it was, and looks at nothing old', async () => {
  const world = makeWorld();
  const worker = await start(world.consumer);
  for (let i = 0; i < 20; i += 1) await add(`done${i}`);
  await waitFor('all', async () => (await enriched()).length === 20);
  const [last] = await redis.xrevrange(calendly(), '+', '-', 'COUNT', 1);
  await waitFor(
    'the checkpoint',
    async () => (await redis.hget(keys.cursors('enrich'), 'done:events:calendly')) === last![0],
  );
  await redis.xgroup('DESTROY', calendly(), 'enrich');
  await waitFor('the repair', async () =>
    /gvi_worker_group_repairs_total{group="enrich"} 1/.test(await worker.metrics.registry.metrics()),
  );
  await add('last');
  await waitFor('the next', async () => (await enriched()).length === 21);
  assert.is(world.calls.length, 21);
});

test('what was redriven and is at work, or was handed to a dead worker, is not taken for done', async () => {
  const world = makeWorld();
  const worker = await start(world.consumer);
  await add('failing1');
  await waitFor('the failure', async () => (await failed()).length === 1);
  await worker.stop();
  workers.length = 0;
  const [failure] = await readOpenFailures({ redis, keys });
  await makeRedrive({ redis, keys })(failure!);
  // A worker takes it and dies.
  await redis.zrem(keys.parked('enrich'), failure!.eventId);
  await redis.xgroup('DESTROY', calendly(), 'enrich');
  await redis.hset(keys.cursors('enrich'), 'done:events:calendly', '0-0');
  world.isOpen = true;
  await start(world.consumer);
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  assert.is((await failed()).length, 1);
});

test('an alert that was sent is not sent again', async () => {
  const alerted: string[] = [];
  const alert = defineBatchConsumer({
    name: 'alert',
    on: ['event.failed', 'provider.paused', 'provider.resumed'],
    emits: ['alert.sent'],
    batchMax: 5,
    async handleBatch(deliveries) {
      return deliveries.map(({ event }) => {
        alerted.push(event.id);
        return {
          events: [
            { type: 'alert.sent' as const, data: { failureId: event.id, eventId: event.id, delivery: 'log' as const } },
          ],
        };
      });
    },
  });
  await start(alert);
  const world = makeWorld();
  await start(world.consumer);
  for (const name of ['failing1', 'failing2', 'failing3']) await add(name);
  await waitFor('three alerts', async () => (await readStream({ redis, keys }, 'events:alerted')).length === 3);
  await redis.xgroup('SETID', keys.stream('events:failed'), 'alert', '0');
  await add('failing4');
  await waitFor('four alerts', async () => (await readStream({ redis, keys }, 'events:alerted')).length === 4);
  await redis.xgroup('DESTROY', keys.stream('events:failed'), 'alert');
  await add('failing5');
  await waitFor('five alerts', async () => (await readStream({ redis, keys }, 'events:alerted')).length === 5);
  assert.is(alerted.length, 5);
  assert.is(new Set(alerted).size, 5);
});

test('a consumer that is removed by hand with what it holds: its worker finishes that all the same', async () => {
  const world = makeWorld();
  const worker = await start(world.consumer);
  await add('slow1');
  await waitFor('the start', () => world.calls.length === 1);
  await redis.xgroup('DELCONSUMER', calendly(), 'enrich', worker.name);
  world.release();
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  await waitFor('nothing pending', async () => (await pending()) === 0);
  assert.is(world.calls.length, 1);
});

test('a consumer of a dead worker that is removed by hand with what it holds: that is done once all the same', async () => {
  const first = makeWorld();
  const dying = await start(first.consumer);
  const names = await fill();
  await waitFor('it to be noted', () => redis.hexists(keys.cursors('enrich'), `in:events:calendly:${dying.name}`));
  // As after a SIGKILL: nobody goes on, nobody hands back.
  await dying.stop();
  workers.length = 0;
  const holders = (await redis.xinfo('CONSUMERS', calendly(), 'enrich')) as unknown[][];
  for (const [, name] of holders) await redis.xgroup('DELCONSUMER', calendly(), 'enrich', String(name));
  assert.is(await pending(), 0);
  const second = makeWorld();
  await start(second.consumer);
  second.calls.push('done1', 'done2', 'done3');
  await finish(second, names);
});

test('a consumer that leaves, is removed by us as dead, or never held anything, is no reason to look', async () => {
  const common = { redis, keys, group: 'enrich' as const };
  const [here, gone, dead] = ['here', 'gone', 'dead'].map((consumer) => makeGroupUpkeep({ ...common, consumer }));
  await here!.ensureGroups();
  for (const consumer of ['here', 'gone', 'dead']) {
    await add(consumer);
    await redis.xreadgroup('GROUP', 'enrich', consumer, 'STREAMS', calendly(), '>');
  }
  await redis.xreadgroup('GROUP', 'enrich', 'idle', 'STREAMS', calendly(), '>');
  assert.equal(await here!.saveCursors(0), []);
  const ids = (await redis.xrange(calendly(), '-', '+')).map(([id]) => id);
  await redis.xack(calendly(), 'enrich', ...ids);
  // As Redis does at a restart, or a replica that takes over.
  await redis.xgroup('DELCONSUMER', calendly(), 'enrich', 'idle');
  assert.equal(await here!.saveCursors(0), []);
  await gone!.leave();
  await redis.hset(keys.alive('enrich'), 'dead', 'dead');
  assert.is(await here!.removeDeadConsumers(-1), 1);
  assert.equal(await here!.saveCursors(0), []);
  await redis.xgroup('DELCONSUMER', calendly(), 'enrich', 'here');
  assert.equal(await dead!.saveCursors(0), ['here']);
  assert.equal(await dead!.saveCursors(0), []);
});

test('of a stream that has lost its end what is left is handed out beside the backlog of another', async () => {
  const common = { redis, keys, group: 'crm-sync' as const, consumer: 'w1' };
  const store = makeGroupStore({ ...common, now: Date.now, visibilityTimeoutMs: 10_000, crashesMax: 6 });
  await makeGroupUpkeep(common).ensureGroups();
  const [summaries, leads] = [keys.stream('events:summarized'), keys.stream('events:enriched')];
  const fill = async (stream: string, count: number) => {
    for (let n = 1; n <= count; n += 1) await redis.xadd(stream, `${n}-0`, 'type', 't', 'key', `${n}`, 'data', '{}');
  };
  await fill(summaries, 5);
  assert.is((await store.takeNew({ free: 10, alone: 1 })).entries.length, 5);
  // As on a replica that was behind: it has less of the stream, and of what was read.
  await redis.del(summaries);
  await fill(summaries, 3);
  await redis.xgroup('CREATE', summaries, 'crm-sync', '1-0');
  await fill(leads, 400);
  let taken = 0;
  await waitFor('what is left of the one', async () => {
    const { entries } = await store.takeNew({ free: 1, alone: 1 });
    for (const { stream, id } of entries) await redis.xack(keys.stream(stream), 'crm-sync', id);
    taken += entries.filter(({ stream }) => stream === 'events:enriched').length;
    return entries.some(({ stream }) => stream === 'events:summarized');
  });
  assert.ok(taken < 400, `${taken} of the other came first`);
});

test('a settlement that Redis hears while the group is gone is not lost', async () => {
  const world = makeWorld();
  await start(world.consumer, { VISIBILITY_TIMEOUT_MS: '60000' });
  await add('slow1');
  await waitFor('the start', () => world.calls.length === 1);
  await redis.xgroup('DESTROY', calendly(), 'enrich');
  world.release();
  await waitFor('the follow-on', async () => (await enriched()).length === 1);
  await add('done1');
  await waitFor('the next', async () => (await enriched()).length === 2);
  assert.equal(world.calls, ['slow1', 'done1']);
});

test('a stream that was deleted is read from its new start', async () => {
  const world = makeWorld();
  await start(world.consumer);
  await add('done1');
  await waitFor('the first', async () => (await enriched()).length === 1);
  await redis.del(calendly());
  await add('done2');
  await add('done3');
  await waitFor('the others', async () => (await enriched()).length === 3);
  assert.equal(world.calls, ['done1', 'done2', 'done3']);
});

test.run();
