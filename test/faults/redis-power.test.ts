import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { findForgotten } from './harness/check-streams.js';
import { check } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import { isAccepted, type Sent } from './harness/history.js';
import { run, send } from './harness/load.js';
import { tapPower } from './harness/power-cut.js';
import { countSpooled } from './harness/quiet.js';
import { killRedis } from './harness/redis-faults.js';
import { setStage, sized } from './harness/scenario.js';
import { readSnapshot } from './harness/snapshot.js';
import { makeStories } from './harness/stories.js';
import { recoveryMsOf, underLoad, withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('a power cut');
const stage = setStage(test, import.meta.url, { gemini: { latencyMs: 20 } });

const RECOVERY_MS = sized(30_000, 5_000 + 2_000);
const CUTS = sized(1, 20);

stage.inOwnWorld(
  'appendfsync always: what was answered 2xx is there',
  { redis: { appendfsync: 'always' } },
  async (world) => {
    const power = tapPower(world, 'always');
    for (let n = 1; n <= CUTS; n += 1) {
      await withoutRestarts(world, async () => {
        const { result: fault } = await underLoad(world, `cut ${n}`, () => power.cut(), { ratePerS: sized(40, 200) });
        await check(world);
        await tell(world, fault, 0);
      });
    }
    power.release();
  },
);

stage.inOwnWorld('appendfsync everysec: what was lost is known, and nothing is done twice', {}, async (world) => {
  const power = tapPower(world, 'everysec');
  await (await world.addIngest({ spool: true })).untilReady();
  const stories = { mix: { revision: 0 } };
  let cutAt = 0;
  const mayForget = ({ outcome }: Sent) => outcome.at < cutAt && outcome.answer?.status !== 'spooled';

  for (let n = 1; n <= CUTS; n += 1) {
    await withoutRestarts(world, async () => {
      const cut = async () => {
        const fault = await power.cut({ downMs: sized(500, 5_000) });
        cutAt = fault.healedAt!;
        return fault;
      };
      const { result: fault } = await underLoad(world, `cut ${n}`, cut, { beforeMs: 1_500, afterMs: 200, stories });
      const { forgotten } = await check(world, { mayForget });
      await tell(world, fault, forgotten);
    });
  }
  power.release();

  const lost = findForgotten(world, await readSnapshot(world));
  assert.ok(lost.length > 0, 'nothing was lost, so nothing was shown');
  // As a person does who compares with the provider's list.
  await run(world, lost);
  await check(world, { mayForget });
});

const durable = { redis: { appendfsync: 'always' } } as const;
stage.inOwnWorld(
  'appendfsync always: a power cut just after the spool was emptied into Redis',
  durable,
  async (world) => {
    const power = tapPower(world, 'always');
    const ingest = await world.addIngest({ spool: true });
    await ingest.untilReady();
    const deliveries = makeStories(world.random.fork('spooled'), { mix: { revision: 0 } }).take(sized(20, 500));
    await killRedis(world, {
      async whileDown() {
        for (const delivery of deliveries) await send(world, delivery, ingest);
      },
    });
    assert.ok(world.history.sent.every(({ outcome }) => outcome.answer?.status === 'spooled'));
    await waitFor('the spool to be empty', async () => (await countSpooled(world)) === 0);
    const fault = await power.cut();
    await check(world);
    power.release();
    await tell(world, fault, 0);
  },
);

test.run();

async function tell(world: World, fault: InjectedFault, forgotten: number): Promise<void> {
  const ms = await recoveryMsOf(world, fault);
  const taken = world.history.sent.filter(isAccepted).length;
  console.log(`  ${fault.target}: ${fault.note}; ${forgotten} of ${taken} webhooks forgotten, recovered in ${ms} ms`);
  assert.ok(ms < RECOVERY_MS, `it took ${ms} ms until a worker wrote again`);
}
