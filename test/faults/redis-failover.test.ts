import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findForgotten } from './harness/check-streams.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import type { Sent } from './harness/history.js';
import { run } from './harness/load.js';
import { type ReplicatedRedis, startReplicas } from './harness/replicas.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { recoveryMsOf, slowestMs, underLoad, withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('a replica takes over');
const stage = setStage(test, import.meta.url, { gemini: { latencyMs: 20 } });

/** Times are judged in the long form, which has the machine for itself; in the short one only that it does not hang. */
const SLACK_MS = 2_000;
const ANSWER_MS = sized(30_000, 2_000 + SLACK_MS);
const RECOVERY_MS = sized(30_000, 5_000 + SLACK_MS);
/** How far a replica may be behind that follows without hindrance. */
const LAG_MS = 1_000;
/** The former master goes on taking writes until everyone has let go of it. */
const SWITCH_MS = 2_000;
const TAIL_MS = sized(800, 3_000);
const TIMES = sized(1, 5);

const watched = { isDirect: true, redis: { start: () => startReplicas({ isWatched: true }) } };
stage.inOwnWorld('under three sentinels: asked to, killed, killed with a tail of its own', watched, async (world) => {
  const redis = world.redis as ReplicatedRedis;
  const spans: Span[] = [];
  for (let n = 0; n < TIMES; n += 1) {
    if (isLong) {
      await takeOver(world, spans, 'roles changed by the sentinels', redis.changeRoles);
      await takeOver(world, spans, 'SIGKILL of the master', redis.killMaster);
    }
    await takeOver(world, spans, 'SIGKILL of the master, its tail not replicated', async () => {
      await redis.holdBack();
      await sleep(TAIL_MS);
      await redis.killMaster();
    });
  }
});

const alone = { redis: { start: () => startReplicas({ isWatched: false }) } };
stage.inOwnWorld('behind an address that still leads to the demoted master for a while', alone, async (world) => {
  const redis = world.redis as ReplicatedRedis;
  const spans: Span[] = [];
  for (let n = 0; n < TIMES; n += 1) {
    await takeOver(world, spans, 'demoted master, its tail not replicated', async () => {
      await redis.holdBack();
      await sleep(TAIL_MS);
      await redis.promote();
      await sleep(sized(1_500, 10_000));
      redis.turnEndpoint();
    });
  }
});

test.run();

/** When what was answered may be gone, as Unix times. */
type Span = { from: number; to: number };

/** What was not replicated is gone; nothing else is, and what is sent again by hand ends as it should. */
async function takeOver(world: World, spansOfLoss: Span[], kind: string, change: () => Promise<void>): Promise<void> {
  const stories = { mix: { revision: 0 } };
  const mayForget = ({ outcome }: Sent) => spansOfLoss.some(({ from, to }) => outcome.at >= from && outcome.at <= to);
  await withoutRestarts(world, async () => {
    const inject = async (): Promise<InjectedFault> => {
      const startedAt = Date.now();
      const fault = world.faultLog.add(kind, 'Redis');
      await change();
      fault.healedAt = Date.now();
      spansOfLoss.push({ from: startedAt - LAG_MS, to: fault.healedAt + SWITCH_MS });
      return fault;
    };
    const { sent, result: fault } = await underLoad(world, `${kind} ${world.faultLog.faults.length}`, inject, {
      stories,
    });
    const { forgotten } = await check(world, { mayForget });
    const ms = await recoveryMsOf(world, fault);
    const tookMs = fault.healedAt! - fault.at;
    console.log(
      `  ${kind}: after ${tookMs} ms, ${forgotten} webhooks forgotten, slowest answer ${slowestMs(sent)} ms, recovered in ${ms} ms`,
    );
    assert.ok(slowestMs(sent) < ANSWER_MS, `an answer took ${slowestMs(sent)} ms`);
    assert.ok(ms < RECOVERY_MS, `it took ${ms} ms until a worker wrote again`);
    await run(world, findForgotten(world, await readSnapshot(world)));
    await check(world, { mayForget });
    await (world.redis as ReplicatedRedis).reunite();
  });
}
