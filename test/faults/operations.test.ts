import { setTimeout as sleep } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { streamsOf } from '../../src/lib/events.js';
import { type GviProcess, startGvi } from '../helpers/gvi.js';
import { waitFor } from '../helpers/wait-for.js';
import { check } from './harness/checker.js';
import type { Matcher } from './harness/links.js';
import { run } from './harness/load.js';
import { waitQuiet } from './harness/quiet.js';
import { besideFault, setStage, sized } from './harness/scenario.js';
import { readSnapshot, type SnapshotEntry } from './harness/snapshot.js';
import { makeStories } from './harness/stories.js';
import type { World } from './harness/world.js';

const test = suite("operators' commands while everything around them dies");

const RATE_PER_S = sized(10, 40);
/** What comes of the earlier stages takes the place of what the last one has had. */
const REPLAYED = sized(['enrich'], ['crm-sync', 'enrich', 'summarize']) as readonly (
  | 'enrich'
  | 'summarize'
  | 'crm-sync'
)[];
/** All is old in a second. */
const ALL_IS_OLD = { RETENTION_DAYS: '0.00001', IDEMPOTENCY_TTL_DAYS: '0.00001' };
const DONE_MS = sized(150_000, 600_000);
/** What a killed command has leased is free again after some seconds. */
const AGAIN_MS = 2_000;
const AROUND = ['before', 'after'] as const;

const stage = setStage(test, import.meta.url, { workers: 2, gemini: besideFault({}) });

stage.scenario('a forced replay: each entry runs once more, and the CRM is as it was', async (world) => {
  const stories = makeStories(world.random.fork('replay'), { leads: 12 });
  await run(world, stories.take(sized(24, 2_000)), { concurrency: 16 });
  await check(world);
  const before = await readSnapshot(world);
  const to = String(Math.max(...before.entries.map(({ at }) => at)));

  for (const group of REPLAYED) {
    const streams: readonly string[] = streamsOf(group);
    const wanted = before.entries.filter(({ stream }) => streams.includes(stream)).map(({ key }) => key);
    const load = run(world, stories.take(RATE_PER_S * sized(3, 60)), { ratePerS: RATE_PER_S });
    const range = ['replay', '--group', group, '--from', '0', '--to', to, '--force', '--yes'];
    const begun = await runKilled(world, range, { name: 'remember-replay', when: world.random.pick(AROUND) });
    const [, replayId] = /This replay is (\S+?)\. /.exec(begun.stderr())!;
    // It says all of it again: before it was remembered, and after it was forgotten, nobody knows its range.
    const resume = [...range, '--resume', replayId!];
    await runKilled(world, resume, { name: 'replay', when: 'after' }, sized(1, world.random.int(1, chunksOf(wanted))));
    await world.random.pick(world.workers()).kill();
    const ended = runKilled(world, resume, { name: 'forget-replay', when: world.random.pick(AROUND) });
    await restartRedis(world);
    await ended;
    await untilDone(world, resume);
    await load;
    await check(world);

    const { entries } = await readSnapshot(world);
    const ran = entries.filter(({ type, replay }) => type === 'lead.synced' && replay === replayId);
    assert.equal(ran.map(({ key }) => key).sort(), wanted.sort());
    assert.is(countOf(entries, replayId!), wanted.length);
  }
});

stage.scenario('a rebuild: what is live is what the streams say', async (world) => {
  const stories = makeStories(world.random.fork('rebuild'), { leads: 12 });
  const load = run(world, stories.take(RATE_PER_S * sized(3, 60)), { ratePerS: RATE_PER_S });
  const steps = world.random.shuffle(['swap-projection', 'restore-chain']);
  for (const name of steps.slice(0, sized(1, 2))) {
    await runKilled(world, ['rebuild', '--yes'], { name, when: world.random.pick(['before', 'after']) });
  }
  const rebuilt = untilDone(world, ['rebuild', '--yes']);
  await world.random.pick(world.workers()).kill();
  await restartRedis(world);
  await rebuilt;
  await load;
  await check(world);
  const { projections, chains } = JSON.parse((await untilDone(world, ['rebuild', '--yes', '--json'])).stdout());
  assert.equal(
    projections.map(({ differed }: { differed: number }) => differed),
    [0],
  );
  assert.is(chains.restored, 0);
  await check(world);
});

