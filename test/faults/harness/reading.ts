/** Whether every worker reads: one that is ready and dead hides well behind neighbours that do its work. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GroupName } from '../../../src/lib/events.js';
import { describeCommand } from './wire.js';
import { READS } from './wire-log.js';
import { pidOfConsumer, type World } from './world.js';

export type Read = { worker: string; group: GroupName; ms: number };

type ReadsOf = (worker: { name: string; pid: number }, group: GroupName) => readonly number[];

const POLL_MS = 25;

/** Waits until each worker that runs has read in each of its groups. Resolves with how long after `sinceMs` that was. */
export async function untilAllTake(world: World, sinceMs: number, timeoutMs = 30_000): Promise<Read[]> {
  const deadline = performance.now() + timeoutMs;
  const { readsOf, stop } = world.isDirect ? await listenToRedis(world) : listenToProxies(world);
  try {
    for (;;) {
      const { reads, missing } = findReads(world, sinceMs, readsOf);
      if (missing.length === 0) return reads;
      if (performance.now() > deadline)
        throw new Error(`for ${timeoutMs} ms nothing was read by ${missing.join(', ')}`);
      await sleep(POLL_MS);
    }
  } finally {
    stop();
  }
}

function findReads(world: World, sinceMs: number, readsOf: ReadsOf): { reads: Read[]; missing: string[] } {
  const reads: Read[] = [];
  const missing: string[] = [];
  for (const part of world.workers().filter(({ isRunning }) => isRunning())) {
    for (const group of part.groups) {
      const at = readsOf(part, group).find((time) => time >= sinceMs);
      if (at === undefined) missing.push(`${part.name} in ${group}`);
      else reads.push({ worker: part.name, group, ms: at - sinceMs });
    }
  }
  return { reads, missing };
}

function listenToProxies({ wire }: World): { readsOf: ReadsOf; stop: () => void } {
  return { readsOf: ({ name }, group) => wire.readsOf(name, group), stop: () => {} };
}

/** Where there are no proxies, from now on. */
async function listenToRedis({ redis }: World): Promise<{ readsOf: ReadsOf; stop: () => void }> {
  const times = new Map<string, number[]>();
  const client = redis.connect();
  const monitor = client.duplicate({ monitor: true, lazyConnect: true });
  // On a busy server the first lines come with the answer to MONITOR, before the client knows that it has become one.
  monitor.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    monitor.once('monitoring', () => resolve());
    monitor.connect().catch(reject);
  });
  monitor.on('monitor', (_: string, args: string[]) => {
    const { name, group, argv } = describeCommand(args.map((arg) => Buffer.from(arg)));
    if (group === undefined || !READS.has(name)) return;
    const reader = `${pidOfConsumer(argv[1] ?? '')} ${group}`;
    times.set(reader, [...(times.get(reader) ?? []), Date.now()]);
  });
  return {
    readsOf: ({ pid }, group) => times.get(`${pid} ${group}`) ?? [],
    stop() {
      monitor.disconnect();
      client.disconnect();
    },
  };
}
