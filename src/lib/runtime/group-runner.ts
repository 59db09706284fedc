/**
 * Runs one consumer group in one worker: takes entries as slots fall free, keeps alive what is held, takes over what dead
 * workers left, and at a shutdown hands back what it cannot finish.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Consumer } from '../consumer.js';
import type { StreamName } from '../event-id.js';
import { type DelivererOptions, makeDeliverer, type WorkPolicy } from './deliverer.js';
import type { Entry } from './entry.js';
import type { GroupStore } from './group-store.js';
import type { ProviderHealth } from './provider-health.js';
import { isGroupMissing } from './settler.js';

export type GroupRunner = {
  group: string;
  /**
   * Stops reading, hands back what has not started, lets what runs go on for the grace, then aborts it and hands it back.
   */
  stop: () => Promise<void>;
  /** When the read loop last came round, by this process' clock in ms: liveness is this, not an open connection. */
  lastLoopAt: () => number;
};

/** A blocking read ends by itself after this, so that due retries and dead workers' entries are seen to in time. */
const BLOCK_MS = 500;
/** The same while something runs here that may be parked for a short moment. */
const BLOCK_BUSY_MS = 100;
const RECLAIM_EVERY_MS = 500;
const REFRESH_EVERY_MS = 300;
const TICK_EVERY_MS = 5_000;
const REAP_EVERY_MS = 60_000;
const CONSUMER_IDLE_MS = 600_000;
const ERROR_WAIT_MS = 250;
const ABORTED_WAIT_MS = 700;

