import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import { crashAt } from './harness/crash.js';
import { isSpooled, type Sent } from './harness/history.js';
import { run, send } from './harness/load.js';
import { setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { type Delivery, makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('ingest killed, and duplicates');

const stage = setStage(test, import.meta.url, { ingests: 2, gemini: false });

stage.scenario(
  'killed with 200 requests in flight: every 2xx is there, what is unknown at most once',
  async (world) => {
    const stories = makeStories(world.random.fork('in flight'), { mix: { revision: 0 } });
    for (let n = 0; n < sized(1, 20); n += 1) {
      const deliveries = stories.take(200);
      const midst = { point: 'in the midst of 200 requests', owner: 'i1', name: 'append', when: 'after' } as const;
      const crash = crashAt(world, midst, { nth: world.random.int(1, 150) });
      const findLeft = () => {
        const taken = new Set(world.history.sent.filter(isTaken).map(({ delivery }) => delivery));
        return deliveries.filter((delivery) => !taken.has(delivery));
      };
      // Again where Redis was silent for a moment: then most of them were refused, and Redis was not asked for them.
      await waitFor('ingest to be killed', async () => {
        await Promise.all(findLeft().map((delivery) => send(world, delivery, world.part('i1'))));
        return crash.wasHit();
      });
      await crash.hit;
      // The providers send again what was not answered with a 2xx.
      await run(world, findLeft(), { concurrency: 16 });
      await world.part('i1').untilReady();
    }
    assert.ok(world.history.count('unknown') > 0, 'no request was cut off');
    await check(world);
  },
);

stage.scenario(
  'each webhook posted up to five times at once, at two ingests that are killed meanwhile',
  async (world) => {
    const stories = makeStories(world.random.fork('duplicates'));
    const deliveries = stories.take(sized(30, 2_000));
    const posts = deliveries.flatMap((delivery) => Array<Delivery>(world.random.int(1, 5)).fill(delivery));
    const load = run(world, posts, { concurrency: 24 });
    for (const ingest of world.ingests()) {
      await untilAnswered(world, world.history.sent.length + Math.round(posts.length / 4));
      await ingest.kill();
    }
    await load;
    // And once more when all is long done.
    const from = world.history.sent.length;
    await run(world, world.random.shuffle(deliveries), { concurrency: 8 });
    await check(world);
    const late = world.history.sent.slice(from).filter(({ outcome }) => outcome.kind === 'ok');
    assert.is(late.length, deliveries.length);
    assert.equal([...new Set(late.map(({ outcome }) => outcome.answer?.status))], ['duplicate']);
  },
);

stage.scenario('the same booking with another body is kept beside, whoever dies in between', async (world) => {
  const stories = makeStories(world.random.fork('conflicts'));
  const deliveries = Array.from({ length: sized(20, 100) }, () => stories.next('booked')[0]!);
  await run(world, deliveries, { concurrency: 8 });
  const conflicts = deliveries.map(withOtherContent);
  const load = run(world, [...conflicts, ...conflicts], { concurrency: 16 });
  await untilAnswered(world, world.history.sent.length + Math.round(conflicts.length / 2));
  await world.part('i2').kill();
  await load;
  await check(world);
  const { entries } = await readSnapshot(world);
  const kept = entries.filter(({ type }) => type === 'webhook.rejected').map(({ fields }) => fields.data);
  assert.equal(kept.sort(), conflicts.map(({ body }) => body).sort());
});

stage.inOwnWorld(
  'with a spool, killed while it takes in: what it answered is appended, once',
  { spool: true, gemini: false },
  async (world) => {
    const stories = makeStories(world.random.fork('spool'), { mix: { revision: 0 } });
    const fault = world.faultLog.add('SIGKILL Redis', 'until the spool holds something');
    world.redis.kill('SIGKILL');
    const loads: Promise<void>[] = [];
    for (let n = 0; n < sized(1, 10); n += 1) {
      // A burst for each: what an ingest spools in a second is more than it takes in while it starts.
      loads.push(run(world, stories.take(sized(90, 300)), { concurrency: 60 }));
      await untilAnswered(world, world.history.sent.length + world.random.int(10, 40));
      await waitFor('some to be spooled', () => world.history.sent.some(isSpooled));
      await world.part('i1').kill({ note: 'while it takes in' });
      await world.part('i1').untilReady();
    }
    await world.redis.restart();
    fault.healedAt = Date.now();
    await Promise.all(loads);
    await check(world);
  },
);

test.run();

async function untilAnswered({ history }: World, count: number): Promise<void> {
  await waitFor(`${count} answers`, () => history.sent.length >= count, 30_000);
}

function isTaken({ outcome }: Sent): boolean {
  return outcome.kind === 'ok';
}

function withOtherContent(delivery: Delivery): Delivery {
  const body = JSON.parse(delivery.body) as { payload: { name: string } };
  body.payload.name = `${body.payload.name} the Other`;
  return { ...delivery, body: JSON.stringify(body) };
}
