import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseEventId } from '../../src/lib/event-id.js';
import { waitFor } from '../helpers/wait-for.js';
import { findStalls } from './harness/check-effects.js';
import { untilReaped } from './harness/check-rest.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import type { Matcher } from './harness/links.js';
import { run, send } from './harness/load.js';
import type { Part } from './harness/parts.js';
import { waitQuiet } from './harness/quiet.js';
import { parseReply } from './harness/resp.js';
import { isLong, setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { makeStories } from './harness/stories.js';
import type { Passage } from './harness/wire.js';
import type { World } from './harness/world.js';

const test = suite('workers that stand still');

const CLAIM_MS = 1_200;
const BURN_MS = 2 * CLAIM_MS;
/** A suspect may have to wait for its slot. */
const TAKEN_MS = 60_000;
/** What a process has sent before it was stopped arrives within this time. */
const UNDER_WAY_MS = 200;
/** So long that a busy machine keeps up with the heartbeat: here no claim may be lost. */
const PATIENT_CLAIM_MS = 3_000;

const stage = setStage(test, import.meta.url, {
  workers: Array.from({ length: 3 }, () => ({
    entry: 'test/faults/workers/burn.cjs',
    env: { BURN_MS: String(BURN_MS) },
  })),
  env: { VISIBILITY_TIMEOUT_MS: String(CLAIM_MS) },
  zoho: { latencyMs: 20 },
});

type Held = InjectedFault['affected'][number];

type Moment = Matcher & {
  moment: string;
  /** The message goes on only when the claim is long lost. */
  isHeldUp?: boolean;
  /** Nothing is left of it that another could take over. */
  isSettled?: boolean;
};

/** What is about to be settled is settled by another meanwhile: then it comes too late, and must change nothing. */
const LATE: Moment[] = [
  { moment: 'about to settle a summary', name: 'settle', group: 'summarize', when: 'before', isHeldUp: true },
  { moment: 'about to settle in the CRM', name: 'settle', group: 'crm-sync', when: 'before', isHeldUp: true },
];

/** Just before the worker learns that it may go on with an effect, or that one is done. */
const MOMENTS: Moment[] = [
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
  { moment: 'settled, and not told so', name: 'settle', group: 'crm-sync', when: 'after', isSettled: true },
];

stage.scenario(
  'frozen for three times the claim time in the midst of an effect: who wakes late changes nothing',
  async (world) => {
    const stories = makeStories(world.random.fork('frozen'), { mix: { meeting: 60 } });
    const others = world.random.shuffle(MOMENTS);
    const pairs: Moment[][] = [
      [LATE[0]!, others.pop()!],
      [LATE[1]!, others.pop()!],
    ];
    if (isLong) while (others.length > 0) pairs.push(others.splice(0, 2));
    for (const pair of pairs) {
      for (let left = pair; left.length > 0; ) {
        const frozen = new Set<string>();
        const [areCaught] = await Promise.all([
          Promise.all(left.map((moment) => freezeAt(world, moment, frozen))),
          run(world, stories.take(24), { ratePerS: 12 }),
        ]);
        left = left.filter((_, index) => !areCaught[index]);
        // Who has just woken settles what is long another's: nobody is to be frozen at that.
        await waitQuiet(world);
      }
    }
    await check(world);
  },
);

stage.scenario('an event loop that stands still for twice the claim time: no effect comes twice', async (world) => {
  const heal = world.gemini.faults.on({ path: /generateContent$/ }, { latencyMs: 400 });
  const stories = makeStories(world.random.fork('burning'));
  const blockOneAfterAnother = async () => {
    for (let n = 0; n < sized(1, 10); n += 1) await blockAtWork(world);
  };
  await Promise.all([run(world, stories.take(sized(36, 600)), { ratePerS: 12 }), blockOneAfterAnother()]);
  heal();
  await check(world);
  assert.ok(
    world.workers().some((part) => part.said('no heartbeat for as long as claims hold') > 0),
    'nobody said that it had stood still',
  );
});

stage.longScenario('who has died is struck off once its work is done', async (world) => {
  const stories = makeStories(world.random.fork('reaped'));
  const killEach = async () => {
    for (const part of world.workers()) {
      await sleep(500);
      await part.kill();
    }
  };
  await Promise.all([run(world, stories.take(100), { ratePerS: 20 }), killEach()]);
  await check(world);
  await untilReaped(world);
});

test.run();

const patience = suite('work that takes its time');

const quiet = setStage(patience, import.meta.url, {
  workers: [{ groups: ['enrich', 'summarize'], concurrency: 1 }, { concurrency: 1 }],
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
    await run(world, stories.take(sized(24, 500)), { concurrency: 16 });
    const { client, keys } = world;
    const held = (await client.xpending(keys.stream('events:readai'), 'summarize', '-', '+', 10)) as unknown[][];
    const deliveries = held.map(([, , , count]) => count);
    await check(world, { stuckMs: 90_000 });
    if (findStalls(world).length > 0)
      return console.log('  the machine stood still for a claim’s time: nothing is shown');
    assert.equal(deliveries, [1], 'it was delivered again while it ran');
    assert.is(countCalls(world, slow.key), 1, 'the model was asked again');
    const { entries } = await readSnapshot(world);
    const booked = entries.filter(({ type }) => type === 'calendly.invitee.created').length;
    assert.is(world.gemini.calls.length - 1, booked, 'the model was asked twice about a booking');
    assert.equal(world.wire.takeovers, []);
  },
);

patience.run();

function countCalls({ gemini }: World, key: string): number {
  return gemini.calls.filter(({ body }) => JSON.stringify(body).includes(key.split(':').at(-1)!)).length;
}

/**
 * Freezes whoever comes to this moment first, wakes it when its claims are long gone. By then another has what it held, and what
 * it sends too late is refused. Returns whether it was caught in time: the freeze may come when all that it held is settled.
 */
async function freezeAt(
  world: World,
  { moment, isHeldUp, isSettled, ...matcher }: Moment,
  frozen: Set<string>,
): Promise<boolean> {
  const { wire, faultLog, links } = world;
  const late = new AbortController();
  const { part, entries } = await new Promise<{ part: Part; entries: number }>((resolve) => {
    const isFree = ({ owner }: Passage) => !frozen.has(owner);
    const where = (passage: Passage) => isFree(passage) && (matcher.where?.(passage) ?? true);
    const end = links.onCommand({ ...matcher, where }, ({ owner, argv }) => {
      end();
      frozen.add(owner);
      const victim = world.part(owner);
      victim.freeze();
      resolve({ part: victim, entries: Number(argv[2]) });
      return isHeldUp ? untilAborted(late.signal) : undefined;
    });
  });
  const fault = faultLog.add('SIGSTOP worker', `${part.name} ${moment}`);
  await sleep(UNDER_WAY_MS);
  fault.affected = await world.findHeld(part.pid);
  await sleep(3 * CLAIM_MS);
  if (fault.affected.length === 0) {
    late.abort();
    part.thaw();
    return isSettled === true;
  }
  const isTaken = ({ eventId }: Held) =>
    wire.takeovers.some((takeover) => takeover.at >= fault.at && takeover.eventId === eventId);
  const isOver = async (one: Held) => isTaken(one) || !(await isPending(world, one));
  await waitFor(
    `another to have what ${part.name} held ${moment}`,
    async () => (await Promise.all(fault.affected.map(isOver))).every(Boolean),
    TAKEN_MS,
  );
  // What it had sent before may have come late, and settled all of it.
  if (!fault.affected.some(isTaken)) {
    late.abort();
    part.thaw();
    return isSettled === true;
  }
  if (isHeldUp) {
    const answer = answerOf(world, matcher.name as string, part);
    late.abort();
    const settled = (await answer) as number[];
    assert.is(settled.length, entries);
    assert.not.ok(settled.includes(1), `what ${part.name} settled too late was taken: ${settled.join(' ')}`);
  }
  part.thaw();
  return true;
}

/** The next answer that Redis has for it. */
function answerOf({ links }: World, name: string, { name: owner }: Part): Promise<unknown> {
  return new Promise((resolve) => {
    const end = links.onCommand({ name, owner, when: 'after' }, ({ reply }) => {
      end();
      resolve(parseReply(reply!));
      return undefined;
    });
  });
}

/** Whether anybody has it. Who has taken it over has been noted by the time that it has settled it. */
async function isPending({ client, keys }: World, { group, eventId }: Held): Promise<boolean> {
  const { stream, id } = parseEventId(eventId)!;
  return (await client.xpending(keys.stream(stream), group, id, id, 1)).length > 0;
}

function untilAborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined)));
}

