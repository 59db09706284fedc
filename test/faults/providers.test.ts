import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import type { Fault, Matcher } from '../standins/http-faults.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import { setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { recoveryMsOf, underLoad } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('providers that fail under load');
const RATE_PER_S = sized(8, 15);

const stage = setStage(test, import.meta.url, {
  workers: 2,
  // An answer in two is lost in the first storm: who is hit again and again must not run out of attempts.
  env: { MAX_ATTEMPTS: String(sized(10, 40)) },
  gemini: { latencyMs: 40 },
  zoho: { latencyMs: 20 },
});

stage.scenario('a CRM that does the work and loses the answer: one lead, one note', async (world) => {
  const writes = { method: 'POST', path: '/crm/*' };
  await storm(world, 'answers lost', [
    { at: 'zoho', matcher: writes, everyNth: 4, fault: { doneButAnswerLost: true } },
    { at: 'zoho', matcher: writes, everyNth: 5, fault: { doneButAnswerLost: true, status: 504 } },
  ]);
});

stage.scenario('a storm of 429, of the CRM and of the model: no attempt is burnt', async (world) => {
  const body = { error: { code: 429, status: 'RESOURCE_EXHAUSTED', message: 'slow' } };
  await storm(
    world,
    '429',
    [
      { at: 'zoho', matcher: { path: '/crm/*' }, fault: { status: 429, body: { code: 'TOO_MANY_REQUESTS' } } },
      { at: 'gemini', matcher: {}, fault: { status: 429, body } },
    ],
    { burnsNone: true },
  );
});

stage.scenario('minutes of 500s: what waits is done when they are over', async (world) => {
  await storm(
    world,
    '500s',
    [
      { at: 'zoho', matcher: { path: '/crm/*' }, fault: { status: 500 } },
      { at: 'gemini', matcher: {}, fault: { status: 500 } },
    ],
    { burnsNone: true },
  );
});

test.run();

/** What goes wrong at a provider: with each call that fits, or each nth of them. */
type Trouble = { at: 'zoho' | 'gemini'; matcher: Matcher; fault: Fault; everyNth?: number };

/** No event may fail for it, and nothing may be there twice: `check` allows neither. */
async function storm(
  world: World,
  kind: string,
  troubles: readonly Trouble[],
  { burnsNone = false } = {},
): Promise<void> {
  const { result: fault } = await underLoad(
    world,
    kind,
    async () => {
      const added = world.faultLog.add(kind, troubles.map(({ at }) => at).join(' and '));
      const ends: (() => void)[] = [];
      // One after the other: a model that is paused first would keep the CRM from being asked at all.
      for (const trouble of troubles) ends.push(await strike(world, kind, trouble));
      await sleep(sized(2_000, 60_000));
      for (const end of ends) end();
      added.healedAt = Date.now();
      return added;
    },
    { ratePerS: RATE_PER_S },
  );
  await check(world);
  if (burnsNone) await assertNoAttemptsBurnt(world, fault);
  console.log(`  ${kind}: written again ${await recoveryMsOf(world, fault)} ms after its end`);
}

/** At its beginning calls of other events may still succeed: then one attempt is an event's own, and no more. */
async function assertNoAttemptsBurnt(world: World, { at }: InjectedFault): Promise<void> {
  const { entries } = await readSnapshot(world);
  const waited = entries.filter((entry) => entry.at >= at && Number(entry.fields.waited ?? 0) > 0);
  assert.ok(waited.length > 0, 'nothing had to wait');
  const most = Math.max(...waited.map(({ fields }) => Number(fields.attempts)));
  assert.ok(most <= 2, `an event spent ${most} attempts`);
}

/** Resolves once it has hit a call. Returns a function that ends it. */
async function strike(world: World, kind: string, { at, matcher, fault, everyNth = 1 }: Trouble): Promise<() => void> {
  let calls = 0;
  const isHit = () => {
    calls += 1;
    return calls % everyNth === 0;
  };
  const end = world[at].faults.on({ ...matcher, when: isHit }, fault);
  await waitFor(`${kind} to hit a call of ${at}`, () => calls >= everyNth, 30_000);
  return end;
}
