import { lstatSync, watch } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import { crashAt } from './harness/crash.js';
import { isSpooled } from './harness/history.js';
import { run } from './harness/load.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { type Delivery, makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('a crash at every step of the spool that can be seen from outside');

/** A file's header alone holds no record. */
const HEADER_BYTES = 24;
const HIT_MS = 60_000;

type FileEvent = { event: 'rename' | 'change'; name: string; exists: boolean; bytes: number };

/** `isDraining`: Redis is back, or is still away. `on`: what happens to a file of the spool, or what goes to Redis. */
type SpoolPoint = {
  point: string;
  isDraining: boolean;
  on: ((seen: FileEvent) => boolean) | 'before' | 'after' | 'answer';
};

const isSegment = ({ name }: FileEvent) => name.endsWith('.spool');

const POINTS: SpoolPoint[] = [
  { point: 'the directory was locked', isDraining: false, on: ({ name, exists }) => name === 'lock' && exists },
  { point: 'a segment was made', isDraining: false, on: (seen) => isSegment(seen) && seen.exists },
  {
    point: 'records were written',
    isDraining: false,
    on: (seen) => isSegment(seen) && seen.event === 'change' && seen.bytes > HEADER_BYTES,
  },
  { point: 'a webhook was answered as spooled', isDraining: false, on: 'answer' },
  { point: 'before a spooled webhook is appended', isDraining: true, on: 'before' },
  { point: 'after a spooled webhook was appended, before it is taken out', isDraining: true, on: 'after' },
  {
    point: 'the position was saved',
    isDraining: true,
    // By the time that it is heard of, the segment may be drained and gone.
    on: (seen) => isSegment(seen) && seen.event === 'change',
  },
  { point: 'a drained segment was removed', isDraining: true, on: (seen) => isSegment(seen) && !seen.exists },
];

const stage = setStage(test, import.meta.url, { spool: true, gemini: false });

stage.scenario('what was answered is appended once, in order, wherever ingest died', async (world) => {
  const stories = makeStories(world.random.fork('spool'), { mix: { revision: 0 }, leads: 10 });
  for (const { isDraining, ...point } of POINTS) {
    const fault = world.faultLog.add('SIGKILL Redis', `for ${point.point}`);
    world.redis.kill('SIGKILL');
    if (isDraining) await run(world, stories.take(sized(8, 60)), { concurrency: 4 });
    const armed = arm(world, { isDraining, ...point });
    if (!isDraining) {
      // The lock is taken at a start.
      if (point.point.includes('locked')) await world.part('i1').kill({ note: 'so that it starts' });
      await Promise.all([run(world, stories.take(sized(8, 60)), { concurrency: 4 }), armed.hit]);
    }
    await world.redis.restart();
    fault.healedAt = Date.now();
    await untilHit(point.point, armed.hit);
    await waitFor('ingest to be back', () => world.part('i1').isReady(), 30_000);
    if (isLong) await check(world);
  }
  await check(world);
  await assertInOrder(world);
  console.log(`${POINTS.length} crash points, each hit:\n${POINTS.map(({ point }) => `  ${point}`).join('\n')}`);
});

test.run();

/** Kills ingest the first time that the point is reached. */
function arm(world: World, { point, on }: SpoolPoint): { hit: Promise<unknown> } {
  const ingest = world.part('i1');
  if (on === 'before' || on === 'after') {
    return crashAt(world, { point, name: 'append', owner: 'i1', when: on });
  }
  const hit = on === 'answer' ? untilSpooled(world) : untilSeen(world.spoolDir('i1'), on);
  return { hit: hit.then(() => ingest.kill({ note: point })) };
}

async function untilHit(point: string, hit: Promise<unknown>): Promise<void> {
  let isHit = false;
  void hit.then(() => {
    isHit = true;
  });
  await waitFor(`the point “${point}” to be reached`, () => isHit, HIT_MS);
}

async function untilSpooled({ history }: World): Promise<void> {
  const before = history.sent.length;
  await waitFor('a webhook to be spooled', () => history.sent.slice(before).some(isSpooled));
}

function untilSeen(dir: string, isIt: (seen: FileEvent) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watch(dir, { persistent: false }, (event, name) => {
      const path = join(dir, name ?? '');
      // The lock is a link to nowhere.
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (!isIt({ event, name: name ?? '', exists: found !== undefined, bytes: found?.size ?? 0 })) return;
      watcher.close();
      resolve();
    });
  });
}

/** Of two webhooks of which one was answered before the other was sent, the first is appended first. */
async function assertInOrder(world: World): Promise<void> {
  const places = new Map<string, string>();
  for (const stream of ['events:calendly', 'events:readai'] as const) {
    const entries = await world.client.xrange(world.keys.stream(stream), '-', '+');
    for (const [id, fields] of entries) places.set(fields[fields.indexOf('data') + 1]!, id);
  }
  const firstTaken = new Map<Delivery, number>();
  for (const { delivery, outcome } of world.history.sent.filter(isSpooled)) {
    if (!firstTaken.has(delivery)) firstTaken.set(delivery, outcome.at + outcome.ms);
  }
  const firstSent = new Map<Delivery, number>();
  for (const { delivery, outcome } of world.history.sent) {
    if (!firstSent.has(delivery)) firstSent.set(delivery, outcome.at);
  }
  const ordered = [...firstTaken].sort(([, a], [, b]) => a - b);
  for (const [earlier, takenAt] of ordered) {
    for (const [later] of ordered) {
      if (earlier.source !== later.source || firstSent.get(later)! <= takenAt + 1) continue;
      const [first, second] = [places.get(earlier.body)!, places.get(later.body)!].map(toNumber);
      assert.ok(first! < second!, `${later.key} overtook ${earlier.key}`);
    }
  }
}

function toNumber(id: string): number {
  const [ms = '0', sequence = '0'] = id.split('-');
  return Number(ms) * 1_000 + Number(sequence);
}
