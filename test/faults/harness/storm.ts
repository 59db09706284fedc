/** Steady traffic with something terrible in its midst, and what became of the traffic. */
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../../helpers/wait-for.js';
import type { InjectedFault } from './fault-log.js';
import { isAccepted, type Sent } from './history.js';
import { sendUntilTaken } from './load.js';
import { findRecoveries } from './report.js';
import { sized } from './scenario.js';
import { readSnapshot } from './snapshot.js';
import { makeStories, type StoryOptions } from './stories.js';
import type { World } from './world.js';

export type StormOptions = {
  /** Webhooks a second [12; in the long form 50]. */
  ratePerS?: number;
  /** Traffic before and after the storm; before from the first that is taken in. */
  beforeMs?: number;
  afterMs?: number;
  stories?: StoryOptions;
};

const FIRST_MS = 60_000;

/**
 * Sends on from before the fault until after it, each webhook until it is taken in, as the providers do. Resolves, once each
 * has its 2xx, with what was sent and what the fault's function said.
 */
export async function underLoad<T>(
  world: World,
  name: string,
  fault: () => Promise<T>,
  options: StormOptions = {},
): Promise<{ sent: readonly Sent[]; result: T }> {
  const { ratePerS = sized(12, 50), beforeMs = 500, afterMs = 500 } = options;
  const stories = makeStories(world.random.fork(name), { leads: 12, ...options.stories });
  const firstAt = world.history.sent.length;
  const underWay: Promise<unknown>[] = [];
  let isOver = false;
  const givenUp = new AbortController();
  async function sendOn(): Promise<void> {
    const startedAt = performance.now();
    for (let count = 0; !isOver; ) {
      for (const delivery of stories.next()) {
        underWay.push(sendUntilTaken(world, delivery, givenUp.signal));
        count += 1;
      }
      await sleep(Math.max(0, startedAt + (count * 1_000) / ratePerS - performance.now()));
    }
    await Promise.all(underWay);
  }
  const sending = sendOn();
  try {
    await waitFor('the first to be taken in', () => world.history.sent.slice(firstAt).some(isAccepted), FIRST_MS);
    await sleep(beforeMs);
    const result = await fault();
    await sleep(afterMs);
    isOver = true;
    await sending;
    return { sent: world.history.sent.slice(firstAt), result };
  } catch (error) {
    // The world is about to end: nobody sends into its ruins.
    isOver = true;
    givenUp.abort();
    await sending.catch(() => {});
    throw error;
  }
}

/** How long the slowest of the answers took, ms. */
export function slowestMs(sent: readonly Sent[]): number {
  return Math.max(0, ...sent.map(({ outcome }) => outcome.ms));
}

export function countStatus(sent: readonly Sent[], status: number): number {
  return sent.filter(({ outcome }) => outcome.status === status).length;
}

/** From the end of the fault to the next entry that a worker wrote, ms. */
export async function recoveryMsOf(world: World, fault: InjectedFault): Promise<number> {
  const [ms] = findRecoveries({ faultLog: { faults: [{ ...fault, affected: [] }] } }, await readSnapshot(world));
  if (ms === undefined) throw new Error(`no worker wrote anything after ${fault.kind} was over`);
  return ms;
}

/** Throws where a worker came back by being started again: they are to come back by themselves. */
export async function withoutRestarts(world: World, body: () => Promise<void>): Promise<void> {
  const countRestarts = () => world.parts().map((part) => `${part.name} ${part.pid}`);
  const before = countRestarts();
  await body();
  const after = countRestarts();
  const restarted = after.filter((one) => !before.includes(one));
  if (restarted.length > 0) throw new Error(`started again: ${restarted.join(', ')}`);
}
