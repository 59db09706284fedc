/** How far a replay may run ahead: little of it waits at a time, in its group and in those that go on with what that writes. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Provider } from './errors.js';
import { catalogue, type GroupName, streamsOf } from './events.js';
import type { Keys } from './keys.js';
import { CHUNK } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { readSpareBytes } from './redis-facts.js';
import { loadScript } from './scripts.js';

/** What was handed over waits, and nobody is there to take it; or Redis has no memory for what would come of more. */
export class StalledError extends Error {
  override readonly name = 'StalledError';
}

/**
 * Of what is done again everything is written once more, and finishing may go beyond the limit, as it drains the pipeline.
 * Throws `StalledError`.
 */
export async function assertMemory({ redis, keys }: { redis: RedisClient; keys: Keys }): Promise<void> {
  if ((await readSpareBytes(redis, keys)) > 0) return;
  throw new StalledError(
    'Redis has no memory to spare below its limit, which doing all of it again would fill: raise maxmemory, or give this replay up (--abandon) and drop what is old (gvi trim).',
  );
}

type Load = { group: GroupName; waiting: number; heardMs: number; paused: Provider[] };

const LOOK_EVERY_MS = 50;
/** Between two looks, which says that Redis or this process stood still: then nobody could be heard. */
const AWAY_MS = 1_000;

/**
 * Returns a function that resolves when there is room for a chunk. It throws `StalledError` where no worker was heard for
 * so long, of the groups that have too much to do; slow calls are no standstill, and neither is a paused provider.
 */
export function makeWaitForRoom(
  { redis, keys }: { redis: RedisClient; keys: Keys },
  group: GroupName,
  {
    stalledMs,
    onPaused,
    onWait,
  }: {
    stalledMs: number;
    /** Told once of each provider that is waited for. */
    onPaused: (provider: Provider) => void;
    onWait: () => Promise<void>;
  },
): () => Promise<void> {
  const script = loadScript(redis, 'replay-load');
  const groups = [group, ...followersOf(group)];
  const told = new Set<Provider>();

  return async () => {
    const heardAt = new Map<GroupName, number>();
    const startedAt = performance.now();
    let lookedAt = startedAt;
    for (;;) {
      const loads = await read();
      if (count(loads) < CHUNK) return;
      const now = performance.now();
      const wasAway = now - lookedAt > AWAY_MS;
      lookedAt = now;
      for (const load of loads) {
        if (wasAway || (load.heardMs >= 0 && load.heardMs < stalledMs)) heardAt.set(load.group, now);
      }
      const deserted = loads.filter((load) => now - (heardAt.get(load.group) ?? startedAt) > stalledMs);
      if (count(deserted) >= CHUNK) throw stalled(deserted);
      tell(loads);
      await onWait();
      await sleep(LOOK_EVERY_MS);
    }
  };

  async function read(): Promise<Load[]> {
    const perGroup = groups.flatMap((name) => [name, JSON.stringify(name === group ? [] : streamsOf(name))]);
    const found = (await script([keys.parked(group)], [keys.prefix, CHUNK, ...perGroup])) as [
      number,
      number,
      Provider[],
    ][];
    return found.map(([waiting, heardMs, paused], index) => ({ group: groups[index]!, waiting, heardMs, paused }));
  }

  function tell(loads: readonly Load[]): void {
    for (const provider of loads.flatMap(({ paused }) => paused)) {
      if (told.has(provider)) continue;
      told.add(provider);
      onPaused(provider);
    }
  }
}

/** Who goes on with what a group writes; `alert`, which only tells of what failed, holds nothing up. */
function followersOf(group: GroupName): GroupName[] {
  const written = Object.values(catalogue).filter(({ writtenBy }) => (writtenBy as readonly string[]).includes(group));
  const readers = written.flatMap(({ readBy }): readonly GroupName[] => readBy);
  return [...new Set(readers)].filter((reader) => reader !== 'alert' && reader !== group);
}

function count(loads: readonly Load[]): number {
  return loads.reduce((sum, { waiting }) => sum + waiting, 0);
}

function stalled(deserted: readonly Load[]): StalledError {
  const names = deserted.filter(({ waiting }) => waiting > 0).map(({ group }) => group);
  return new StalledError(`Nobody takes what was handed over: does a worker of ${names.join(' and ')} run?`);
}
