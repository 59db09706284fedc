/** The figures of the pipeline, while the clock of the host is set. */
import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addPipelineMetrics } from '../../src/lib/pipeline-metrics.js';

const test = suite('figures of the pipeline');
const hostClock = Date.now;

test.after.each(() => {
  Date.now = hostClock;
});

test('they are read anew whichever way the clock is set, and once for those who ask at once', async () => {
  let reads = 0;
  const update = addPipelineMetrics(new Registry(), async () => {
    reads += 1;
    return { streams: {}, groups: {}, pauses: [], abandoned: [] };
  });
  await Promise.all([update(), update()]);
  assert.is(reads, 1);
  Date.now = () => hostClock() + 3_600_000;
  await update();
  assert.is(reads, 1);
  Date.now = () => hostClock() - 3_600_000;
  const until = performance.now() + 5_000;
  while (reads === 1 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await update();
  }
  assert.is(reads, 2);
});

test.run();
