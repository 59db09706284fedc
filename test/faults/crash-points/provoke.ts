/** What leads to the points that usual traffic does not reach. */
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultAnswer } from '../../standins/gemini-answers.js';
import { slackFaults } from '../../standins/slack.js';
import { run } from '../harness/load.js';
import { destroyGroups } from '../harness/redis-faults.js';
import { sized } from '../harness/scenario.js';
import { type Delivery, makeStories, type Stories } from '../harness/stories.js';
import type { World, WorldOptions } from '../harness/world.js';

export type Provocation =
  /** The model has an answer the second time. */
  | 'declined booking'
  | 'declined meeting'
  /** The model will not answer: it fails for good. */
  | 'blocked booking'
  | 'blocked meeting'
  /** Several events of one lead at once: all but one must wait for its lease. */
  | 'one lead'
  /** The CRM refuses a call for good. */
  | 'refused'
  | 'slow'
  | 'outage'
  | 'expired token'
  /** Slack wants its messages later. */
  | 'busy channel'
  /** Slack took a message in and did not say so. */
  | 'lost message'
  /** A worker that holds something is killed. */
  | 'death'
  /** And then whoever has taken it over. */
  | 'two deaths'
  /** A worker is ended in good order and started again. */
  | 'shutdown'
  | 'reconnect'
  /** Entries are handed out, and nobody hears of it. */
  | 'lost reply'
  /** While somebody holds something. */
  | 'groups gone';

const BLOCKED = 'Please block this one';
const DECLINED = 'Please decline this one once';
const SLOW_MS = 700;
const WHILE_MS = 700;
const TAKEN_OVER_MS = 5_000;

const declinedOnce = new Set<string>();

/**
 * Short claims, so that they must be kept, and leases with them; but what Zoho does slowly is done before that of a dead worker
 * runs out. Many attempts, as an entry may see more deaths than one.
 */
export const crashWorld: WorldOptions = {
  workers: sized(2, 3),
  env: { VISIBILITY_TIMEOUT_MS: '1000', RETRY_BASE_MS: '50', MAX_ATTEMPTS: '100', SHUTDOWN_GRACE_MS: '100' },
  gemini: {
    latencyMs: 30,
    answer(request) {
      const asked = JSON.stringify(request.turns);
      if (asked.includes(BLOCKED)) return { promptFeedback: { blockReason: 'SAFETY' } };
      if (!asked.includes(DECLINED) || declinedOnce.has(asked)) return defaultAnswer(request);
      declinedOnce.add(asked);
      return { candidates: [{ finishReason: 'RECITATION' }] };
    },
  },
  zoho: { latencyMs: 10 },
};

/** Bookings and meetings that the model declines once, and such that it never takes, beside the usual ones. */
export type CrashStories = Record<'plain' | 'declined' | 'blocked' | 'crowd', Stories>;

export function makeCrashStories(world: World, name: string): CrashStories {
  const random = world.random.fork(name);
  return {
    plain: makeStories(random),
    declined: makeStories(random.fork('declined'), { alter: says(DECLINED), leads: 5 }),
    blocked: makeStories(random.fork('blocked'), { alter: says(BLOCKED), leads: 5 }),
    crowd: makeStories(random.fork('crowd'), { leads: 1 }),
  };
}

function says(text: string) {
  return ({ source }: Omit<Delivery, 'body'>, body: Record<string, unknown>): void => {
    if (source === 'calendly') {
      const { questions_and_answers: answers } = body.payload as { questions_and_answers: unknown[] };
      answers.push({ question: 'Anything else?', answer: text, position: 1 });
    } else {
      const { speaker_blocks: blocks } = body.transcript as { speaker_blocks: { words: string }[] };
      body.transcript = {
        ...(body.transcript as object),
        speaker_blocks: blocks.map((block) => ({ ...block, words: text })),
      };
    }
  };
}

/** A booking, a meeting, the push of a meeting again, and something else. */
export function mixOf({ plain }: CrashStories): Delivery[] {
  return [...plain.next('booked'), ...plain.next('meeting'), ...plain.next('revision'), ...plain.next()];
}

