import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { GROUPS } from '../../src/lib/events.js';
import { readOverview } from '../../src/lib/overview.js';
import { waitFor } from '../helpers/wait-for.js';
import { defaultAnswer } from '../standins/gemini-answers.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import type { Sent } from './harness/history.js';
import { run } from './harness/load.js';
import { destroyGroups, flushRedis, killRedis, setGroupsBack } from './harness/redis-faults.js';
import { setStage, sized } from './harness/scenario.js';
import { type Delivery, makeStories, type Stories } from './harness/stories.js';
import { recoveryMsOf, underLoad, withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('Redis emptied, or its groups gone');
/** Longer than a call takes that was under way. */
const REST_MS = 3_000;
const RECOVERY_MS = sized(30_000, 5_000 + 2_000);
const DECLINED = 'Please decline this one for a while';
let declines = false;

const stage = setStage(test, import.meta.url, {
  workers: 2,
  env: { RETRY_BASE_MS: '600', MAX_ATTEMPTS: '12' },
  gemini: {
    latencyMs: 30,
    answer(request) {
      const isDeclined = declines && JSON.stringify(request.turns).includes(DECLINED);
      return isDeclined ? { candidates: [{ finishReason: 'RECITATION' }] } : defaultAnswer(request);
    },
  },
});

// First, as what Redis has forgotten once it is asked for ever after.
stage.scenario(
  'every group destroyed while entries are pending, parked, waiting, done and yet to come',
  async (world) => {
    await surviveTampering(world, 'destroyed', () => destroyGroups(world));
  },
);

stage.longScenario('every group set back to the start of its streams while it works', async (world) => {
  await surviveTampering(world, 'set back', () => setGroupsBack(world));
});

stage.scenario('FLUSHALL under load, and then all of it is sent again', async (world) => {
  await surviveEmptying(world, 'flushed', () => flushRedis(world));
});

stage.longScenario('a start on an empty directory, and then all of it is sent again', async (world) => {
  await surviveEmptying(world, 'new directory', () => killRedis(world, { isEmpty: true, downMs: sized(300, 10_000) }));
});

test.run();

/** What Redis has forgotten nobody else knows; but what is sent again ends as it should, and the CRM has nothing twice. */
async function surviveEmptying(world: World, name: string, empty: () => Promise<InjectedFault>): Promise<void> {
  // Of two pushes of one meeting the later arrival would count as the later revision: they are no part of this.
  const stories = { mix: { revision: 0 } };
  await withoutRestarts(world, async () => {
    const { result: fault } = await underLoad(world, name, empty, { beforeMs: 1_500, stories });
    const mayForget = ({ outcome }: Sent) => outcome.at <= fault.healedAt!;
    const { forgotten } = await check(world, { mayForget });
    const ms = await recoveryMsOf(world, fault);
    console.log(`  ${fault.kind}: ${forgotten} webhooks forgotten, recovered in ${ms} ms`);
    assert.ok(ms < RECOVERY_MS, `it took ${ms} ms until a worker wrote again`);
    const before = world.history.sent.filter(mayForget).map(({ delivery }) => delivery);
    await run(world, [...new Set(before)]);
    await check(world, { mayForget });
  });
}

/** Nothing is lost or done twice, whatever state an entry was in. */
async function surviveTampering(world: World, name: string, tamper: () => Promise<InjectedFault>): Promise<void> {
  const random = world.random.fork(name);
  const stories = makeStories(random, { leads: 10 });
  const declined = makeStories(random.fork('declined'), { leads: 4, alter: wishToBeDeclined });
  await withoutRestarts(world, async () => {
    await run(world, stories.take(sized(20, 500)));
    await check(world);
    const [heal, states] = await scatter(world, stories, declined);
    const fault = await tamper();
    await run(world, stories.take(5));
    heal();
    console.log(`  ${fault.kind} with ${states}`);
    await check(world, { restMs: REST_MS });
    console.log(`  ${fault.kind}: recovered in ${await recoveryMsOf(world, fault)} ms`);
  });
}

/** Brings entries into every state there is: waiting for the CRM, parked after a failure, in a handler, and not yet read. */
async function scatter(world: World, stories: Stories, declined: Stories): Promise<[heal: () => void, states: string]> {
  const { zoho, gemini, client, keys } = world;
  const count = sized(6, 100);
  const healCrm = zoho.faults.on({ path: '/crm/*' }, { status: 503 });
  await run(world, stories.take(count));
  await waitFor('work to wait for the CRM', async () => (await client.zcard(keys.waiting('crm-sync', 'zoho'))) > 0);
  declines = true;
  await run(world, Array.from({ length: 3 }, () => declined.next('booked')).flat());
  await waitFor('work to be parked', async () => (await client.zcard(keys.parked('enrich'))) > 0);
  declines = false;
  const healModel = gemini.faults.on({}, { latencyMs: 800 });
  await run(world, stories.take(sized(30, 200)), { concurrency: 40 });
  const states = await readStates(world);
  return [
    () => {
      healCrm();
      healModel();
    },
    states,
  ];
}

function wishToBeDeclined(_: Omit<Delivery, 'body'>, body: Record<string, unknown>): void {
  const { questions_and_answers: questions } = body.payload as { questions_and_answers: unknown[] };
  questions.push({ question: 'Anything else?', answer: DECLINED, position: 1 });
}

async function readStates({ client, keys }: World): Promise<string> {
  const { groups } = await readOverview({ redis: client, keys });
  const sum = (what: 'backlog' | 'pending') => GROUPS.reduce((total, group) => total + groups[group]![what], 0);
  const parked = await client.zcard(keys.parked('enrich'));
  const waiting = await client.zcard(keys.waiting('crm-sync', 'zoho'));
  return `${sum('pending')} pending, ${parked} parked, ${waiting} waiting, ${sum('backlog')} to come`;
}
