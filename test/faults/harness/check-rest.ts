/** What must hold once nothing is left to do: nothing waits, nobody is left over, all figures agree. */

import type { Provider } from '../../../src/lib/errors.js';
import type { StreamName } from '../../../src/lib/event-id.js';
import { GROUPS, streamsOf } from '../../../src/lib/events.js';
import { readOverview } from '../../../src/lib/overview.js';
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

/** A consumer of a dead process holds nothing, and there are no more of them than processes died. */
export async function checkConsumers({ client, keys, workers, faultLog }: World): Promise<Violation[]> {
  const alive = new Set(workers().map(({ pid }) => pid));
  const dead = new Map<string, string[]>();
  const violations: Violation[] = [];
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) {
      const consumers = (await client.xinfo('CONSUMERS', keys.stream(stream), group).catch(() => [])) as unknown[][];
      for (const info of consumers) {
        const [name, pending] = [String(info[1]), Number(info[3])];
        if (alive.has(pidOfConsumer(name))) continue;
        dead.set(name, [...(dead.get(name) ?? []), `${group} of ${stream}`]);
        if (pending > 0)
          violations.push({ rule: 'consumers', text: `${name} is dead and holds ${pending} of ${stream}` });
      }
    }
  }
  const deaths = faultLog.faults.filter(({ kind }) => kind.endsWith(' worker')).length;
  if (dead.size > deaths)
    violations.push({
      rule: 'consumers',
      text: `${dead.size} dead consumers after ${deaths} deaths: ${[...dead].map(([name, places]) => `${name} in ${places.join(', ')}`).join('; ')}`,
    });
  return violations;
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
