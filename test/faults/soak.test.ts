/**
 * Everything at random in one world, round after round, each round checked: no fault of its own but all of them close upon one
 * another. `SOAK_MINUTES` makes it as long as a night; what grows in it without end shows.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { check } from './harness/checker.js';
import type { Part } from './harness/parts.js';
import {
  destroyGroups,
  fillMemory,
  freezeRedis,
  killClients,
  killRedis,
  pauseClients,
} from './harness/redis-faults.js';
import { setStage, sized } from './harness/scenario.js';
import { underLoad } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('everything at random');

const ROUNDS_MIN = sized(1, 3);
const ROUND_FAULTS = sized(6, 40);
const SOAK_MS = Number(process.env.SOAK_MINUTES ?? 0) * 60_000;
const CLAIM_MS = 1_500;
/** What a worker holds of a group that was destroyed is in no list until it is heard of again. */
const REST_MS = 3_000;
/** Of a process: more than one in good order ever has here, much less than what a leak of a night comes to. */
const RESIDENT_MB_MAX = 500;
const DESCRIPTORS_MAX = 100;

const stage = setStage(test, import.meta.url, {
  workers: [{}, {}, { groups: ['crm-sync', 'enrich'] }],
  ingests: 2,
  // Who is hit by one fault after another must not run out of attempts.
  env: { MAX_ATTEMPTS: '12', VISIBILITY_TIMEOUT_MS: String(CLAIM_MS) },
  gemini: false,
  zoho: { latencyMs: 20 },
});

type Mischief = [name: string, act: (world: World) => Promise<unknown>];

const MISCHIEF: readonly Mischief[] = [
  ['a worker is killed', (world) => pickWorker(world).kill()],
  [
    'two workers are killed',
    (world) =>
      Promise.all(
        world.random
          .shuffle(world.workers())
          .slice(0, 2)
          .map((one) => one.kill()),
      ),
  ],
  ['an ingest is killed', (world) => world.random.pick(world.ingests()).kill()],
  ['a worker is told to end', endOrderly],
  ['a worker is frozen and wakes late', freezeLong],
  ['Redis is killed', (world) => killRedis(world, { downMs: world.random.int(0, 1_000) })],
  ['Redis is frozen', (world) => freezeRedis(world, world.random.int(300, 2_000))],
  ['Redis is out of memory', outOfMemory],
  ['the server closes all connections', (world) => killClients(world, { times: 1, everyMs: 100 })],
  ['the server answers nobody', (world) => pauseClients(world, world.random.int(200, 1_500))],
  ['every link is forgotten', forgetLinks],
  ['connections are never answered', (world) => onLinks(world, 'half-open', { kind: 'half-open' })],
  ['all groups are destroyed', (world) => destroyGroups(world)],
  ['replies are lost', (world) => onLinks(world, 'replies dropped', { kind: 'drop-replies', probability: 0.03 })],
  ['commands are cut', (world) => onLinks(world, 'commands cut', { kind: 'cut-commands', probability: 0.03 })],
  ['a link is a black hole', (world) => onLinks(world, 'black hole', { kind: 'black-hole' }, pickWorker(world).name)],
  ['the CRM fails', (world) => atZoho(world, '500s', { status: 500 })],
  ['the CRM loses answers', (world) => atZoho(world, 'answers lost', { doneButAnswerLost: true })],
  ['the CRM asks for less', (world) => atZoho(world, '429', { status: 429, body: { code: 'TOO_MANY_REQUESTS' } })],
];

