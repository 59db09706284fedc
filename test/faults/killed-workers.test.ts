import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import { check } from './harness/checker.js';
import { run } from './harness/load.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('processes killed under load');

const RATE_PER_S = sized(12, 50);

const stage = setStage(test, import.meta.url, {
  workers: [{}, {}, { groups: ['enrich', 'crm-sync'] }],
  // Who stands beside many deaths must not pay for it; what fails for want of attempts would show.
  env: { MAX_ATTEMPTS: '6' },
  gemini: { latencyMs: 60 },
  zoho: { latencyMs: 30 },
});

stage.scenario('workers killed at random: every event ends once, whoever dies', killAtRandom);

// The model is asked ten times a second, a fifth of what comes in the long form: there thousands wait for it.
if (isLong) stage.inOwnWorld('the same where no limit holds anything up', { gemini: false }, killAtRandom);

stage.scenario('everything killed at once, again and again, and started in any order', async (world) => {
  const stories = makeStories(world.random.fork('blackouts'), { leads: sized(20, 200) });
  const load = run(world, stories.take(RATE_PER_S * sized(4, 30)), { ratePerS: RATE_PER_S });
  for (let n = 0; n < sized(2, 6); n += 1) {
    await sleep(world.random.int(300, 1_200));
    await blackout(world);
  }
  await load;
  await check(world);
});

test.run();

async function killAtRandom(world: World): Promise<void> {
  const stories = makeStories(world.random.fork('kills'), { leads: sized(20, 200) });
  const load = run(world, stories.take(RATE_PER_S * sized(4, 60)), { ratePerS: RATE_PER_S });
  await Promise.all([load, killWorkersUntil(world, load)]);
  await check(world);
}

async function killWorkersUntil(world: World, load: Promise<void>): Promise<void> {
  let isOver = false;
  void load.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    await sleep(world.random.int(500, sized(1_200, 3_000)));
    const alive = world.workers().filter((part) => part.isReady());
    // One at least goes on: that all die is another scenario.
    if (alive.length > 1) await world.random.pick(alive).kill();
  }
}

async function blackout({ random, parts, redis, faultLog }: World): Promise<void> {
  const fault = faultLog.add('SIGKILL everything', 'Redis and all processes');
  redis.kill('SIGKILL');
  await Promise.all(parts().map((part) => part.kill({ staysDown: true })));
  const starts = [() => redis.restart(), ...parts().map((part) => () => part.start())];
  const inOrder = random.shuffle(starts).map(async (start, place) => {
    await sleep(place * random.int(20, 150));
    await start();
  });
  await Promise.all(inOrder);
  fault.healedAt = Date.now();
}
