/**
 * Whatever the order of arrival and of work, and whoever dies meanwhile, the CRM ends as the run in order would. Random
 * stories, each against its own reference; `FAULTS_SEED` has a run again.
 */
import { isDeepStrictEqual } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type CrmEvent, factsOf } from '../../src/consumers/crm-sync/lead-facts.js';
import { NotYetError, OutageError, RetryableError } from '../../src/lib/errors.js';
import type { LeadSynced } from '../../src/lib/events.js';
import { makeRandom, type Random, seedOfRun } from '../faults/harness/random.js';
import { type CrmWorker, makeCrmWorld } from '../helpers/crm-world.js';
import { STORY_EMAILS, tellStory } from '../helpers/lead-story.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { makeField, startZoho, type ZohoStandin } from '../standins/zoho.js';

const STORIES_MAX = 60;
const BUDGET_MS = 20_000;
const LEASE_MS = 400;

const seed = seedOfRun();
const test = suite(`the order of a lead's events (FAULTS_SEED=${seed})`);
let server: TestRedis;

test.before(async () => {
  console.log(`FAULTS_SEED=${seed}`);
  server = await startRedis();
});
test.after(() => server.stop());

type Faults = { batchMax: number; dies: number; loses: number; workers: number };

/** A CRM in which people have been at work before. */
async function startCrm(random: Random, loses: number, faults: Random): Promise<ZohoStandin> {
  const zoho = await startZoho({
    fields: [makeField('Pain', { data_type: 'textarea', length: 2000, custom_field: true })],
  });
  if (random.chance(0.5)) zoho.seedLead({ Email: STORY_EMAILS[0], Last_Name: 'Byron', Company: 'Their own' });
  if (random.chance(0.2)) zoho.convertLead(zoho.seedLead({ Email: STORY_EMAILS[1], Last_Name: 'Stone' }));
  const isWrite = ({ method, path }: { method: string; path: string }) => method !== 'GET' && /upsert|Notes/.test(path);
  zoho.faults.on({ when: (request) => isWrite(request) && faults.chance(loses) }, { doneButAnswerLost: true });
  return zoho;
}

/** Runs a story and returns what the CRM holds in the end. */
async function run(story: readonly CrmEvent[], random: Random, faults: Faults) {
  const zoho = await startCrm(random.fork('crm'), faults.loses, random.fork('answers'));
  const world = makeCrmWorld({ server, zoho, leaseMs: LEASE_MS });
  const dice = random.fork('work');
  const pending = [...story];
  const receipts: { worker: CrmWorker; event: CrmEvent; data: LeadSynced }[] = [];
  const failures: unknown[] = [];

  const settleOne = async () => {
    const [one] = receipts.splice(dice.int(0, receipts.length - 1), 1);
    if (one !== undefined) await one.worker.settle(one.event, one.data, !dice.chance(faults.dies));
    if (dice.chance(0.3)) await world.project();
  };

  async function work(): Promise<void> {
    const mayDie = () => dice.chance(faults.dies);
    let worker = world.startWorker(mayDie);
    while (pending.length > 0 || receipts.length > 0) {
      if (receipts.length > 0 && (pending.length === 0 || dice.chance(0.4))) {
        await settleOne();
        continue;
      }
      const batch = pending.splice(0, dice.int(1, faults.batchMax));
      const outcomes = await worker.handle(batch);
      if (outcomes === 'died') {
        // Its receipts were never appended, and what it held is somebody else's.
        const lost = receipts.filter((receipt) => receipt.worker === worker);
        for (const receipt of lost) receipts.splice(receipts.indexOf(receipt), 1);
        pending.push(...batch, ...lost.map(({ event }) => event));
        worker = world.startWorker(mayDie);
        continue;
      }
      outcomes.forEach((outcome, index) => {
        const event = batch[index]!;
        if ('events' in outcome) receipts.push({ worker, event, data: outcome.events[0]!.data as LeadSynced });
        else if (isTemporary(outcome.error)) pending.push(event);
        else failures.push(outcome.error);
      });
      if (faults.batchMax === 1) while (receipts.length > 0) await settleOne();
    }
    worker.stop();
  }

  try {
    await Promise.all(Array.from({ length: faults.workers }, work));
    assert.equal(failures, []);
    return world.contents();
  } finally {
    world.stop();
    await zoho.stop();
  }
}

function isTemporary(error: unknown): boolean {
  return error instanceof NotYetError || error instanceof OutageError || error instanceof RetryableError;
}

function inOrder(story: readonly CrmEvent[]): CrmEvent[] {
  const orderOf = (event: CrmEvent) => factsOf(event)[0]?.order ?? '';
  return [...story].sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
}

async function compare(seedOfStory: string, faults: Faults): Promise<void> {
  const random = makeRandom(seed, seedOfStory);
  const story = tellStory(random.fork('story'), random.int(2, 14));
  const expected = await run(inOrder(story), random, { batchMax: 1, dies: 0, loses: 0, workers: 1 });
  const shuffled = random.fork('arrival').shuffle(story);
  const ended = await run(shuffled, random, faults);
  for (const of of ['leads', 'notes'] as const) {
    assert.equal(
      without(ended[of], expected[of]),
      without(expected[of], ended[of]),
      `${seedOfStory}: ${keysOf(story)}`,
    );
  }
  assert.equal(ended, expected, seedOfStory);
}

/** Those of the items that have no equal among the others. */
function without(items: readonly unknown[], others: readonly unknown[]): unknown[] {
  return items.filter((one) => !others.some((other) => isDeepStrictEqual(one, other)));
}

function keysOf(story: readonly CrmEvent[]): string {
  return story.map(({ key }) => key).join(' ');
}

test('one event at a time, in another order', async () => {
  for (let story = 0; story < 8; story += 1) {
    await compare(`/order${story}`, { batchMax: 1, dies: 0, loses: 0, workers: 1 });
  }
});

test('in batches, by two workers at once, with receipts appended in any order', async () => {
  for (let story = 0; story < 8; story += 1) {
    await compare(`/batch${story}`, { batchMax: 6, dies: 0, loses: 0, workers: 2 });
  }
});

test('with workers that die between write and receipt, and answers that are lost', async () => {
  const until = performance.now() + BUDGET_MS;
  for (let story = 0; story < STORIES_MAX && performance.now() < until; story += 1) {
    await compare(`/faults${story}`, { batchMax: 5, dies: 0.08, loses: 0.1, workers: 2 });
  }
});

test.run();