/** Each once in a while: what is worked off slower than it comes only piles up. */
export const PROVOKE: Record<Provocation, (world: World, stories: CrashStories) => Promise<void>> = {
  'declined booking': (world, { declined }) => run(world, declined.next('booked')),
  'declined meeting': (world, { declined }) => run(world, declined.next('meeting')),
  'blocked booking': (world, { blocked }) => run(world, blocked.next('booked')),
  'blocked meeting': (world, { blocked }) => run(world, blocked.next('meeting')),
  'one lead': (world, { crowd }) => run(world, crowd.take(6)),

  refused: ({ zoho }) => forAWhile(zoho.faults.on({ ...UPSERT, times: 1 }, REFUSAL)),

  async slow({ gemini, zoho, slack }) {
    const ends = [gemini, zoho, slack].map(({ faults }) => faults.on({ path: SLOW_CALLS }, { latencyMs: SLOW_MS }));
    await forAWhile(...ends);
  },

  // One upon the other would be one that does not end.
  async outage({ zoho, client, keys }) {
    if ((await client.exists(keys.pause('zoho'))) === 1) return;
    await forAWhile(zoho.faults.on({ path: '/crm/*' }, { status: 503 }));
    await sleep(WHILE_MS);
  },

  async 'expired token'({ zoho }) {
    zoho.tokens.expireAll();
  },

  'busy channel': ({ slack }) => forAWhile(slack.faults.on({ ...POST, times: 1 }, slackFaults.rateLimited(1))),
  'lost message': ({ slack }) => forAWhile(slack.faults.on({ ...POST, times: 1 }, { doneButAnswerLost: true })),

  async death(world) {
    await killHolder(world, () => true);
  },

  async 'two deaths'(world) {
    const held = new Set(await killHolder(world, () => true));
    for (const until = Date.now() + TAKEN_OVER_MS; held.size > 0 && Date.now() < until; await sleep(20)) {
      if ((await killHolder(world, (eventId) => held.has(eventId))).length > 0) return;
    }
  },

  async shutdown(world) {
    const ready = world.workers().filter((part) => part.isReady());
    if (ready.length === 0) return;
    const part = world.random.pick(ready);
    // What was written outside and is handed back is written once more.
    world.faultLog.add('SIGTERM worker', `${part.name} (${part.pid})`);
    await part.terminate();
    await part.start();
  },

  async reconnect(world) {
    for (const proxy of world.links.select({ link: 'redis', owner: /^w/ })) proxy.reset();
  },

  'lost reply': ({ links }) => {
    let left = 1;
    const end = links.onCommand({ name: 'take', when: 'after' }, ({ reply }) => {
      if (left === 0 || !/^\*[1-9]/.test(reply!.toString('latin1', 0, 10))) return undefined;
      left -= 1;
      return 'cut';
    });
    return forAWhile(end);
  },

  // What is handed out again waits a moment for whoever may hold it: groups that go ever again would keep it from everybody.
  async 'groups gone'(world) {
    const held = await Promise.all(world.workers().map((part) => (part.isReady() ? world.findHeld(part.pid) : [])));
    if (held.flat().length > 0) await destroyGroups(world);
  },
};

/** Kills a worker that holds such an entry, so that another takes over. Returns what it held. */
async function killHolder(world: World, isWanted: (eventId: string) => boolean): Promise<string[]> {
  for (const part of world.random.shuffle(world.workers().filter((one) => one.isReady()))) {
    const held = (await world.findHeld(part.pid)).map(({ eventId }) => eventId);
    if (!held.some(isWanted)) continue;
    await part.kill({ note: 'so that another takes over' });
    return held;
  }
  return [];
}

const UPSERT = { path: '/crm/v8/Leads/upsert' };
const POST = { path: /chat\.postMessage$/ };
const REFUSAL = { status: 400, body: { code: 'INVALID_REQUEST', message: 'no', status: 'error' } };
const SLOW_CALLS = /generateContent$|upsert$|postMessage$/;

/** What nobody has met by then would go wrong when it is not expected any more. */
async function forAWhile(...ends: (() => void)[]): Promise<void> {
  await sleep(WHILE_MS);
  for (const end of ends) end();
}
