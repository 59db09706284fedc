import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startGvi } from '../helpers/gvi.js';
import { assertAllCovered, crashAtAll, isProvoked } from './crash-points/drive.js';
import { crashWorld, makeCrashStories } from './crash-points/provoke.js';
import { check } from './harness/checker.js';
import { groupBy } from './harness/history.js';
import type { Matcher } from './harness/links.js';
import { run } from './harness/load.js';
import { hurryMinutes } from './harness/minutes.js';
import { setStage } from './harness/scenario.js';
import { readSnapshot, type Snapshot } from './harness/snapshot.js';
import type { World } from './harness/world.js';

const test = suite('a crash at every point around the CRM and the alerts');

const stage = setStage(test, import.meta.url, crashWorld);

stage.scenario(
  'one lead for each person, one note for each meeting, one message for each failure, also after an outage',
  async (world) => {
    await crashAtAll(world, ['crm-sync', 'alert', 'health'], { atOnce: 3 });
    assertAllCovered(world);
  },
);

const SIDES = ['before', 'after'] as const;
/** The command is killed there, or only loses its connection. */
const STRIKES = ['redrive', 'record-operation'].flatMap((name) =>
  SIDES.flatMap((when) => [true, false].map((isKilled) => ({ name, when, isKilled }))),
);

stage.longScenario('a redrive whose command dies or loses its answer: tried again once for each', async (world) => {
  const { blocked } = makeCrashStories(world, 'redrive');
  await run(world, [...blocked.next('booked'), ...blocked.next('meeting'), ...blocked.next('booked')]);
  const calm = hurryMinutes(world);
  // By run and event: also what was done without an answer, as many are asked for at once when the command dies.
  const redriven = new Set<string>();
  const isSettled = () => check(world, { mayFail: isProvoked, skip: ['ended', 'follow-ons'] });
  await isSettled();
  const before = countFailures(await readSnapshot(world));
  for (const { isKilled, ...matcher } of STRIKES) {
    await redriveAll(world, matcher, isKilled);
    for (const one of await readRedriven(world)) redriven.add(one);
    await isSettled();
  }
  calm();
  const timesOf = (id: string) => [...redriven].filter((one) => one.startsWith(`${id} `)).length;
  const expected = new Map([...before].map(([id, count]) => [id, count + timesOf(id)]));
  assert.equal([...countFailures(await readSnapshot(world))].sort(), [...expected].sort());
  assert.ok(redriven.size > STRIKES.length, 'hardly anything was redriven');
});

test.run();

/** What each run has redriven is remembered for a minute, so that it answers as it did when it is asked again. */
async function readRedriven({ client, keys }: World): Promise<string[]> {
  const found: string[] = [];
  for await (const runs of client.scanStream({ match: `${keys.redriven('')}*`, count: 1_000 })) {
    for (const run of runs as string[]) for (const id of await client.smembers(run)) found.push(`${id} ${run}`);
  }
  return found;
}

async function redriveAll(world: World, matcher: Matcher, isKilled: boolean): Promise<void> {
  const { redis } = await world.links.open('gvi');
  const command = startGvi(['redrive', '--all', '--yes'], {
    ...{ REDIS_URL: `redis://127.0.0.1:${redis.port}`, KEY_PREFIX: world.keys.prefix },
  });
  const what = `${matcher.when} ${matcher.name}`;
  let wasHit = false;
  const disarm = world.links.onCommand({ ...matcher, owner: 'gvi' }, () => {
    disarm();
    wasHit = true;
    world.faultLog.add(isKilled ? 'SIGKILL gvi' : 'answer lost', `redrive, ${what}`);
    if (isKilled) command.child.kill('SIGKILL');
    return 'cut';
  });
  await command.exited;
  disarm();
  assert.ok(wasHit, `${what} was never reached: ${command.stderr()}`);
}

/** Of what fails each time that it is tried: what the CRM had refused once may be done now. */
function countFailures({ failures }: Snapshot): Map<string, number> {
  const blocked = failures.filter(({ error }) => error.code === 'model_blocked');
  return new Map([...groupBy(blocked, ({ eventId }) => eventId)].map(([eventId, same]) => [eventId, same.length]));
}
