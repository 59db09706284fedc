import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import { run } from './harness/load.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('backlog, scaling and deployments under load');
/** About what the model's limit lets through, ten calls a second over all workers: more would only pile up. */
const RATE_PER_S = sized(12, 15);
/** More than is ever sent: it is ended when nobody needs it any more, however long processes take to start. */
const UNENDING = sized(2_400, 20_000);

const stage = setStage(test, import.meta.url, {
  workers: 1,
  gemini: { latencyMs: 20 },
  zoho: { latencyMs: 10 },
});

// Without a model, which ten calls a second over all workers would let a hundred thousand wait for hours; and with the claims of
// production, as nobody is to lose one here because the stand-ins, in this process, are busy.
stage.inOwnWorld(
  'a backlog without any worker, and then one, is worked off whole',
  { workers: 0, gemini: false, env: { VISIBILITY_TIMEOUT_MS: '10000' } },
  async (world) => {
    const stories = makeStories(world.random.fork('backlog'), { leads: sized(100, 20_000) });
    await run(world, stories.take(sized(100, 100_000)), { concurrency: 32 });
    await world.scale(undefined, sized(1, 2));
    await check(world);
  },
);

stage.scenario('workers are scaled up, down, to none, and up again', async (world) => {
  const stories = makeStories(world.random.fork('scaling'), { leads: 40 });
  const counts = sized([2, 1, 0, 2] as never, [1, 8, 1, 0, 2] as never) as unknown as number[];
  const ended = new AbortController();
  const load = run(world, stories.take(UNENDING), { ratePerS: RATE_PER_S, signal: ended.signal });
  for (const count of counts) {
    world.faultLog.add('scaled', `all groups to ${count}`);
    await world.scale(undefined, count);
    // Each number is in force for a while: where anybody works, until some of the load came through.
    if (count > 0) await untilEnded(world, sized(6, 500));
    else await untilWaiting(world, sized(5, 100));
  }
  ended.abort();
  await load;
  await check(world);
});

stage.scenario(
  'SIGTERM again and again, while work is under way: each ends with 0, every event ends once',
  async (world) => {
    await world.scale(undefined, 2);
    const stories = makeStories(world.random.fork('deployments'), { leads: 40 });
    const ended = new AbortController();
    const load = run(world, stories.take(UNENDING), { ratePerS: RATE_PER_S, signal: ended.signal });
    for (let n = 0; n < sized(2, 100); n += 1) {
      const workers = world.workers();
      const part = workers[n % workers.length]!;
      await waitFor('it to hold something', async () => (await world.findHeld(part.pid)).length > 0, 30_000);
      world.faultLog.add('SIGTERM worker', `${part.name} (${part.pid})`);
      assert.is(await part.terminate(), 0);
      const held = await world.findHeld(part.pid);
      // Whom the machine left no time is taken for dead by the others, in the short form.
      if (isLong || part.ends().at(-1)!.isOrderly) assert.equal(held, [], 'it left without handing back');
      await part.start();
    }
    ended.abort();
    await load;
    await check(world);
  },
);

stage.longScenario('ingest ended and started between two posts of each webhook', async (world) => {
  const stories = makeStories(world.random.fork('restarts'), { leads: 40 });
  const [ingest] = world.ingests();
  const all = stories.take(2_000);
  for (let at = 0; at < all.length; at += 100) {
    const some = all.slice(at, at + 100);
    await run(world, some);
    assert.is(await ingest!.terminate(), 0);
    await ingest!.start();
    await run(world, world.random.shuffle(some));
  }
  await check(world);
});

test.run();

/** Until so many more events came to their end. */
async function untilEnded({ client, keys }: World, count: number): Promise<void> {
  const ended = () => client.xlen(keys.stream('events:synced'));
  const wanted = (await ended()) + count;
  await waitFor(`${count} more events to end`, async () => (await ended()) >= wanted, 120_000);
}

/** Until so many more webhooks were taken in and wait. */
async function untilWaiting({ history }: World, count: number): Promise<void> {
  const wanted = history.sent.length + count;
  await waitFor(`${count} more webhooks`, () => history.sent.length >= wanted, 60_000);
}
