import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import { crashAtAll, crashWorld, makeCrashStories, mixOf } from './crash-points/drive.js';
import { run } from './harness/load.js';
import { setStage } from './harness/scenario.js';

const test = suite('a crash at every point around the CRM and the alerts');

const stage = setStage(test, import.meta.url, crashWorld);
const hit: string[] = [];

stage.scenario(
  'crm-sync: one lead for each person, one note for each meeting, as the events in order make them',
  async (world) => {
    const stories = makeCrashStories(world, 'crm');
    const points = await crashAtAll(world, ['crm-sync'], async (round, left) => {
      if (round === 1) world.zoho.tokens.expireAll();
      // So slow now and then that the leases must be kept.
      if (left.some((point) => point.includes('kept')))
        world.zoho.faults.next({ latencyMs: 500 }, { path: '/crm/v8/Leads/upsert' });
      await run(world, mixOf(stories), { concurrency: 4 });
    });
    hit.push(...points);
  },
);

stage.scenario('an outage of the CRM and its end: what waited is done once', async (world) => {
  const stories = makeCrashStories(world, 'outage');
  const points = await crashAtAll(world, ['health'], async () => {
    const heal = world.zoho.faults.on({ path: '/crm/*' }, { status: 503 });
    await run(world, mixOf(stories), { concurrency: 4 });
    await sleep(600);
    heal();
    await sleep(600);
  });
  hit.push(...points);
});

stage.scenario('an alert: told once, or once more and marked as a possible repeat', async (world) => {
  const stories = makeCrashStories(world, 'alerts');
  const points = await crashAtAll(world, ['alert'], async (round) => {
    if (round % 4 === 0) await run(world, stories.blocked.next('booked'));
  });
  hit.push(...points);
  console.log(`${hit.length} crash points, each hit:\n${hit.map((point) => `  ${point}`).join('\n')}`);
});

test.run();
