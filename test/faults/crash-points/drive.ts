/** Arms crash points, sends webhooks of all kinds until every point was reached, and compares what is left. */
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { StreamName } from '../../../src/lib/event-id.js';
import { check } from '../harness/checker.js';
import { type Crash, crashAt, cutAt } from '../harness/crash.js';
import { run } from '../harness/load.js';
import { hurryMinutes } from '../harness/minutes.js';
import { isLong, sized } from '../harness/scenario.js';
import { SCRIPT_NAMES } from '../harness/wire.js';
import type { World } from '../harness/world.js';
import { type CrashStories, makeCrashStories, mixOf, PROVOKE, type Provocation } from './provoke.js';
import { CRASH_POINTS, NO_POINTS, type Point, type StageName } from './table.js';

const NONE_HIT_MS = 75_000;
/** What a worker holds of a group that was destroyed is in no list until it is heard of again. */
const REST_MS = sized(2_500, 500);
const PAUSE_MS = 100;
/** More at once would be held by workers that die one after the other, until they run alone. */
const OPEN_MAX = 6;
const PROVOKED_EVERY_MS = 1_500;
const DEATHS: ReadonlySet<Provocation> = new Set(['death', 'two deaths', 'shutdown']);
const PROVOKED_CODES = ['model_blocked', 'zoho_invalid_request'];

/** What the provocations make fail for good. */
export function isProvoked({ error }: { error: { code: string } }): boolean {
  return PROVOKED_CODES.includes(error.code);
}

export type DriveOptions = {
  /** Points that are armed at once, in the short form. In the long one it is one at a time, and a check after each. */
  atOnce: number;
};

/** Kills a process at each point of these stages. */
export async function crashAtAll(world: World, stages: readonly StageName[], { atOnce }: DriveOptions): Promise<void> {
  await strikeAtAll(world, stages, { atOnce, strike: (point) => crashAt(world, point) });
}

/** Loses the answer to what is sent at each point of these stages, the process living on; in the short form nobody dies. */
export async function loseAnswersAtAll(world: World, stages: readonly StageName[]): Promise<void> {
  await strikeAtAll(world, stages, {
    atOnce: Number.POSITIVE_INFINITY,
    strike: (point) => cutAt(world, point),
    isWanted: ({ by }) => isLong || !by.some((one) => DEATHS.has(one)),
  });
}

type Strike = { atOnce: number; strike: (point: Point) => Crash; isWanted?: (point: Point) => boolean };

async function strikeAtAll(
  world: World,
  stages: readonly StageName[],
  { atOnce, strike, isWanted = () => true }: Strike,
): Promise<void> {
  const points = stages.flatMap((stage) =>
    CRASH_POINTS[stage].filter((point) => (isLong || !point.isRare) && isWanted(point)),
  );
  const stories = makeCrashStories(world, stages.join(' '));
  const calm = hurryMinutes(world);
  try {
    const groups = isLong ? points.map((point) => [point]) : [world.random.shuffle(points)];
    for (const group of groups) {
      await strikeAt(world, group, stories, { atOnce, strike });
      // What was in several crashes waits for the isolation slot, which stays empty longer after each of them.
      await check(world, { mayFail: isProvoked, restMs: REST_MS, stuckMs: sized(60_000, 150_000) });
    }
  } finally {
    calm();
  }
  console.log(`${points.length} points, each hit:\n${points.map(({ point }) => `  ${point}`).join('\n')}`);
}

/** Where one is hit the next is armed. */
async function strikeAt(
  world: World,
  points: readonly Point[],
  stories: CrashStories,
  { atOnce, strike }: Strike,
): Promise<void> {
  const waiting = [...points];
  const armed = new Map<Point, Crash>();
  const hits: Promise<unknown>[] = [];
  let hitAt = Date.now();
  const armNext = () => {
    const point = waiting.shift();
    if (point === undefined) return;
    const crash = strike(point);
    armed.set(point, crash);
    hits.push(
      crash.hit.then(() => {
        hitAt = Date.now();
        armed.delete(point);
        armNext();
      }),
    );
  };
  for (let n = 0; n < Math.min(atOnce, points.length); n += 1) armNext();

  const provokedAt = new Map<Provocation, number>();
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const provoke = (provocation: Provocation) => {
    if (Date.now() - (provokedAt.get(provocation) ?? 0) < PROVOKED_EVERY_MS) return;
    provokedAt.set(provocation, Date.now());
    const provoked = PROVOKE[provocation](world, stories)
      .catch((error) => void failures.push(error))
      .finally(() => underWay.delete(provoked));
    underWay.add(provoked);
  };
  try {
    while (armed.size > 0) {
      const names = [...armed.keys()].map(({ point }) => point);
      if (Date.now() - hitAt > NONE_HIT_MS) throw new Error(`never reached: ${names.join('; ')}`);
      for (const provocation of new Set([...armed.keys()].flatMap(({ by }) => by))) provoke(provocation);
      if ((await countOpen(world)) < OPEN_MAX) await run(world, mixOf(stories), { concurrency: 4 });
      await sleep(PAUSE_MS);
      if (failures.length > 0) throw failures[0];
    }
  } finally {
    for (const crash of armed.values()) crash.disarm();
    await Promise.all(underWay);
  }
  await Promise.all(hits);
}

/** Webhooks that have not come to their end. */
async function countOpen({ client, keys }: World): Promise<number> {
  const lengthOf = async (stream: StreamName) => client.xlen(keys.stream(stream));
  const [bookings, meetings, synced, failed] = await Promise.all(
    (['events:calendly', 'events:readai', 'events:synced', 'events:failed'] as const).map(lengthOf),
  );
  return bookings! + meetings! - synced! - failed!;
}

/** Every script, and whatever else goes over a wire, is a point, or it is said why it is none. */
export function assertAllCovered({ wire }: World): void {
  const points = Object.values(CRASH_POINTS).flat();
  const isPoint = (seen: string) =>
    points.some(({ name }) => (name instanceof RegExp ? name.test(seen) : name === seen)) || seen in NO_POINTS;
  const missing = [...new Set([...SCRIPT_NAMES, ...wire.names])].filter((name) => !isPoint(name)).sort();
  assert.equal(missing, [], 'no point at which anybody dies');
}