stage.inOwnWorld(
  'a trim beside a stopped group: what that group has still to do stays whole, the rest goes whole',
  { workers: [{ groups: ['enrich', 'summarize', 'alert'] }, { groups: ['crm-sync'] }] },
  async (world) => {
    const done = makeStories(world.random.fork('done'), { leads: 8 }).take(sized(20, 2_000));
    await run(world, done, { concurrency: 16 });
    await check(world);
    const [, stopped] = world.workers();
    await stopped!.terminate();
    const waiting = makeStories(world.random.fork('waiting'), { leads: 8 }).take(sized(20, 2_000));
    await run(world, waiting, { concurrency: 16 });
    await waitQuiet(world, { except: ['crm-sync'] });
    const before = await readSnapshot(world);

    await runKilled(world, ['trim', '--yes'], { name: 'trim', when: 'after' }, world.random.int(1, sized(20, 2_000)));
    const trimmed = untilDone(world, ['trim', '--yes']);
    await restartRedis(world);
    await trimmed;

    const keysWaiting = new Set(
      before.webhooks.filter(({ fields }) => isOf(waiting, fields.data)).map(({ key }) => key),
    );
    const after = await readSnapshot(world);
    const idsOf = ({ entries }: typeof before) =>
      entries.filter(({ stream }) => stream !== 'events:operations').map(({ eventId }) => eventId);
    const expected = before.entries.filter(({ key }) => keysWaiting.has(key));
    assert.equal(idsOf(after), idsOf({ ...before, entries: expected }));

    await stopped!.start();
    await check(world, {
      mayForget: ({ delivery }) => done.includes(delivery),
    });
  },
);

test.run();

function isOf(deliveries: readonly { body: string }[], body: string | undefined): boolean {
  return deliveries.some((delivery) => delivery.body === body);
}

/** So many entries a replay looks at in one call. */
const CHUNK = 200;

function chunksOf({ length }: readonly string[]): number {
  return Math.max(1, Math.floor(length / CHUNK));
}

/** How many a replay says to have handed over, in all its runs. */
function countOf(entries: readonly SnapshotEntry[], replayId: string): number {
  const operations = entries
    .filter(({ type }) => type === 'operation.done')
    .map(({ fields }) => JSON.parse(fields.data!));
  const own = operations.filter(({ details }) => details?.replayId === replayId && details.phase === 'ended');
  return Math.max(...own.map(({ count }) => count));
}

async function start(world: World, args: readonly string[]): Promise<GviProcess> {
  const { redis } = await world.links.open('gvi');
  return startGvi(args, {
    ...{ REDIS_URL: `redis://127.0.0.1:${redis.port}`, KEY_PREFIX: world.keys.prefix },
    ...(args[0] === 'trim' ? ALL_IS_OLD : {}),
  });
}

/** SIGKILLs the command when it has sent what fits for the nth time; where it could not begin it is run again. */
async function runKilled(world: World, args: readonly string[], matcher: Matcher, nth = 1): Promise<GviProcess> {
  let left = nth;
  let command: GviProcess | undefined;
  const disarm = world.links.onCommand({ ...matcher, owner: 'gvi' }, () => {
    left -= 1;
    if (left > 0) return undefined;
    disarm();
    world.faultLog.add('SIGKILL gvi', `${args[0]}, ${matcher.when} ${matcher.name} no. ${nth}`);
    command!.child.kill('SIGKILL');
    return 'cut';
  });
  const isKilled = async () => {
    if (command !== undefined) await sleep(AGAIN_MS);
    command = await start(world, args);
    const code = await command.exited;
    assert.is.not(code, 0, `${args[0]} was done before it could be killed`);
    return code === null;
  };
  await waitFor(`${args[0]} to be killed`, isKilled, DONE_MS);
  return command!;
}

/** As an operator would, who runs it again where it could not. */
async function untilDone(world: World, args: readonly string[]): Promise<GviProcess> {
  let last: GviProcess | undefined;
  const isDone = async () => {
    if (last !== undefined) await sleep(AGAIN_MS);
    last = await start(world, args);
    return (await last.exited) === 0;
  };
  await waitFor(`gvi ${args.join(' ')} to do it`, isDone, DONE_MS).catch((error) => {
    throw new Error(`${error.message}\n${last?.stdout()}${last?.stderr()}`);
  });
  return last!;
}

async function restartRedis({ redis, faultLog }: World): Promise<void> {
  const fault = faultLog.add('SIGKILL Redis', 'restarted at once');
  redis.kill('SIGKILL');
  await redis.restart();
  fault.healedAt = Date.now();
}
