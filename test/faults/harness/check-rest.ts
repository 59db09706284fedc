/** What must hold once nothing is left to do: nothing waits, nobody is left over, all figures agree. */

import type { Provider } from '../../../src/lib/errors.js';
import type { StreamName } from '../../../src/lib/event-id.js';
import { GROUPS, streamsOf } from '../../../src/lib/events.js';
import { readOverview } from '../../../src/lib/overview.js';
import { waitFor } from '../../helpers/wait-for.js';
import { untilAllTake } from './reading.js';
import { sized } from './scenario.js';
import type { Snapshot } from './snapshot.js';
import type { Violation } from './violation.js';
import { pidOfConsumer, type World } from './world.js';

const PROVIDERS: readonly Provider[] = ['gemini', 'zoho', 'slack'];

export async function checkAtRest({ client, keys }: World): Promise<Violation[]> {
  const violations: Violation[] = [];
  const wrong = (text: string) => violations.push({ rule: 'at-rest', text });
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) {
      const [count] = (await client.xpending(keys.stream(stream), group).catch(() => [0])) as [number];
      if (count > 0) wrong(`${group} still holds ${count} entries of ${stream}`);
    }
    const sets = [keys.parked(group), ...PROVIDERS.map((provider) => keys.waiting(group, provider))];
    for (const set of sets) {
      const count = await client.zcard(set);
      if (count > 0) wrong(`${count} entries are left in ${set}`);
    }
    const records = await client.hlen(keys.attempts(group));
    if (records > 0) wrong(`${records} records are left in ${keys.attempts(group)}`);
  }
  return violations;
}

/** Whoever left in good order is gone; who died stands there until it is reaped, and holds nothing. */
export async function checkConsumers(world: World): Promise<Violation[]> {
  const died = new Set(
    world
      .everyPart()
      .flatMap((part) => part.ends().filter((end) => !end.isOrderly))
      .map(pidOf),
  );
  return (await findDeadConsumers(world)).flatMap(({ name, place, pending }): Violation[] => {
    if (pending > 0) return [{ rule: 'consumers', text: `${name} is dead and holds ${pending} of ${place}` }];
    return died.has(pidOfConsumer(name)) ? [] : [{ rule: 'consumers', text: `${name} is left in ${place}` }];
  });
}

/** Waits until nobody stands in a group who is dead. */
export async function untilReaped(world: World, timeoutMs = 60_000): Promise<void> {
  await waitFor('dead consumers to be removed', async () => (await findDeadConsumers(world)).length === 0, timeoutMs);
}

type DeadConsumer = { name: string; place: string; pending: number };

async function findDeadConsumers({ client, keys, workers }: World): Promise<DeadConsumer[]> {
  const alive = new Set(workers().map(({ pid }) => pid));
  const dead: DeadConsumer[] = [];
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) {
      const consumers = (await client.xinfo('CONSUMERS', keys.stream(stream), group).catch(() => [])) as unknown[][];
      for (const info of consumers) {
        const name = String(info[1]);
        if (!alive.has(pidOfConsumer(name)))
          dead.push({ name, place: `${stream} in ${group}`, pending: Number(info[3]) });
      }
    }
  }
  return dead;
}

function pidOf({ pid }: { pid: number }): number {
  return pid;
}

const READING_MS = sized(30_000, 10_000);

/** Every worker goes on reading: one that is ready and dead is hidden by those that do its work. */
export async function checkReading(world: World): Promise<Violation[]> {
  try {
    await untilAllTake(world, Date.now(), READING_MS);
    return [];
  } catch (error) {
    return [{ rule: 'reading', text: (error as Error).message }];
  }
}

/** What `gvi status` and the metrics say is what the streams say. */
export async function checkNumbers({ client, keys }: World, snapshot: Snapshot): Promise<Violation[]> {
  const overview = await readOverview({ redis: client, keys });
  const violations: Violation[] = [];
  const wrong = (text: string) => violations.push({ rule: 'numbers', text });
  for (const [stream, { length, lastId }] of Object.entries(overview.streams)) {
    const entries = snapshot.byStream(stream as StreamName);
    if (length !== entries.length) wrong(`${stream}: ${length} entries, counted ${entries.length}`);
    if (lastId !== (entries.at(-1)?.id ?? '0-0')) wrong(`${stream}: the last id is ${lastId}`);
  }
  for (const [group, state] of Object.entries(overview.groups)) {
    if (state.backlog + state.pending + state.parked > 0) wrong(`${group}: ${JSON.stringify(state)}`);
    const open = new Set(snapshot.failures.filter((failure) => failure.group === group).map(({ key }) => key));
    const standing = [...open].filter((key) => !snapshot.byKey.get(key)?.some(({ type }) => type === 'lead.synced'));
    if (state.failed !== standing.length) wrong(`${group}: ${state.failed} failed, counted ${standing.length}`);
  }
  return violations;
}
