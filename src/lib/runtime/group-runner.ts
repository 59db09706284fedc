/**
 * Runs one consumer group in one worker: takes entries as slots fall free, keeps alive what is held, takes over what dead
 * workers left, and at a shutdown hands back what it cannot finish.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Consumer } from '../consumer.js';
import type { StreamName } from '../event-id.js';
import { isGroupMissing } from '../redis-errors.js';
import type { Bell } from './bell.js';
import { type DelivererOptions, makeDeliverer, type WorkPolicy } from './deliverer.js';
import type { Entry } from './entry.js';
import type { GroupStore } from './group-store.js';
import type { GroupUpkeep } from './group-upkeep.js';
import { makeHeartbeat } from './heartbeat.js';
import type { ProviderHealth } from './provider-health.js';
import { makeTakeOver } from './take-over.js';
import { within } from './within.js';

export type GroupRunner = {
  group: string;
  /** Resolves after the first heartbeat. */
  start: () => Promise<void>;
  /**
   * Stops reading, hands back what has not started, lets what runs go on for the grace, then aborts it and hands it back.
   * Ends within a second of the grace, also where Redis does not answer.
   */
  stop: () => Promise<void>;
  /** Ends the heartbeat: to be called once all groups of the worker have stopped. */
  beNoMore: () => void;
  /** Aborts what runs and hands back all that is held, in a moment. */
  stopNow: () => Promise<void>;
  /** When the read loop last came round (`performance.now()`): liveness is this, not an open connection. */
  lastLoopAt: () => number;
  /** The connection was made anew: replies may be lost. */
  reconnected: () => void;
};

/** No wait is longer, so that due retries and dead workers' entries are seen to in time. */
const REST_MS_MAX = 500;
const REFRESH_EVERY_MS = 300;
const TICK_EVERY_MS = 5_000;
const SAVE_EVERY_MS = 2_000;
const ERROR_WAIT_MS = 250;
const HOLD_WAIT_MS = 100;
const STALE_WAIT_MS = 20;
/** A shutdown's second after the grace. */
const ABORTED_WAIT_MS = 300;
const HAND_BACK_MS = 300;
/** A read that is under way may bring entries, which must be handed back before the group is left. */
const READ_END_MS = 2_000;
const READ_END_AFTER_GRACE_MS = 500;

export type Reaping = { everyMs: number; idleMs: number };

