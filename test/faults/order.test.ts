import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import { groupBy } from './harness/history.js';
import { run, sendUntilTaken } from './harness/load.js';
import { makeMirror } from './harness/mirror.js';
import type { Random } from './harness/random.js';
import { setStage, sized } from './harness/scenario.js';
import { type Delivery, makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite('events of one lead in any order');

/** So many people, each with a tangle of moves, cancellations, no-shows, meetings and their revisions. */
const LEADS = sized(4, 40);
const EVENTS = sized(36, 800);
const MIX = { booked: 24, canceled: 12, moved: 24, no_show: 12, meeting: 12, revision: 16 };

const stage = setStage(test, import.meta.url, { workers: 2, gemini: false, env: { MAX_ATTEMPTS: '12' } });

stage.scenario('whatever the order of arrival and of work, the CRM ends as the in-order run', async (world) => {
  const { random } = world;
  const told = makeStories(random.fork('told'), { leads: LEADS, mix: MIX }).take(EVENTS);

  const reference = makeMirror(random, 'told', '');
  await runInOrder(world, told);
  await check(world);
  const expected = reference.readCrm(world);

  const orders = {
    backwards: [...told].reverse(),
    shuffled: random.shuffle(told),
    'another way': random.shuffle(told),
  };
  const runs = Object.entries(orders).slice(0, sized(2, 3));
  const calm = disturb(world);
  for (const [name, order] of runs) {
    const deliveries = makeMirror(random, 'told', name).reflect(keepPushesInOrder(order));
    const load = run(world, deliveries, { concurrency: 12, inOrderOf: ({ key }) => key });
    await killNowAndThen(world, load);
  }
  calm();
  await check(world);
  for (const [name] of runs) assert.equal(makeMirror(random, 'told', name).readCrm(world), expected, name);
});

test.run();

/** One event of a lead after the other, each once the CRM has the one before. */
async function runInOrder(world: World, deliveries: readonly Delivery[]): Promise<void> {
  const { client, keys } = world;
  const lanes = [...groupBy(deliveries, ({ email }) => email).values()].map(async (own) => {
    for (const delivery of own) {
      const { answer } = await sendUntilTaken(world, delivery);
      const mark = keys.idemProcessed(answer!.idempotencyKey!);
      await waitFor(`${delivery.key} to be processed`, async () => (await client.exists(mark)) === 1, 30_000);
    }
  });
  await Promise.all(lanes);
}

/** A meeting's pushes are numbered as they arrive, so these arrive in order; that they are worked on in order nobody says. */
function keepPushesInOrder(deliveries: readonly Delivery[]): Delivery[] {
  const byMeeting = groupBy(
    deliveries.filter(({ source }) => source === 'readai'),
    ({ key }) => key,
  );
  for (const own of byMeeting.values()) own.sort((a, b) => (a.happenedAt < b.happenedAt ? -1 : 1));
  return deliveries.map((delivery) => byMeeting.get(delivery.key)?.shift() ?? delivery);
}

/** Workers get out of step: what one settles is held up, what another asks of the CRM fails or takes its time. */
function disturb(world: World): () => void {
  const random = world.random.fork('disturbance');
  const holdUp = world.links.onCommand({ link: 'redis', name: 'settle', when: 'before' }, () => pauseAtRandom(random));
  const ends = [
    world.zoho.faults.on({ path: '/crm/*', when: () => random.chance(0.06) }, { status: 500 }),
    world.zoho.faults.on({ path: '/crm/*', when: () => random.chance(0.2) }, { latencyMs: 150 }),
  ];
  return () => {
    holdUp();
    for (const end of ends) end();
  };
}

async function pauseAtRandom(random: Random): Promise<undefined> {
  await sleep(random.int(0, 120));
}

async function killNowAndThen(world: World, load: Promise<void>): Promise<void> {
  await sleep(world.random.int(100, 600));
  await world.random.pick(world.workers().filter((part) => part.isReady())).kill();
  await load;
}
