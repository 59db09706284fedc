import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check, type Loss } from './harness/checker.js';
import { isAccepted, type Sent } from './harness/history.js';
import { run } from './harness/load.js';
import { besideFault, isLong, setStage, sized } from './harness/scenario.js';
import { makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('Redis killed under load');

const RATE_PER_S = sized(12, 50);
const HELD_BACK_MS = 2_500;
/** So late it may still answer what it is asked: a signal takes its time. */
const DYING_MS = 500;
/** How long it stays away, one after the other. */
const AWAY_MS = isLong ? [0, 5_000, 60_000] : [0, 1_200];

const stage = setStage(test, import.meta.url, { gemini: besideFault({ latencyMs: 60 }), zoho: { latencyMs: 30 } });

for (const appendfsync of ['everysec', 'always'] as const) {
  stage.inOwnWorld(
    `appendfsync ${appendfsync}: what was answered is there, and everybody goes on without a restart`,
    { redis: { appendfsync }, workers: appendfsync === 'always' ? 1 : 2 },
    async (world) => {
      const stories = makeStories(world.random.fork('redis'));
      const isSafe = appendfsync === 'always';
      const load = run(world, stories.take(RATE_PER_S * sized(isSafe ? 4 : 6, 90)), { ratePerS: RATE_PER_S });
      await waitFor('the first to be taken in', () => world.history.sent.some(isAccepted), 60_000);
      for (const [index, awayMs] of AWAY_MS.entries()) {
        // Each finds what it may not forget; in the short form the first one alone.
        const waitsLong = !isSafe && (isLong || index === 0);
        await sleep((waitsLong ? HELD_BACK_MS : 0) + world.random.int(500, 1_000));
        await killRedis(world, awayMs);
      }
      await load;
      const isPromised = (sent: Sent) => isAccepted(sent) && (isSafe || !wasHeldBack(world, sent));
      const promised = world.history.sent.filter((sent) => sent.outcome.at < lastFaultAt(world) && isPromised(sent));
      assert.ok(promised.length > 0, 'nothing was taken in before a kill that may not be forgotten');
      await check(world, isSafe ? {} : { mayForget: (sent) => wasHeldBack(world, sent), losses: findLosses(world) });
      for (const part of world.parts()) assert.is(part.restarts(), 0, `${part.name} was started again`);
      const unanswered = world.history.sent.filter(({ outcome }) => outcome.error === 'TimeoutError');
      assert.is(unanswered.length, 0, 'a sender waited in vain for any answer');
    },
  );
}

test.run();

function lastFaultAt({ faultLog }: World): number {
  return Math.max(...faultLog.faults.map(({ at }) => at));
}

/** While its disk is busy Redis answers and writes up to two seconds later. How long an answer was on its way nobody knows. */
function wasHeldBack({ faultLog }: World, { outcome }: Sent): boolean {
  const answeredAt = outcome.at + outcome.ms;
  return faultLog.faults.some(({ at }) => outcome.at <= at + DYING_MS && answeredAt > at - HELD_BACK_MS);
}

/** What was done then, of webhooks that were taken in long before, may be forgotten as well. */
function findLosses({ faultLog }: World): Loss[] {
  return faultLog.faults.map(({ at }) => ({ from: at - HELD_BACK_MS, to: at + DYING_MS }));
}

async function killRedis({ redis, faultLog }: World, awayMs: number): Promise<void> {
  const fault = faultLog.add('SIGKILL Redis', `away for ${awayMs} ms`);
  redis.kill('SIGKILL');
  await sleep(awayMs);
  await redis.restart();
  fault.healedAt = Date.now();
}
