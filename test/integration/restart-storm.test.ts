/** Something that has nothing to do with the events kills workers again and again: no event is blamed for it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type CrashBench, startCrashBench } from '../helpers/crash-bench.js';
import { waitFor } from '../helpers/wait-for.js';
import type { WorkerProcess } from '../helpers/worker-process.js';

const test = suite('restart storms');

let bench: CrashBench;
const LONG_MS = 60_000;
/** Longer than it takes to take over. */
const STORM_MS = 2_200;

test.before(async () => {
  bench = await startCrashBench();
});
test.before.each(() => bench.startAnew());
test.after.each(() => bench.stopWorkers());
test.after(() => bench.stop());

test('workers that are killed again and again, whatever they do, condemn nothing', async () => {
  const names = Array.from({ length: 6 }, (_, index) => `slow${index}`);
  for (const name of names) await bench.add(name);
  const worker = bench.run({ isSupervised: true, env: { SLOW_MS: '400' } });
  for (let kills = 1; kills <= 6; kills += 1) {
    const before = await bench.countStarts();
    await waitFor('work to begin', async () => (await bench.countStarts()) > before, LONG_MS);
    worker.kill('SIGKILL');
    await waitFor('the death', () => worker.exits().length >= kills, LONG_MS);
  }
  await waitFor('all to be done', async () => (await bench.enriched()).length >= 6, LONG_MS);
  assert.equal((await bench.enriched()).map(({ fields }) => fields.key!.split(':')[2]).sort(), names);
  assert.equal(await bench.failed(), []);
});

/**
 * Kills the worker again and again: each life ends so long after the slow event was started in it, and at the latest so long
 * after the worker was first heard of (ms).
 */
async function stormOn(
  worker: WorkerProcess,
  lives: readonly { startedMs?: number; heardMs: number }[],
): Promise<void> {
  const isHeard = async (pid: number) =>
    (await bench.redis.hkeys(bench.keys().alive('enrich'))).some((name) => name.includes(`-${pid}-`));
  for (const [killed, { startedMs, heardMs }] of lives.entries()) {
    await waitFor('the death', () => worker.exits().length === killed, LONG_MS);
    const pid = worker.pid();
    const before = await bench.countStarts('slow');
    await waitFor('a heartbeat', () => isHeard(pid), LONG_MS);
    let isOver = false;
    const timesUp = sleep(heardMs, undefined, { ref: false }).then(() => {
      isOver = true;
    });
    const isStarted = async () => startedMs !== undefined && (await bench.countStarts('slow')) > before;
    await waitFor('its end', async () => isOver || isStarted(), LONG_MS);
    if (startedMs !== undefined) await Promise.race([timesUp, sleep(startedMs)]);
    worker.kill('SIGKILL');
  }
  await waitFor('the last death', () => worker.exits().length === lives.length, LONG_MS);
  await worker.stop();
}

async function endsWell(): Promise<void> {
  bench.run({ isSupervised: true, env: { SLOW_MS: '10' } });
  await waitFor('its end', async () => (await bench.enriched()).length + (await bench.failed()).length > 0, LONG_MS);
  assert.equal(await bench.failed(), []);
}

test('a storm that kills every worker after a while condemns nothing, though an event takes longer than any lives', async () => {
  await bench.add('slow');
  const worker = bench.run({ isSupervised: true, env: { SLOW_MS: '20000', MAX_ATTEMPTS: '2' } });
  await stormOn(
    worker,
    Array.from({ length: 7 }, () => ({ heardMs: STORM_MS })),
  );
  assert.ok((await bench.countStarts('slow')) >= 3, 'it was started in life after life');
  await endsWell();
});

test('nor does a storm that lets each worker live a little longer than the one before', async () => {
  await bench.add('slow');
  const worker = bench.run({ isSupervised: true, env: { SLOW_MS: '20000', MAX_ATTEMPTS: '2' } });
  // Twice as usual, then alone: for a moment, for a while, and once more if it begins before the last life ends.
  await stormOn(worker, [
    { startedMs: 0, heardMs: LONG_MS },
    { startedMs: 0, heardMs: LONG_MS },
    { startedMs: 100, heardMs: LONG_MS },
    { startedMs: 900, heardMs: LONG_MS },
    { startedMs: 0, heardMs: 4_000 },
  ]);
  await endsWell();
});

test.run();