/** Blocks the event loop of one that is at work, and waits until another has what it holds: again where it has settled that first. */
async function blockAtWork(world: World): Promise<void> {
  await waitFor('another to take over what it held', () => isTakenFromBlocked(world), TAKEN_MS);
}

async function isTakenFromBlocked(world: World): Promise<boolean> {
  const { wire, faultLog } = world;
  const { victim, affected } = await waitFor('a worker to stand still with something in its hands', async () => {
    const part = world.random.pick(world.workers());
    if ((await world.findHeld(part.pid)).length === 0) return undefined;
    process.kill(part.pid, 'SIGUSR2');
    await sleep(BURN_MS / 10);
    const held = await world.findHeld(part.pid);
    if (held.length === 0) await sleep(BURN_MS);
    return held.length === 0 ? undefined : { victim: part, affected: held };
  });
  const fault = faultLog.add('event loop blocked', `${victim.name} for ${BURN_MS} ms`, { affected });
  await sleep(BURN_MS);
  const isTaken = ({ at, eventId }: { at: number; eventId: string }) =>
    at >= fault.at && affected.some((entry) => entry.eventId === eventId);
  let isHeld = true;
  await waitFor(
    'what it held to be taken over, or settled',
    async () => {
      isHeld = (await Promise.all(affected.map((one) => isPending(world, one)))).some(Boolean);
      return wire.takeovers.some(isTaken) || !isHeld;
    },
    TAKEN_MS,
  );
  return wire.takeovers.some(isTaken);
}
