/** Entries of a dead worker that stand behind many of one that lives. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineConsumer } from '../../src/lib/consumer.js';
import { makeKeys } from '../../src/lib/keys.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, pendingCount, readStream, startTestWorker } from '../helpers/worker.js';

const test = suite('the walk of the reclaim');

/** More than the reclaim looks at in one step. */
const ALIVE = 450;
const DEAD = 3;
const LEFT = 16;
const NEW = 600;
/** What lives is kept alive all the time, however seldom it gets to it; what a dead worker left is made to look old. */
const VISIBILITY_MS = 10_000;
const OLD_MS = 60_000;
const env = { VISIBILITY_TIMEOUT_MS: String(VISIBILITY_MS) };

const enrich = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  async handle({ data }) {
    const { created_at: happenedAt, payload } = data;
    return [
      {
        type: 'lead.enriched' as const,
        data: { kind: 'booked' as const, happenedAt, email: payload.email, facts: {} },
      },
    ];
  },
});

test('the entries of a dead worker are found behind those that another keeps alive', async () => {
  const server = await startRedis();
  const settings = { redisUrl: server.url, keyPrefix: 'walk:', consumers: [enrich], env };
  const first = await startTestWorker(settings);
  const { keys } = first;
  const stream = keys.stream('events:calendly');
  await waitFor('the group', async () => ((await first.redis.xinfo('GROUPS', stream)) as unknown[]).length === 1);
  await first.stop();

  const redis = server.connect();
  for (let n = 0; n < ALIVE + DEAD; n += 1) {
    const [type, key] = ['calendly.invitee.created', `calendly:invitee.created:w${n}`] as const;
    await appendWebhook({ redis, keys }, { type, key, body: booking(`w${n}`) });
  }
  const read = async (name: string, count: number) => {
    await redis.xreadgroup('GROUP', 'enrich', name, 'COUNT', count, 'STREAMS', stream, '>');
    const pending = await redis.xpending(stream, 'enrich', '-', '+', count, name);
    return (pending as [string, ...unknown[]][]).map(([id]) => id);
  };
  const alive = await read('alive', ALIVE);
  const dead = await read('dead', DEAD);
  assert.is(dead.length, DEAD);
  await redis.xclaim(stream, 'enrich', 'dead', 0, ...dead, 'IDLE', OLD_MS, 'JUSTID');
  const keepAlive = () => redis.xclaim(stream, 'enrich', 'alive', 0, ...alive, 'JUSTID');
  const beat = setInterval(() => void keepAlive(), 50);

  const rescuer = await startTestWorker(settings);
  try {
    await waitFor('the follow-ons', async () => (await readStream(rescuer, 'events:enriched')).length === DEAD);
    assert.is(await pendingCount(rescuer, 'events:calendly', 'enrich'), ALIVE);
  } finally {
    clearInterval(beat);
    await rescuer.stop();
    await server.stop();
  }
});

test('what a dead worker left comes before a backlog, however few slots there are', async () => {
  const server = await startRedis();
  const redis = server.connect();
  const keys = makeKeys('behind:');
  const stream = keys.stream('events:calendly');
  const add = (name: string) =>
    appendWebhook(
      { redis, keys },
      { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
    );
  await redis.xgroup('CREATE', stream, 'enrich', '0', 'MKSTREAM');
  for (let n = 0; n < LEFT; n += 1) await add(`left${n}`);
  await redis.xreadgroup('GROUP', 'enrich', 'dead', 'COUNT', LEFT, 'STREAMS', stream, '>');
  const ids = (await redis.xrange(stream, '-', '+')).map(([id]) => id);
  await redis.xclaim(stream, 'enrich', 'dead', 0, ...ids, 'IDLE', OLD_MS, 'JUSTID');
  for (let n = 0; n < NEW; n += 1) await add(`new${n}`);

  const started: string[] = [];
  // They end in pairs, so that both slots fall free together, however long Redis takes to answer.
  let endFirst: (() => void) | undefined;
  const untilPaired = () =>
    new Promise<void>((resolve) => {
      endFirst?.();
      if (endFirst !== undefined) resolve();
      endFirst = endFirst === undefined ? resolve : undefined;
    });
  const worker = await startTestWorker({
    ...{ redisUrl: server.url, keyPrefix: keys.prefix, concurrency: 2, env },
    consumers: [
      defineConsumer({
        ...enrich,
        async handle(event, context) {
          started.push(event.key.split(':').at(-1)!);
          await untilPaired();
          return enrich.handle(event, context);
        },
      }),
    ],
  });
  try {
    const isLeft = (name: string) => name.startsWith('left');
    await waitFor('all that was left', () => started.filter(isLeft).length === LEFT, 30_000);
    const between = started.slice(started.findIndex(isLeft), started.findLastIndex(isLeft));
    // A slot that falls free while Redis is asked may still get a new one; without a rule they would take turns.
    assert.ok(between.filter((name) => !isLeft(name)).length <= LEFT / 2, `${between}`);
  } finally {
    await worker.stop();
    await server.stop();
  }
});

test.run();