export function runGroup(options: {
  store: GroupStore;
  upkeep: GroupUpkeep;
  bell: Bell;
  deliverer: Omit<
    DelivererOptions,
    'onFree' | 'onParked' | 'onStray' | 'isFresh' | 'store' | 'health' | 'policy' | 'log'
  >;
  health: ProviderHealth;
  policy: WorkPolicy;
  reaping: Reaping;
  log: Logger;
  /** Makes the group again where it is missing. */
  repair: () => Promise<void>;
  /** Told Redis' time whenever it is learnt. */
  onTime: (redisNow: number) => void;
}): GroupRunner {
  const { store, upkeep, bell, health, policy, reaping, log, repair } = options;
  const { consumer } = options.deliverer;
  const { group } = store;
  const stopping = new AbortController();
  let wake = () => {};
  const heartbeat = makeHeartbeat({
    visibilityTimeoutMs: policy.visibilityTimeoutMs,
    beat: () => keepHeld().then(() => void failing.delete('heartbeat')),
    onStale() {
      const entries = deliverer.held().length;
      if (entries > 0)
        log.warn({ group, entries }, 'no heartbeat for as long as claims hold: letting go of what is held');
      options.deliverer.metrics.stalled(group);
      deliverer.fenceOff();
    },
    onError: (error) => void mend('heartbeat', error),
  });
  const deliverer = makeDeliverer({
    ...{ ...options.deliverer, store, health, policy, log },
    ...{ isFresh: heartbeat.isFresh, onStray: () => takeOver.findStrays() },
    onFree() {
      wake();
      if (takeOver.freed() || takeOver.hasSuspects()) bell.wake();
    },
    onParked(delayMs) {
      takeOver.parked(delayMs);
      bell.wake();
    },
  });
  const takeOver = makeTakeOver({ store, deliverer, log, onTime: options.onTime });
  const lastRun = { tick: Number.NEGATIVE_INFINITY, save: Number.NEGATIVE_INFINITY, reap: performance.now() };
  const failing = new Set<string>();
  let lastLoopAt = performance.now();
  let reading: Promise<void> = Promise.resolve();
  let mayHaveMore = true;
  let hasRead = false;

  return {
    group,
    async start() {
      await heartbeat.start();
      reading = read();
    },
    stop,
    async stopNow() {
      endReading();
      deliverer.abort();
      await within(HAND_BACK_MS, handBack(deliverer.held()));
    },
    beNoMore: () => heartbeat.stop(),
    lastLoopAt: () => lastLoopAt,
    reconnected: () => takeOver.findStrays(),
  };

  async function read(): Promise<void> {
    while (!stopping.signal.aborted) {
      lastLoopAt = performance.now();
      try {
        await readOnce();
      } catch (error) {
        // A script that failed midway may have read entries that nobody was told of.
        takeOver.findStrays();
        await mend('read', error);
        await waitMs(ERROR_WAIT_MS);
      }
    }
  }

  /** What failed is tried again after a moment; a missing group is made again. One line until the same has worked again. */
  async function mend(name: string, error: unknown): Promise<void> {
    if (stopping.signal.aborted) return;
    if (isGroupMissing(error)) await repair().catch(() => {});
    else if (!failing.has(name)) log.warn({ err: error, group }, `${name} failed; trying again`);
    failing.add(name);
  }

  async function readOnce(): Promise<void> {
    await maintain();
    // What would be read now could not be begun with.
    if (!heartbeat.isFresh()) return waitMs(STALE_WAIT_MS);
    if (accept(await takeOver.next())) mayHaveMore = true;
    const room = deliverer.room();
    if (room.free === 0) return slotFree();
    if (!mayHaveMore) await bell.wait(store.ends(), restMs());
    if (stopping.signal.aborted) return;
    const { entries, next } = await store.takeNew(room);
    failing.delete('read');
    mayHaveMore = accept(entries) || next !== 'end';
    // From the first on: a group may be destroyed at any time.
    if (entries.length > 0 && !hasRead) await saveCursors(0);
    hasRead ||= entries.length > 0;
    if (next === 'hold') await waitMs(HOLD_WAIT_MS);
  }

  /** Returns true when there was something, as there may then be more. */
  function accept(entries: readonly Entry[]): boolean {
    if (entries.length === 0) return false;
    if (stopping.signal.aborted) void handBack(entries);
    else deliverer.deliver(entries);
    return true;
  }

  async function maintain(): Promise<void> {
    await health.refresh(REFRESH_EVERY_MS);
    if (consumer.tick !== undefined && isTime('tick', TICK_EVERY_MS)) void tick(consumer.tick);
    if (isTime('save', SAVE_EVERY_MS)) await saveCursors(SAVE_EVERY_MS);
    if (isTime('reap', reaping.everyMs)) await upkeep.removeDeadConsumers(reaping.idleMs);
  }

  async function saveCursors(everyMs: number): Promise<void> {
    for (const name of await upkeep.saveCursors(everyMs)) {
      log.error({ group, consumer: name }, 'a consumer was removed by hand; what it held is looked for');
    }
  }

  async function tick(run: NonNullable<Consumer['tick']>): Promise<void> {
    try {
      if (!(await upkeep.leaseTick(TICK_EVERY_MS))) return;
      await run({ log, now: () => new Date(options.deliverer.now()), signal: stopping.signal });
      failing.delete('tick');
    } catch (error) {
      await mend('tick', error);
    }
  }

  async function keepHeld(): Promise<void> {
    const held = deliverer.held();
    const idsByStream = new Map([...byStream(held)].map(([stream, entries]) => [stream, entries.map(({ id }) => id)]));
    const notOwned = await store.keep(idsByStream);
    // Before the answer it may have been settled, which is no loss; that is known here a turn later.
    await nextTurn();
    const unclaimed = stillHeld(held, notOwned);
    if (unclaimed.length === 0) return;
    const lost = await store.restoreClaims(unclaimed.map(({ eventId }) => eventId));
    for (const { eventId } of stillHeld(held, lost)) {
      log.warn({ group, event: eventId }, 'claim lost; letting go');
      deliverer.drop(eventId);
    }
  }

  function stillHeld(entries: readonly Entry[], eventIds: readonly string[]): Entry[] {
    if (eventIds.length === 0) return [];
    const [wanted, now] = [new Set(eventIds), new Set(deliverer.held())];
    return entries.filter((entry) => wanted.has(entry.eventId) && now.has(entry));
  }

  function restMs(): number {
    return Math.min(takeOver.restMs(), REST_MS_MAX);
  }

  function isTime(name: keyof typeof lastRun, everyMs: number): boolean {
    const now = performance.now();
    if (now - lastRun[name] < everyMs) return false;
    lastRun[name] = now;
    return true;
  }

  /** The turn of the event loop lets slots that fall free together be filled together. */
  async function slotFree(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, REST_MS_MAX);
    });
    clearTimeout(timer);
    await nextTurn();
  }

  async function waitMs(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: stopping.signal }).catch(() => {});
  }

  function endReading(): void {
    stopping.abort();
    bell.close();
    wake();
  }

  async function stop(): Promise<void> {
    endReading();
    const endMs = Math.min(READ_END_MS, policy.shutdownGraceMs + READ_END_AFTER_GRACE_MS);
    const ended = within(endMs, Promise.all([reading, handBack(deliverer.close())]));
    await within(policy.shutdownGraceMs, deliverer.idle());
    deliverer.abort();
    // Both at once: where Redis does not answer, each takes all of its time.
    await Promise.all([ended, within(ABORTED_WAIT_MS, deliverer.idle())]);
    await within(HAND_BACK_MS, handBack(deliverer.held()));
  }

  async function handBack(entries: readonly Entry[]): Promise<void> {
    const parts = [...byStream(entries)].map(([stream, items]) =>
      store
        .handBack(
          stream,
          items.map(({ id }) => id),
        )
        .catch((error) => log.warn({ err: error, stream }, 'could not hand back')),
    );
    await Promise.all(parts);
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
