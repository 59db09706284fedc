import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import { groupBy } from './harness/history.js';
import { run } from './harness/load.js';
import { findTakeovers } from './harness/report.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { makeStories } from './harness/stories.js';
import { SHORT_TIMES, type World } from './harness/world.js';

const test = suite('processes killed under load');

const RATE_PER_S = sized(12, 50);
const SLACK_MS = 2_000;
const TAKEN_OVER_MS = Number(SHORT_TIMES.VISIBILITY_TIMEOUT_MS) + 2_000 + SLACK_MS;

const stage = setStage(test, import.meta.url, {
  workers: [{}, {}, { groups: ['enrich', 'crm-sync'] }],
  // Who stands beside many deaths must not pay for it; what fails for want of attempts would show.
  env: { MAX_ATTEMPTS: '6' },
  gemini: { latencyMs: 60 },
  zoho: { latencyMs: 30 },
});

stage.scenario('workers killed at random: every event ends once, whoever dies', killAtRandom);

// The model is asked ten times a second, a fifth of what comes in the long form: there thousands wait for it.
if (isLong) {
  stage.inOwnWorld(
    'the same where no limit holds anything up, and each takeover in time',
    { gemini: false },
    async (world) => {
      await killAtRandom(world);
      const times = findTakeoversOfOnce(world);
      assert.ok(times.length > 0, 'nobody held anything');
      const slowest = Math.max(...times);
      assert.ok(slowest < TAKEN_OVER_MS, `of ${times.length} takeovers the slowest took ${slowest} ms`);
    },
  );
}

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

/** Of what died with one worker: what died with two may have to wait for the isolation slot. */
function findTakeoversOfOnce(world: World): number[] {
  const { faults } = world.faultLog;
  const nameOf = ({ group, eventId }: InjectedFault['affected'][number]) => `${group} ${eventId}`;
  const hits = groupBy(faults.flatMap(({ affected }) => affected).map(nameOf), (name) => name);
  const isOnce = (one: InjectedFault['affected'][number]) => hits.get(nameOf(one))!.length === 1;
  return faults.flatMap((fault) => findTakeovers(world, { ...fault, affected: fault.affected.filter(isOnce) }));
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
