import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOverview } from '../../src/lib/overview.js';
import { isAlive, startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import { isSpooled, type Sent } from './harness/history.js';
import { run } from './harness/load.js';
import { fillMemory, freezeRedis, killRedis } from './harness/redis-faults.js';
import { besideFault, isLong, setStage, sized } from './harness/scenario.js';
import { mayMount, mountSmallDisk, type SmallDisk } from './harness/small-disk.js';
import { makeStories } from './harness/stories.js';
import { countStatus, recoveryMsOf, slowestMs, underLoad, withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('Redis away');
/** Of the two ingests the second has a spool. */
const stage = setStage(test, import.meta.url, { workers: 2, ingests: 1, gemini: besideFault({ latencyMs: 30 }) });

/** Times are judged in the long form, which has the machine for itself; in the short one only that it does not hang. */
const SLACK_MS = 2_000;
/** In the short form: whoever sends gives up after fifteen seconds. */
const ANSWER_MS = sized(14_000, 2_000 + SLACK_MS);
const RECOVERY_MS = sized(30_000, 5_000 + SLACK_MS);
const DISK_FULL_MS = 15_000;

stage.scenario('frozen, its sockets still open', async (world) => {
  await survive(world, () => freezeRedis(world, sized(3_000, 30_000), () => untilNoticed(world)));
});

stage.scenario('killed and started again', async (world) => {
  await survive(world, () => killRedis(world, { downMs: sized(1_000, 30_000), whileDown: () => untilNoticed(world) }));
});

stage.scenario('out of memory: what was taken in is done all the same', async (world) => {
  await survive(world, async () => {
    await run(world, makeStories(world.random.fork('burst'), { leads: 10 }).take(sized(30, 2_000)), {
      concurrency: 20,
    });
    const heal = await fillMemory(world);
    await waitFor('the pipeline to drain at the limit', () => isDrained(world), sized(60_000, 120_000));
    await Promise.all([sleep(sized(1_000, 20_000)), untilNoticed(world)]);
    return heal();
  });
});

const SCARCE = 'its disk is full, and has room again';
if (isLong && mayMount) {
  for (const appendfsync of ['everysec', 'always'] as const) {
    const disk = mountSmallDisk();
    const start = () => startRedis({ dir: disk.dir, args: ['--appendfsync', appendfsync] });
    stage.inOwnWorld(`${SCARCE}, appendfsync ${appendfsync}`, { redis: { start } }, (world) =>
      survive(world, () => fillDisk(world, disk, appendfsync)),
    );
  }
} else if (isLong) test.skip(`${SCARCE}: only root may mount a disk for it`, () => {});

test.run();

/** With `everysec` Redis refuses what writes, with `always` it ends itself: it must not answer what it could not write. */
async function fillDisk(
  { redis, client, keys, faultLog }: World,
  disk: SmallDisk,
  appendfsync: 'everysec' | 'always',
): Promise<InjectedFault> {
  const fault = faultLog.add('disk full', `appendfsync ${appendfsync}`);
  const { pid } = redis;
  const makeRoom = disk.fill();
  if (appendfsync === 'always') await waitFor('Redis to end', () => !isAlive(pid), 30_000);
  else await waitFor('Redis to refuse', () => isRefused(client.set(keys.lease('probe'), '', 'PX', 1)), 30_000);
  await sleep(DISK_FULL_MS);
  makeRoom();
  if (appendfsync === 'always') await redis.restart();
  fault.healedAt = Date.now();
  return fault;
}

function isRefused(write: Promise<unknown>): Promise<boolean> {
  return write.then(
    () => false,
    (error: Error) => error.message.startsWith('MISCONF'),
  );
}

/** Each webhook was answered in time, by the ingest with a spool always with a 2xx, and the workers came back by themselves. */
async function survive(world: World, inject: () => Promise<InjectedFault>): Promise<void> {
  if (world.ingests().length === 1) await (await world.addIngest({ spool: true })).untilReady();
  await withoutRestarts(world, async () => {
    const { sent, result: fault } = await underLoad(world, `storm ${world.faultLog.faults.length}`, inject);
    await check(world);
    const ms = await recoveryMsOf(world, fault);
    const refused = countStatus(sent, 503);
    const spooled = sent.filter(isSpooled).length;
    console.log(
      `  ${fault.kind}, ${fault.target}: ${refused} × 503, ${spooled} spooled, slowest answer ${slowestMs(sent)} ms, recovered in ${ms} ms`,
    );
    assert.equal(oddAnswers(sent), [], 'an answer that is neither 2xx nor 503');
    assert.ok(spooled > 0, 'nothing was spooled');
    // It may where the disk, or the machine, has no time for it; in the long form there is time.
    const refusedBySpool = countStatus(sent.filter(hasSpool), 503);
    if (isLong) assert.is(refusedBySpool, 0, `the ingest with a spool answered 503 ${refusedBySpool} times`);
    assert.ok(refused > 0, 'nothing was refused');
    assert.ok(slowestMs(sent) < ANSWER_MS, `an answer took ${slowestMs(sent)} ms`);
    assert.ok(ms < RECOVERY_MS, `it took ${ms} ms until a worker wrote again`);
  });
}

/** Each ingest has answered in its own way. */
async function untilNoticed({ history }: World): Promise<void> {
  const from = history.sent.length;
  await waitFor('a 503 and a spooled one', () => {
    const sent = history.sent.slice(from);
    return countStatus(sent, 503) > 0 && sent.some(isSpooled);
  });
}

async function isDrained({ client, keys }: World): Promise<boolean> {
  const { groups } = await readOverview({ redis: client, keys });
  return Object.values(groups).every(({ backlog, pending, parked }) => backlog + pending + parked === 0);
}

function hasSpool({ outcome }: Sent): boolean {
  return outcome.ingest === 'i2';
}

function oddAnswers(sent: readonly Sent[]): string[] {
  return sent
    .filter(({ outcome }) => outcome.kind !== 'ok' && outcome.status !== 503)
    .map(({ outcome }) => `${outcome.ingest}: ${outcome.status ?? outcome.error} after ${outcome.ms} ms`);
}
