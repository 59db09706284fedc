/** Waits until nothing is left to do. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUPS, type GroupName, STREAMS } from '../../../src/lib/events.js';
import { readOverview } from '../../../src/lib/overview.js';
import { groupBy } from './history.js';
import { sized } from './scenario.js';
import type { World } from './world.js';

const LOOK_MS = 250;
/** What was in crashes alone waits for its slot; a starved machine makes more of them, and its runs longer. */
const STUCK_MS = sized(60_000, 30_000);

export type QuietOptions = {
  /** How long nothing may come to its end while something is left to do [30000, in the short form 60000]: a machine that is slow is not stuck. */
  stuckMs?: number;
  /** For how long nothing may be left and nothing come to its end [500]: figures are not of one instant, and what a worker holds of a group that is gone is in no list. */
  restMs?: number;
  /** Groups that need not be done, as `alert` while it gathers a digest. */
  except?: readonly string[];
};

/** No backlog, nothing pending, parked or spooled, every event ended, the projections at the ends of their streams. */
export async function waitQuiet(
  world: World,
  { stuckMs = STUCK_MS, restMs = 500, except = [] }: QuietOptions = {},
): Promise<void> {
  let progress = -1;
  let progressAt = performance.now();
  for (;;) {
    const left = await whatIsLeft(world, except).catch((error: Error) => error.message);
    const ends = await countEnds(world).catch(() => progress);
    if (ends !== progress) progressAt = performance.now();
    progress = ends;
    const sameForMs = performance.now() - progressAt;
    if (left === '' && sameForMs >= restMs) return;
    if (left !== '' && sameForMs > stuckMs) {
      throw new Error(`It did not come to rest, and nothing came to its end for ${stuckMs} ms: ${left}`);
    }
    await sleep(LOOK_MS);
  }
}

/** Grows with every step that is done. */
async function countEnds({ client, keys }: World): Promise<number> {
  const lengths = await Promise.all(STREAMS.map((stream) => client.xlen(keys.stream(stream))));
  return lengths.reduce((sum, length) => sum + length, 0);
}

async function whatIsLeft(world: World, except: readonly string[]): Promise<string> {
  const { client, keys } = world;
  const spooled = world.hasSpool ? await countSpooled(world) : 0;
  if (spooled > 0) return `${spooled} webhooks in the spool`;
  const { groups, streams } = await readOverview({ redis: client, keys });
  for (const [group, { backlog, pending, parked }] of Object.entries(groups)) {
    if (except.includes(group) || backlog + pending + parked === 0) continue;
    const codes = await readCodes(world, group as GroupName);
    return `${group} has a backlog of ${backlog}, ${pending} pending, ${parked} parked${codes}`;
  }
  // The figures are not of one instant: what is parked in one and pending in the other may be in none of them.
  for (const group of GROUPS.filter((name) => !except.includes(name))) {
    const begun = await client.hlen(keys.attempts(group));
    if (begun > 0) return `${group} has begun ${begun} and not ended them`;
  }
  const positions = await client.hgetall(keys.projector('lead'));
  for (const stream of ['events:enriched', 'events:summarized', 'events:synced']) {
    const { lastId } = streams[stream]!;
    if (lastId !== '0-0' && positions[stream] !== lastId) return `the projector is behind in ${stream}`;
  }
  return '';
}

/** Why they wait, and how many for each reason. */
async function readCodes({ client, keys }: World, group: GroupName): Promise<string> {
  const records = await client.hvals(keys.attempts(group));
  const codes = records.map((record) => (JSON.parse(record) as { code: string }).code);
  const counts = [...groupBy(codes, (code) => code)].map(([code, same]) => `${same.length} × ${code}`);
  const crashed = await client.hlen(keys.strikes(group));
  if (crashed > 0) counts.push(`${crashed} were in a crash`);
  return counts.length === 0 ? '' : ` (${counts.join(', ')})`;
}

/** In the spools of the ingests that run. */
export async function countSpooled(world: World): Promise<number> {
  let count = 0;
  for (const { url } of world.ingests().filter((part) => part.isReady())) {
    const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) });
    count += Number(/^gvi_spool_records (\d+)/m.exec(await response.text())?.[1] ?? 0);
  }
  return count;
}
