/** Arms crash points, sends webhooks of all kinds until every point was reached, and compares what is left. */
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultAnswer } from '../../standins/gemini-answers.js';
import { check } from '../harness/checker.js';
import { crashAt } from '../harness/crash.js';
import { hurryMinutes } from '../harness/minutes.js';
import { isLong } from '../harness/scenario.js';
import { type Delivery, makeStories, type Stories } from '../harness/stories.js';
import type { World, WorldOptions } from '../harness/world.js';
import { CRASH_POINTS, type StageName } from './table.js';

const BLOCKED = 'Please block this one';
const DECLINED = 'Please decline this one once';
const ALL_HIT_MS = 75_000;
const PAUSE_MS_MAX = 1_000;

const declinedOnce = new Set<string>();

/** Slow enough that what is held has to be kept alive; many attempts, as an entry may see more deaths than one. */
export const crashWorld: WorldOptions = {
  workers: 3,
  env: { VISIBILITY_TIMEOUT_MS: '600', RETRY_BASE_MS: '50', MAX_ATTEMPTS: '100', SHUTDOWN_GRACE_MS: '100' },
  gemini: {
    latencyMs: 250,
    answer(request) {
      const asked = JSON.stringify(request.turns);
      if (asked.includes(BLOCKED)) return { promptFeedback: { blockReason: 'SAFETY' } };
      if (!asked.includes(DECLINED) || declinedOnce.has(asked)) return defaultAnswer(request);
      declinedOnce.add(asked);
      return { candidates: [{ finishReason: 'RECITATION' }] };
    },
  },
  zoho: { latencyMs: 40 },
};

/** A booking that the model declines once and one that it never takes, beside the usual ones. */
export type CrashStories = Record<'plain' | 'declined' | 'blocked', Stories>;

export function makeCrashStories(world: World, name: string): CrashStories {
  const random = world.random.fork(name);
  const wish = (text: string) => (delivery: Omit<Delivery, 'body'>, body: Record<string, unknown>) => {
    if (delivery.source !== 'calendly') return;
    const payload = body.payload as { questions_and_answers: unknown[] };
    payload.questions_and_answers.push({ question: 'Anything else?', answer: text, position: 1 });
  };
  return {
    plain: makeStories(random),
    declined: makeStories(random.fork('declined'), { alter: wish(DECLINED), leads: 5 }),
    blocked: makeStories(random.fork('blocked'), { alter: wish(BLOCKED), leads: 5 }),
  };
}

/** A booking, a meeting, the push of a meeting again, and something else. */
export function mixOf({ plain }: CrashStories): Delivery[] {
  return [...plain.next('booked'), ...plain.next('meeting'), ...plain.next('revision'), ...plain.next()];
}

/** `left` says which points are still to be reached. In the long form one point at a time. Returns those that were hit. */
export async function crashAtAll(
  world: World,
  stages: readonly StageName[],
  drive: (round: number, left: readonly string[]) => Promise<void>,
): Promise<string[]> {
  const points = stages.flatMap((stage) => CRASH_POINTS[stage].map((point) => ({ stage, point })));
  const waves = isLong ? points.map((one) => [one]) : [points];
  const calm = hurryMinutes(world);
  try {
    for (const wave of waves)
      await crashAtWave(
        world,
        wave.map(({ point }) => point),
        drive,
      );
  } finally {
    calm();
  }
  return points.map(({ stage, point }) => `${stage}: ${point.point}`);
}

async function crashAtWave(
  world: World,
  points: readonly Parameters<typeof crashAt>[1][],
  drive: (round: number, left: readonly string[]) => Promise<void>,
): Promise<void> {
  const crashes = points.map((point) => crashAt(world, point));
  const leftOf = () => crashes.filter((crash) => !crash.wasHit()).map(({ point }) => point);
  const startedAt = Date.now();
  for (let round = 0; leftOf().length > 0; round += 1) {
    if (Date.now() - startedAt > ALL_HIT_MS) throw new Error(`never reached: ${leftOf().join('; ')}`);
    await drive(round, leftOf());
    await sleep(Math.min(PAUSE_MS_MAX, 100 * (round + 1)));
  }
  await Promise.all(crashes.map(({ hit }) => hit));
  await check(world, { mayFail: ({ error }) => error.code === 'model_blocked' });
}
