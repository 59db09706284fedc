import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import type { Matcher } from './harness/links.js';
import { run, send } from './harness/load.js';
import type { Part } from './harness/parts.js';
import { setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('workers that stand still');

const CLAIM_MS = 1_200;
const BURN_MS = 2 * CLAIM_MS;
/** So long that a busy machine keeps up with the heartbeat: here no claim may be lost. */
const PATIENT_CLAIM_MS = 3_000;

const stage = setStage(test, import.meta.url, {
  workers: Array.from({ length: 3 }, () => ({
    entry: 'test/faults/workers/burn.js',
    env: { BURN_MS: String(BURN_MS) },
  })),
  env: { VISIBILITY_TIMEOUT_MS: String(CLAIM_MS) },
  zoho: { latencyMs: 20 },
});

/** Just before the worker learns that it may go on with an effect, or that one is done. */
const MOMENTS: (Matcher & { moment: string })[] = [
  { moment: 'while the model is asked', name: /generateContent$/, when: 'after' },
  {
    moment: 'holding the leases of leads',
    name: 'lease-leads',
    when: 'after',
    where: ({ argv }) => argv[0] === 'take',
  },
  { moment: 'about to upsert leads', name: 'save-intents', when: 'after' },
  { moment: 'while leads are upserted', name: 'POST /crm/v8/Leads/upsert', when: 'after' },
  {
    moment: 'about to create a note',
    name: 'save-intents',
    when: 'after',
    where: ({ argv }) => argv.join(' ').includes('[null,'),
  },
  { moment: 'while notes are created', name: 'POST /crm/v8/Notes', when: 'after' },
  { moment: 'about to settle a summary', name: 'settle', group: 'summarize', when: 'before' },
  { moment: 'settled, and not told so', name: 'settle', group: 'crm-sync', when: 'after' },
];

stage.scenario(
  'frozen for three times the claim time in the midst of an effect: who wakes late changes nothing',
  async (world) => {
    const stories = makeStories(world.random.fork('frozen'), { mix: { meeting: 60 } });
    const moments = world.random.shuffle(MOMENTS).slice(0, sized(4, MOMENTS.length));
    while (moments.length > 0)
      await Promise.all([freezeAt(world, moments.pop()!), freezeAt(world, moments.pop()!), feed()]);
    await check(world);

    async function feed(): Promise<void> {
      await run(world, stories.take(30), { ratePerS: 15 });
    }
  },
);

stage.scenario('an event loop that stands still for twice the claim time: no effect comes twice', async (world) => {
  world.gemini.faults.on({ path: /generateContent$/, times: 40 }, { latencyMs: 400 });
  const stories = makeStories(world.random.fork('burning'));
  const load = run(world, stories.take(sized(60, 600)), { ratePerS: 20 });
  for (let n = 0; n < sized(2, 10); n += 1) {
    await sleep(500);
    const victim = world.random.pick(world.workers());
    await victim.untilReady();
    world.faultLog.add('event loop blocked', `${victim.name} for ${BURN_MS} ms`);
    process.kill(victim.pid, 'SIGUSR2');
    await sleep(BURN_MS);
  }
  await load;
  await check(world);
});

test.run();

const patience = suite('work that takes its time');

const quiet = setStage(patience, import.meta.url, {
  workers: [
    { groups: ['enrich', 'summarize'], concurrency: 1 },
    { groups: ['enrich', 'summarize'], concurrency: 1 },
    {},
  ],
  zoho: { latencyMs: 5 },
  env: { VISIBILITY_TIMEOUT_MS: String(PATIENT_CLAIM_MS) },
});

quiet.scenario(
  'a handler that takes many times the claim time runs once, and what waits behind it is not taken away',
  async (world) => {
    const stories = makeStories(world.random.fork('patience'), { mix: { revision: 0, meeting: 0 } });
    const slow = stories.next('meeting')[0]!;
    const isSlow = ({ rawBody }: { rawBody: string }) => rawBody.includes(slow.key.split(':').at(-1)!);
    world.gemini.faults.on({ when: isSlow }, { latencyMs: sized(3, 20) * PATIENT_CLAIM_MS });
    await send(world, slow);
    await waitFor('the model to be asked', () => countCalls(world, slow.key) > 0);
    await run(world, stories.take(sized(60, 500)), { concurrency: 16 });
    await check(world, { timeoutMs: 90_000 });
    assert.is(countCalls(world, slow.key), 1, 'the model was asked again');
    const { entries } = await readSnapshot(world);
    const booked = entries.filter(({ type }) => type === 'calendly.invitee.created').length;
    assert.is(world.gemini.calls.length - 1, booked, 'the model was asked twice about a booking');
    assert.equal(world.workers().flatMap(takeovers), []);
  },
);

patience.run();

function countCalls({ gemini }: World, key: string): number {
  return gemini.calls.filter(({ body }) => JSON.stringify(body).includes(key.split(':').at(-1)!)).length;
}

function takeovers(part: Part): string[] {
  return part.lines().filter((line) => line.includes('took over'));
}

/** Freezes whoever comes to this moment first, wakes it when its claims are long gone, and waits until it is at work again. */
async function freezeAt(world: World, { moment, ...matcher }: Matcher & { moment: string }): Promise<void> {
  const victim = await new Promise<Part>((resolve) => {
    const end = world.links.onCommand(matcher, ({ owner }) => {
      end();
      const part = world.part(owner);
      part.freeze();
      resolve(part);
      return undefined;
    });
  });
  world.faultLog.add('SIGSTOP worker', `${victim.name} ${moment}`);
  await sleep(3 * CLAIM_MS);
  victim.thaw();
}
