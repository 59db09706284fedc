import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { readaiSignature } from '../helpers/webhooks.js';
import { findStalls } from './harness/check-effects.js';
import { check } from './harness/checker.js';
import { run } from './harness/load.js';
import { hurryMinutes } from './harness/minutes.js';
import type { Part, PartEnd } from './harness/parts.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { readSnapshot, type Snapshot } from './harness/snapshot.js';
import { type Delivery, makeStories, type Stories } from './harness/stories.js';
import { withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('poison among good events');

type Poison = Delivery & { what: string; group: string };

const CRASHES_MAX = 3;
/** What a worker dies of; `throw` and `stack` end the attempt alone. */
const DEADLY = ['exit', 'memory', 'loop'];
/** One that is deadly: each costs five workers their lives. */
const SHORT = ['throw.enrich', 'stack.crm-sync', 'exit.summarize'];
const LONG = ['throw', 'stack', ...DEADLY].flatMap((what) =>
  ['enrich', 'summarize', 'crm-sync'].map((group) => `${what}.${group}`),
);

/** In the short form nothing hangs but for want of a processor. */
const GUARD_MS = sized(30_000, 3_000);

const stage = setStage(test, import.meta.url, {
  workers: Array.from({ length: 3 }, () => ({
    entry: 'test/faults/workers/poisoned.cjs',
    env: { GUARD_MS: String(GUARD_MS), NODE_OPTIONS: '--max-old-space-size=256' },
  })),
  env: { MAX_ATTEMPTS: String(CRASHES_MAX), VISIBILITY_TIMEOUT_MS: String(sized(1_500, 1_000)) },
  gemini: false,
});

/** Of those that have failed already: in the same world they are told of by every check. */
const formerPoisons = new Set<string>();

stage.scenario('what throws, exits, hoards memory or hangs fails alone; no neighbour is condemned', async (world) => {
  const bad = makeStories(world.random.fork('poison'), { leads: 12 });
  const poisons = sized(SHORT, LONG).map((what, index) => makePoison(bad, what, index));
  const good = makeStories(world.random.fork('neighbours'), { leads: 12 }).take(sized(30, 600));
  await run(world, world.random.shuffle([...poisons, ...good]), { ratePerS: 60 });
  await untilEnded(world, poisons);
  await checkPoisoned(world, poisons);
});

stage.scenario(
  'payloads of every size, depth and name go through the real consumers or are kept aside',
  async (world) => {
    const { random } = world;
    const odd = [
      ...oddOnes(world, 'booked', { answer: 'a'.repeat(200_000) }),
      ...oddOnes(world, 'meeting', { words: 'word '.repeat(40_000) }),
      ...oddOnes(world, 'meeting', { words: 'w'.repeat(sized(4_000_000, 9_900_000)) }),
      ...oddOnes(world, 'booked', { extra: nested(150) }),
      ...oddOnes(world, 'meeting', { extra: nested(150) }),
      ...oddOnes(world, 'booked', { extra: JSON.parse(PROTOTYPE_KEYS) }),
      ...oddOnes(world, 'meeting', { extra: JSON.parse(PROTOTYPE_KEYS) }),
    ];
    const stories = makeStories(random.fork('beside'), { leads: 8 });
    await withoutRestarts(world, async () => {
      await run(world, random.shuffle([...odd, ...stories.take(20)]));
      const tooDeep = oddOnes(world, 'meeting', { extra: 'PLACE' })[0]!;
      const deep = tooDeep.body.replace('"PLACE"', `${'['.repeat(50_000)}${']'.repeat(50_000)}`);
      assert.is(await postBytes(world, Buffer.from(deep)), 'quarantined');
      for (const byte of [0xff, 0xc3]) assert.is(await postBytes(world, badUtf8(tooDeep.body, byte)), 'quarantined');
      await check(world, {
        mayFail: ({ key }) => formerPoisons.has(key),
        mayEnd: (end) => isPoisoned(world, end),
      });
    });
  },
);

if (isLong) {
  stage.inOwnWorld('a flood of poison: the group goes on meanwhile', {}, async (world) => {
    const stories = makeStories(world.random.fork('flood'), { leads: 40 });
    const what = [
      ...Array.from({ length: 1_000 }, () => 'throw.enrich'),
      ...Array.from({ length: 6 }, () => 'exit.enrich'),
    ];
    const poisons = what.map((kind, index) => makePoison(stories, kind, index));
    const good = makeStories(world.random.fork('neighbours'), { leads: 40 }).take(400);
    await run(world, world.random.shuffle([...poisons, ...good]), { concurrency: 16 });
    await untilEnded(world, poisons);
    await checkPoisoned(world, poisons);
  });
}

test.run();

const PROTOTYPE_KEYS =
  '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"toString":"x","":0}';
const ENDED_MS = sized(180_000, 600_000);

/** One event that its group dies of, or that at least throws. */
function makePoison(stories: Stories, kind: string, index: number): Poison {
  const [what = '', group = ''] = kind.split('.');
  const [delivery] = stories.next(group === 'summarize' ? 'meeting' : 'booked') as [Delivery];
  const email = `${kind}.${index}@poison${index}.example`;
  return { ...delivery, what, group, email, body: delivery.body.replaceAll(delivery.email, email) };
}

async function untilEnded(world: World, poisons: readonly Poison[]): Promise<void> {
  const deadline = performance.now() + ENDED_MS;
  for (;;) {
    const { failures } = await readSnapshot(world);
    const left = poisons.filter(({ key }) => !failures.some((failure) => failure.key === key));
    if (left.length === 0) return;
    if (performance.now() > deadline) {
      throw new Error(
        `these have not failed within ${ENDED_MS} ms: ${left.map(({ what, group }) => `${what} in ${group}`)}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Each poison failed with its own reason, and every death of a worker is one that an event is blamed for. */
async function checkPoisoned(world: World, poisons: readonly Poison[]): Promise<void> {
  for (const { key } of poisons) formerPoisons.add(key);
  // One that hangs may have been given up on before it ends.
  const isDying = (part: Part) => isPoisoned(world, { part: part.name, pid: part.pid });
  await waitFor('the poisoned ones to end', () => !world.workers().some(isDying), 30_000);
  for (const part of world.workers()) await part.untilReady();
  const calm = hurryMinutes(world);
  await check(world, {
    mayFail: (failure) => poisons.some(({ key }) => key === failure.key),
    mayEnd: (end) => isPoisoned(world, end),
    stuckMs: sized(60_000, 180_000),
  }).finally(calm);
  const snapshot = await readSnapshot(world);
  const blamed = snapshot.failures.map((failure) => {
    const poison = poisons.find(({ key }) => key === failure.key)!;
    const isDeadly = DEADLY.includes(poison.what);
    assert.is(failure.group, poison.group);
    assert.is(failure.error.code, isDeadly ? 'worker_crashed' : 'unexpected', `${poison.what} in ${poison.group}`);
    assert.ok(failure.attempts >= CRASHES_MAX, `${poison.what} in ${poison.group}: ${failure.attempts} attempts`);
    if (isDeadly) assert.match(failure.error.message, /ran alone/);
    return isDeadly ? failure.attempts : 0;
  });
  // Two may be at work in one process, but those that run alone do not die together. The first death of each may go uncounted:
  // of a worker that was heard of after it was handed the event, and has not kept it alive since, its reply seems lost.
  const deaths = world.workers().flatMap((part) => part.ends()).length;
  const crashes = blamed.reduce((sum, attempts) => sum + attempts, 0);
  const uncounted = poisons.filter(({ what }) => DEADLY.includes(what)).length;
  const told = `${deaths} workers died, and only ${crashes} crashes are blamed on an event`;
  assert.ok(deaths <= crashes + uncounted, told);
  // Who stands still for a claim's time has died as far as the others can tell.
  assert.ok(
    deaths + findStalls(world).length >= Math.max(...blamed),
    `${deaths} deaths are too few for ${blamed.join(', ')} crashes`,
  );
  console.log(`  ${deaths} deaths for ${crashes} crashes that are blamed on an event`);
  assertNeighboursGoOn(snapshot);
}

/** It said so before it died. */
function isPoisoned(world: World, { part, pid }: Pick<PartEnd, 'part' | 'pid'>): boolean {
  const lastWords = `"pid":${pid},"msg":"poisoned by `;
  return world
    .part(part)
    .lines()
    .some((line) => line.includes(lastWords));
}

function assertNeighboursGoOn({ byStream, failures }: Snapshot): void {
  const failedKeys = new Set(failures.map(({ key }) => key));
  for (const stream of ['events:enriched', 'events:summarized', 'events:synced'] as const) {
    for (const { fields, key, eventId } of byStream(stream)) {
      if (failedKeys.has(key)) continue;
      assert.ok(Number(fields.attempts) <= 2, `${eventId} of a neighbour took ${fields.attempts} attempts`);
    }
  }
  const syncedAt = byStream('events:synced')
    .map(({ at }) => at)
    .sort((a, b) => a - b);
  const lastFailedAt = Math.max(...byStream('events:failed').map(({ at }) => at));
  const first = syncedAt[Math.floor(syncedAt.length / 4)]!;
  assert.ok(first < lastFailedAt, 'the neighbours waited for the end of the poison');
}

type Oddity = { answer?: string; words?: string; extra?: unknown };

function oddOnes({ random }: World, kind: 'booked' | 'meeting', { answer, words, extra }: Oddity): Delivery[] {
  const stories = makeStories(random.fork(random.id('odd')), {
    leads: 1,
    alter(_, body) {
      if (extra !== undefined) body.extra = extra;
      if (words !== undefined) body.transcript = transcriptOf(words);
      const { questions_and_answers: answers } = (body.payload ?? {}) as { questions_and_answers?: unknown[] };
      if (answer !== undefined) answers?.push({ question: 'What else?', answer, position: 1 });
    },
  });
  return stories.next(kind);
}

function transcriptOf(words: string) {
  const speaker = { name: 'Ada Lovelace' };
  return { speaker_blocks: [{ start_time: '1794322800000', speaker, words }], speakers: [speaker] };
}

function nested(depth: number): unknown {
  let value: unknown = 'deep';
  for (let n = 0; n < depth; n += 1) value = n % 2 === 0 ? [value] : { a: value };
  return value;
}

function badUtf8(body: string, byte: number): Buffer {
  const [before = '', after = ''] = body.split('PLACE');
  return Buffer.concat([Buffer.from(before), Buffer.from([byte, 0x28]), Buffer.from(after)]);
}

async function postBytes(world: World, body: Buffer): Promise<string> {
  const response = await fetch(`${world.ingests()[0]!.url}/webhooks/readai`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-read-signature': readaiSignature(body) },
    body: new Uint8Array(body),
  });
  return ((await response.json()) as { status: string }).status;
}