export function runGroup(options: {
  store: GroupStore;
  deliverer: Omit<DelivererOptions, 'onFree' | 'store' | 'health' | 'policy' | 'log'>;
  health: ProviderHealth;
  policy: WorkPolicy;
  log: Logger;
  /** Told Redis' time whenever it is learnt. */
  onTime: (redisNow: number) => void;
}): GroupRunner {
  const { store, health, policy, log, onTime } = options;
  const stopping = new AbortController();
  let wake = () => {};
  const deliverer = makeDeliverer({ ...options.deliverer, store, health, policy, log, onFree: () => wake() });
  const cursors = new Map<StreamName, string>();
  const lastRun = { reclaim: 0, refresh: 0, tick: 0, reap: Date.now(), loop: Date.now() };
  const { consumer } = options.deliverer;
  let nextDueAt = 0;
  let turn = 0;
  let mayHaveMore = true;

  const loops = Promise.all([repeat('read', readOnce), repeat('keep', keepOnce)]);
  return { group: store.group, stop, lastLoopAt: () => lastRun.loop };

  /** A step that fails is tried again after a moment; a missing group is made again. */
  async function repeat(name: string, step: () => Promise<void>): Promise<void> {
    let isFailing = false;
    while (!stopping.signal.aborted) {
      try {
        await step();
        isFailing = false;
      } catch (error) {
        if (isGroupMissing(error)) await store.ensureGroups().catch(() => {});
        if (!isFailing) log.warn({ err: error, group: store.group }, `${name} failed; trying again`);
        isFailing = true;
        await waitMs(ERROR_WAIT_MS);
      }
    }
  }

  async function readOnce(): Promise<void> {
    lastRun.loop = Date.now();
    await maintain();
    if (deliverer.free() === 0) return slotFree();
    accept(await takeOver());
    const free = deliverer.free();
    if (free === 0) return;
    if (!mayHaveMore) accept(await store.waitForNew(blockMs()));
    else mayHaveMore = accept(await takeNew(free));
  }

  /** Returns true when there was something, as there may then be more. */
  function accept(entries: readonly Entry[]): boolean {
    if (entries.length === 0) return false;
    mayHaveMore = true;
    if (stopping.signal.aborted) void handBack(entries);
    else deliverer.deliver(entries);
    return true;
  }

  /** New entries over all streams of the group, beginning with another stream each time so that none starves. */
  async function takeNew(count: number): Promise<Entry[]> {
    turn += 1;
    const entries: Entry[] = [];
    for (let i = 0; i < store.streams.length && entries.length < count; i += 1) {
      const stream = store.streams[(turn + i) % store.streams.length]!;
      entries.push(...(await store.takeNew(stream, count - entries.length)));
    }
    return entries;
  }

  /** Retries that are due and entries of dead workers come before new ones. */
  async function takeOver(): Promise<Entry[]> {
    const entries: Entry[] = [];
    if (Date.now() >= nextDueAt) {
      const due = await store.takeDue(deliverer.free());
      onTime(due.now);
      entries.push(...due.entries);
      const untilDue = due.nextDueAt === undefined ? BLOCK_MS : due.nextDueAt - due.now;
      nextDueAt = Date.now() + Math.min(Math.max(untilDue, 5), blockMs());
    }
    if (isTime('reclaim', RECLAIM_EVERY_MS)) entries.push(...(await reclaim(deliverer.free() - entries.length)));
    return entries;
  }

  /** Walks every stream from where the last walk ended, as one reply may be empty with a cursor that goes on. */
  async function reclaim(room: number): Promise<Entry[]> {
    const found: Entry[] = [];
    for (const stream of store.streams) {
      let cursor = cursors.get(stream) ?? '0-0';
      do {
        const count = room - found.length;
        if (count <= 0) break;
        const reply = await store.reclaim(stream, { idleMs: policy.visibilityTimeoutMs, cursor, count });
        for (const id of reply.vanished)
          log.error({ group: store.group, stream, id }, 'an entry vanished from under the group');
        found.push(...reply.entries);
        cursor = reply.cursor;
      } while (cursor !== '0-0');
      cursors.set(stream, cursor);
    }
    if (found.length > 0)
      log.info({ group: store.group, entries: found.length }, 'took over entries of another worker');
    return found;
  }

  async function maintain(): Promise<void> {
    if (isTime('refresh', REFRESH_EVERY_MS)) await health.refresh();
    if (consumer.tick !== undefined && isTime('tick', TICK_EVERY_MS)) void tick(consumer.tick);
    if (isTime('reap', REAP_EVERY_MS)) await store.removeIdleConsumers(CONSUMER_IDLE_MS);
  }

  async function tick(run: NonNullable<Consumer['tick']>): Promise<void> {
    try {
      if (!(await store.leaseTick(TICK_EVERY_MS))) return;
      await run({ log, now: () => new Date(options.deliverer.now()), signal: stopping.signal });
    } catch (error) {
      if (!stopping.signal.aborted) log.warn({ err: error, group: store.group }, 'tick failed');
    }
  }

  async function keepOnce(): Promise<void> {
    await waitMs(policy.visibilityTimeoutMs / 3);
    await keepHeld();
  }

  async function keepHeld(): Promise<void> {
    for (const [stream, entries] of byStream(deliverer.held())) {
      const lost = new Set(
        await store.keep(
          stream,
          entries.map(({ id }) => id),
        ),
      );
      for (const entry of entries) {
        // Between the look and the answer it may have been settled, which is no loss.
        if (lost.has(entry.id) && deliverer.held().includes(entry)) deliverer.drop(entry.eventId);
      }
    }
  }

  function blockMs(): number {
    return deliverer.held().length > 0 ? BLOCK_BUSY_MS : BLOCK_MS;
  }

  function isTime(name: 'reclaim' | 'refresh' | 'reap' | 'tick', everyMs: number): boolean {
    if (Date.now() - lastRun[name] < everyMs) return false;
    lastRun[name] = Date.now();
    return true;
  }

  /** The turn of the event loop lets slots that fall free together be filled together. */
  async function slotFree(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, BLOCK_MS);
    });
    clearTimeout(timer);
    await nextTurn();
  }

  async function waitMs(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: stopping.signal }).catch(() => {});
  }

  async function stop(): Promise<void> {
    stopping.abort();
    wake();
    const keeping = setInterval(() => void keepHeld().catch(() => {}), policy.visibilityTimeoutMs / 3);
    await Promise.all([loops, handBack(deliverer.takeQueued())]);
    await Promise.race([deliverer.idle(), sleep(policy.shutdownGraceMs)]);
    deliverer.abort();
    await Promise.race([deliverer.idle(), sleep(ABORTED_WAIT_MS)]);
    clearInterval(keeping);
    await handBack(deliverer.held());
  }

  async function handBack(entries: readonly Entry[]): Promise<void> {
    for (const [stream, items] of byStream(entries)) {
      await store
        .handBack(
          stream,
          items.map(({ id }) => id),
        )
        .catch((error) => log.warn({ err: error, stream }, 'could not hand back'));
    }
  }
}

function byStream(entries: readonly Entry[]): Map<StreamName, Entry[]> {
  const grouped = new Map<StreamName, Entry[]>();
  for (const entry of entries) {
    const list = grouped.get(entry.stream) ?? [];
    list.push(entry);
    grouped.set(entry.stream, list);
  }
  return grouped;
}
