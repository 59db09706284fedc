import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { check } from './harness/checker.js';
import { setStage, sized } from './harness/scenario.js';
import { recoveryMsOf, underLoad } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('providers that fail under load');
const RATE_PER_S = sized(15, 30);

const stage = setStage(test, import.meta.url, { workers: 2, gemini: { latencyMs: 40 }, zoho: { latencyMs: 20 } });

stage.scenario('a CRM that does the work and loses the answer: one lead, one note', async (world) => {
  const { zoho } = world;
  await storm(world, 'answers lost', 'zoho', () => {
    const writes = { method: 'POST', path: '/crm/*' };
    const cut = zoho.faults.on({ ...writes, when: isEvery(4) }, { doneButAnswerLost: true });
    const gateway = zoho.faults.on({ ...writes, when: isEvery(5) }, { doneButAnswerLost: true, status: 504 });
    return [cut, gateway];
  });
});

stage.scenario('a storm of 429, of the CRM and of the model: no attempt is burnt', async (world) => {
  const { zoho, gemini } = world;
  await storm(world, '429', 'zoho and gemini', () => [
    zoho.faults.on({ path: '/crm/*' }, { status: 429, body: { code: 'TOO_MANY_REQUESTS' } }),
    gemini.faults.on(
      {},
      { status: 429, body: { error: { code: 429, status: 'RESOURCE_EXHAUSTED', message: 'slow' } } },
    ),
  ]);
});

stage.scenario('minutes of 500s: what waits is done when they are over', async (world) => {
  const { zoho, gemini } = world;
  await storm(world, '500s', 'zoho and gemini', () => [
    zoho.faults.on({ path: '/crm/*' }, { status: 500 }),
    gemini.faults.on({}, { status: 500 }),
  ]);
});

test.run();

/** No event may fail for it, and nothing may be there twice: `check` allows neither. */
async function storm(world: World, kind: string, target: string, begin: () => (() => void)[]): Promise<void> {
  const calls = () => world.zoho.calls.length;
  const { result: fault } = await underLoad(
    world,
    kind,
    async () => {
      const added = world.faultLog.add(kind, target);
      const before = calls();
      const ends = begin();
      await sleep(sized(3_000, 120_000));
      for (const end of ends) end();
      added.healedAt = Date.now();
      assert.ok(calls() > before, 'the CRM was not asked meanwhile');
      return added;
    },
    { ratePerS: RATE_PER_S },
  );
  await check(world, { timeoutMs: sized(45_000, 300_000) });
  console.log(`  ${kind}: written again ${await recoveryMsOf(world, fault)} ms after its end`);
}

function isEvery(nth: number): () => boolean {
  let count = 0;
  return () => {
    count += 1;
    return count % nth === 0;
  };
}