stage.scenario(
  'faults of every kind close upon one another: every event ends once, and nothing grows',
  async (world) => {
    const startedAt = performance.now();
    const keysAtRest: number[] = [];
    for (let round = 1; round <= ROUNDS_MIN || performance.now() - startedAt < SOAK_MS; round += 1) {
      await underLoad(world, `round ${round}`, () => misbehave(world, round), {
        ratePerS: sized(10, 20),
        afterMs: 1_000,
      });
      await check(world, { restMs: REST_MS, stuckMs: sized(60_000, 180_000) });
      keysAtRest.push(await countWorkingKeys(world));
      for (const part of world.parts()) assertBounded(part);
    }
    // What is kept while something is under way is gone when nothing is.
    assert.ok(Math.max(...keysAtRest) <= keysAtRest[0]! + WORKING_KEYS_SPARE, `working keys: ${keysAtRest.join(' ')}`);
    console.log(`  ${keysAtRest.length} rounds; working keys at rest: ${keysAtRest.join(' ')}`);
  },
);

test.run();

/** Some are there from the first time that something was needed. */
const WORKING_KEYS_SPARE = 30;

/** Each kind comes once before any comes again. */
async function misbehave(world: World, round: number): Promise<void> {
  const random = world.random.fork(`mischief ${round}`);
  let left: Mischief[] = [];
  for (let n = 0; n < ROUND_FAULTS; n += 1) {
    if (left.length === 0) left = random.shuffle([...MISCHIEF]);
    const [, act] = left.pop()!;
    await act(world);
    await sleep(random.int(100, 900));
  }
}

function pickWorker({ random, workers }: World): Part {
  return random.pick(workers());
}

async function endOrderly(world: World): Promise<void> {
  const part = pickWorker(world);
  const fault = world.faultLog.add('SIGTERM worker', part.name);
  await part.terminate();
  await part.start();
  fault.healedAt = Date.now();
}

async function freezeLong(world: World): Promise<void> {
  const part = pickWorker(world);
  const fault = world.faultLog.add('SIGSTOP worker', part.name);
  part.freeze();
  await sleep(2 * CLAIM_MS);
  part.thaw();
  fault.healedAt = Date.now();
}

async function outOfMemory(world: World): Promise<void> {
  const heal = await fillMemory(world);
  await sleep(world.random.int(300, 1_500));
  await heal();
}

async function onLinks(
  { links, faultLog, random }: World,
  kind: string,
  fault: Parameters<World['links']['setFault']>[1],
  owner?: string,
): Promise<void> {
  const added = faultLog.add(kind, owner ?? 'every role');
  await links.setFault({ link: 'redis', ...(owner === undefined ? {} : { owner }) }, fault);
  await sleep(random.int(500, 2_500));
  await links.heal();
  added.healedAt = Date.now();
}

/** By a firewall: nobody is told. */
async function forgetLinks({ links, faultLog }: World): Promise<void> {
  const fault = faultLog.add('link forgotten', 'every role');
  for (const proxy of links.select({ link: 'redis' })) proxy.forget();
  fault.healedAt = Date.now();
}

async function atZoho(
  { zoho, faultLog, random }: World,
  kind: string,
  fault: Parameters<World['zoho']['faults']['on']>[1],
): Promise<void> {
  const added = faultLog.add(kind, 'zoho');
  const isHit = () => random.int(0, 1) === 1;
  const end = zoho.faults.on({ path: '/crm/*', when: isHit }, fault);
  await sleep(random.int(500, 2_500));
  end();
  added.healedAt = Date.now();
}

/** Streams and what belongs to one event for good left out. */
async function countWorkingKeys({ client, keys }: World): Promise<number> {
  const all = await client.keys(`${keys.prefix}*`);
  const isOfEvents = (key: string) =>
    /^(events:|idem:|progress:|lead:|leads:|projection:)/.test(key.slice(keys.prefix.length));
  return all.filter((key) => !isOfEvents(key)).length;
}

function assertBounded({ name, pid, isRunning }: Part): void {
  if (!isRunning()) return;
  const residentMb = Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024;
  const descriptors = readdirSync(`/proc/${pid}/fd`).length;
  assert.ok(residentMb < RESIDENT_MB_MAX, `${name} holds ${Math.round(residentMb)} MB`);
  assert.ok(descriptors < DESCRIPTORS_MAX, `${name} has ${descriptors} descriptors open`);
}
