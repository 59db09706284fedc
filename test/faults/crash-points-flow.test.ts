import { suite } from 'uvu';
import { assertAllCovered, crashAtAll, loseAnswersAtAll } from './crash-points/drive.js';
import { crashWorld } from './crash-points/provoke.js';
import { setStage } from './harness/scenario.js';

const test = suite('a crash at every point from the webhook to what the CRM is to be told');

const stage = setStage(test, import.meta.url, crashWorld);

stage.scenario(
  'from ingest to the projector, and what keeps groups in order: each event goes through once',
  async (world) => {
    await crashAtAll(world, ['ingest', 'enrich', 'summarize', 'projector', 'runtime'], { atOnce: 3 });
  },
);

stage.scenario('every answer lost once by a process that lives on', async (world) => {
  const stages = ['ingest', 'enrich', 'summarize', 'crm-sync', 'alert', 'health', 'projector', 'runtime'] as const;
  await loseAnswersAtAll(world, stages);
  assertAllCovered(world);
});

test.run();
