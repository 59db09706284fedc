import { suite } from 'uvu';
import { crashAtAll, crashWorld, makeCrashStories, mixOf } from './crash-points/drive.js';
import { run } from './harness/load.js';
import { setStage } from './harness/scenario.js';
import type { World } from './harness/world.js';

const test = suite('a crash at every point from the webhook to what the CRM is to be told');

const stage = setStage(test, import.meta.url, crashWorld);

stage.scenario('ingest, enrich, summarize and the projector: each event goes through once', async (world) => {
  const stories = makeCrashStories(world, 'flow');
  const hit = await crashAtAll(world, ['ingest', 'enrich', 'summarize', 'projector'], async (round, left) => {
    const failing = left.some((point) => point.includes('terminal failure')) ? stories.blocked.next('booked') : [];
    const declined = left.some((point) => /parked|retry/.test(point)) ? stories.declined.next('booked') : [];
    await run(world, [...mixOf(stories), ...declined, ...failing], { concurrency: 8 });
    if (round > 0 && left.some((point) => point.includes('handed back'))) await restartOne(world);
  });
  console.log(`${hit.length} crash points, each hit:\n${hit.map((point) => `  ${point}`).join('\n')}`);
});

test.run();

/** In good order, so that it hands back what it holds. */
async function restartOne(world: World): Promise<void> {
  const ready = world.workers().filter((part) => part.isReady());
  const part = world.random.pick(ready.length > 0 ? ready : world.workers());
  await part.terminate();
  await part.start();
}
