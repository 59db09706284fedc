import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { waitFor } from '../helpers/wait-for.js';
import { check, type Loss } from './harness/checker.js';
import type { InjectedFault } from './harness/fault-log.js';
import { isAccepted, isSpooled, type Sent } from './harness/history.js';
import { send } from './harness/load.js';
import { tapPower } from './harness/power-cut.js';
import { countSpooled } from './harness/quiet.js';
import { untilAllTake } from './harness/reading.js';
import { killRedis } from './harness/redis-faults.js';
import { besideFault, setStage, sized } from './harness/scenario.js';
import { makeStories } from './harness/stories.js';
import { underLoad, withoutRestarts } from './harness/storm.js';
import type { World } from './harness/world.js';

const test = suite('a power cut');
const stage = setStage(test, import.meta.url, { gemini: besideFault({ latencyMs: 20 }) });

const RECOVERY_MS = sized(30_000, 5_000 + 2_000);
const CUTS = sized(1, 8);
/** With `everysec` the disk has all that was answered so long before. */
const EVERYSEC_MS = 2_000;
/** And surely not what was sent since. */
const FRESH_MS = 500;

stage.inOwnWorld(
  'appendfsync always: what was answered 2xx is there',
  { redis: { appendfsync: 'always' } },
  async (world) => {
    const power = tapPower(world, 'always');
    for (let n = 1; n <= CUTS; n += 1) {
      await withoutRestarts(world, async () => {
        const { result } = await underLoad(world, `cut ${n}`, () => power.cut(), { ratePerS: sized(20, 200) });
        assert.ok(result.bytes > 0, 'all was on disk');
        await check(world);
        await tell(world, result.fault, 0);
      });
    }
    power.release();
  },
);

stage.inOwnWorld(
  'appendfsync everysec: what was lost is appended again, and nothing is done twice',
  { redis: { appendfsync: 'everysec' } },
  async (world) => {
    const power = tapPower(world, 'everysec');
    await (await world.addIngest({ spool: true })).untilReady();
    const stories = { mix: { revision: 0 } };
    const losses: Loss[] = [];
    const isWithin = ({ at, ms }: Sent['outcome'], { from, to }: Loss) => at + ms > from && at < to;
    const mayForget = (sent: Sent) => !isSpooled(sent) && losses.some((loss) => isWithin(sent.outcome, loss));

    for (let n = 1; n <= CUTS; n += 1) {
      await withoutRestarts(world, async () => {
        const cut = async () => {
          // What a spool holds Redis cannot lose.
          const isNew = (sent: Sent) => isAccepted(sent) && !isSpooled(sent) && sent.outcome.at > Date.now() - FRESH_MS;
          await waitFor('something that is not on the disk yet', () => world.history.sent.some(isNew));
          const { fault, bytes } = await power.cut({ downMs: sized(500, 5_000) });
          assert.ok(bytes > 0, 'all was on disk');
          losses.push({ from: fault.at - EVERYSEC_MS, to: fault.healedAt! });
          return fault;
        };
        const load = { beforeMs: EVERYSEC_MS + 1_500, afterMs: 200, stories };
        const { sent, result: fault } = await underLoad(world, `cut ${n}`, cut, load);
        const { forgotten } = await check(world, { mayForget, losses });
        assert.is(forgotten, 0, 'what was lost was not appended again');
        assert.ok(
          sent.some((one) => isAccepted(one) && one.outcome.at < fault.at && !mayForget(one)),
          'nothing was taken in that may not be forgotten',
        );
        await tell(world, fault, forgotten);
      });
    }
    power.release();

    const again = world.ingests().reduce((sum, part) => sum + part.said('redis had lost a webhook'), 0);
    assert.ok(again > 0, 'nothing was lost, so nothing was shown');
    console.log(`  ${again} webhooks were lost and appended again`);
  },
);

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
    // A starved machine's spool may refuse some, in the short form.
    const { sent } = world.history;
    const spooled = sent.filter(isSpooled).length;
    assert.ok(spooled >= sized(sent.length / 2, sent.length), `${spooled} of ${sent.length} were spooled`);
    await waitFor('the spool to be empty', async () => (await countSpooled(world)) === 0);
    const { fault, bytes } = await power.cut();
    assert.ok(bytes > 0, 'all was on disk');
    await check(world);
    power.release();
    await tell(world, fault, 0);
  },
);

test.run();

async function tell(world: World, fault: InjectedFault, forgotten: number): Promise<void> {
  const ms = Math.max(...(await untilAllTake(world, fault.healedAt!)).map((read) => read.ms));
  const taken = world.history.sent.filter(isAccepted).length;
  console.log(
    `  ${fault.target}: ${fault.note}; ${forgotten} of ${taken} webhooks forgotten, all read again after ${ms} ms`,
  );
  assert.ok(ms < RECOVERY_MS, `it took ${ms} ms until every worker read again`);
}
