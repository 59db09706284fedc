/**
 * Hands entries to a consumer and settles what comes of them. It counts the slots: entries are only read while a call is
 * free to take them, and whatever is held here is kept alive until it is settled, lost or handed back.
 */
import { decodeEntry } from '../codec.js';
import type { AnyBatchConsumer, Consumer, Context, Delivery, Outcome } from '../consumer.js';
import type { Provider } from '../errors.js';
import type { StoredEvent } from '../events.js';
import { countAlike, makeCallQueue } from './call-queue.js';
import type { Entry } from './entry.js';
import type { RetryPolicy } from './failure.js';
import { type Fence, makeFence } from './fence.js';
import type { GroupStore, ProviderRoom, Room } from './group-store.js';
import type { Isolation } from './isolation.js';
import { type CallOptions, makeNotedCalls } from './noted-calls.js';
import { makeSettlements, type Prepared, type SettlementOptions } from './settlements.js';
import type { Settlement, Settler } from './settler.js';

export type WorkPolicy = RetryPolicy & {
  visibilityTimeoutMs: number;
  shutdownGraceMs: number;
  idempotencyTtlS: number;
};

export type DelivererOptions = SettlementOptions & {
  /** How many calls of the consumer run at once. */
  parallelMax: number;
  store: GroupStore;
  settler: Settler;
  isolation: Isolation;
  policy: WorkPolicy;
  /** False when the claims on what is held can't be relied on. */
  isFresh: () => boolean;
  onFree: () => void;
  onParked: (delayMs: number) => void;
  /** An entry was let go that is still this worker's: it is to be taken in anew. */
  onStray: () => void;
};

export type Deliverer = {
  /** How many entries may be read now. */
  room: () => Room;
  /** Of these, how many may need the provider. */
  roomFor: (provider: Provider) => ProviderRoom;
  /** Entries that are held already are passed over. */
  deliver: (entries: readonly Entry[]) => void;
  held: () => readonly Entry[];
  /** Takes out what no call has begun with. From now on there is room for nothing more. */
  close: () => Entry[];
  /** The claim went to another worker: what is still running for it counts for nothing. */
  drop: (eventId: string) => void;
  /** The claims can't be relied on: what runs must not go on outside. What it has done already is settled where it may be. */
  fenceOff: () => void;
  /** Resolves when nothing runs any more. */
  idle: () => Promise<void>;
  /** Ends what runs; nothing of it is settled after this. */
  abort: () => void;
};

type Held = { entry: Entry; fence: Fence; isFencedOff: boolean; isLetGo: boolean };

type Ready = Prepared & { item: Held };

/**
 * While a provider hangs, the calls that need it may hold so much of the slots: the rest goes on with what does not need
 * it. A batch holds events of both kinds, and its providers hang for seconds only.
 */
const NEEDING_SHARE = 0.75;
/** However many slots there are: scripts take and keep all of it at once, and Lua hands over some thousand values at most. */
const HELD_MAX = 4_000;

export function makeDeliverer(options: DelivererOptions): Deliverer {
  const { consumer, parallelMax, store, settler, isFresh, log } = options;
  const { prepare, toSettlement, waitForRoom } = makeSettlements(options);
  const batchMax = isBatch(consumer) ? consumer.batchMax : 1;
  const retriesApart = isBatch(consumer) && consumer.retriesApart === true;
  const needingMax = isBatch(consumer) ? parallelMax : Math.max(1, Math.floor(parallelMax * NEEDING_SHARE));
  const held = new Map<string, Held>();
  const queue = makeCallQueue<Held>({ parallelMax, batchMax, retriesApart });
  const whenIdle: (() => void)[] = [];
  /** How many of the calls need each provider. */
  const needing = new Map<Provider, number>();
  let calls = 0;
  let isClosed = false;
  let isAborted = false;
  const { runInTurn, suspects } = makeNotedCalls<Held>({
    ...{ store, isolation: options.isolation, runCall, isHeld, letGo },
    isAborted: () => isAborted,
    onEnd: tellFree,
  });

  return {
    room: () => ({
      free: isClosed
        ? 0
        : Math.max(0, Math.min((parallelMax - calls) * batchMax - queue.waiting(), HELD_MAX - held.size)),
      alone: isClosed ? 0 : suspects.room(),
    }),

    roomFor,

    deliver(entries) {
      for (const entry of entries) {
        if (held.has(entry.eventId)) continue;
        const item = { entry, fence: makeFence(isFresh), isFencedOff: false, isLetGo: false };
        held.set(entry.eventId, item);
        (entry.verdict === 'suspect' ? suspects : queue).push(item);
      }
      startCalls();
      suspects.start();
    },

    held: () => [...held.values()].map(({ entry }) => entry),

    close() {
      isClosed = true;
      const waiting = [...queue.clear(), ...suspects.clear()].map(({ entry }) => entry);
      for (const { eventId } of waiting) held.delete(eventId);
      return waiting;
    },

    drop(eventId) {
      const item = held.get(eventId);
      if (item === undefined) return;
      item.fence.abort();
      held.delete(eventId);
      queue.remove(item);
    },

    fenceOff() {
      for (const item of held.values()) {
        item.isFencedOff = true;
        item.fence.abort();
      }
    },

    idle: () => (countCalls() === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),

    abort() {
      isClosed = true;
      isAborted = true;
      queue.clear();
      suspects.clear();
      for (const { fence } of held.values()) fence.abort();
    },
  };

  function startCalls(): void {
    while (calls < parallelMax) {
      const call = queue.next();
      if (call === undefined) return;
      calls += 1;
      const { items, end } = call;
      const noted = items.filter(({ entry }) => entry.crashes > 0 && entry.verdict === 'usual');
      void (noted.length === 0 ? runCall(items) : runInTurn(items, noted)).finally(() => {
        calls -= 1;
        end();
        // What is tried apart takes more calls than it took to read it.
        startCalls();
        tellFree();
      });
    }
  }

  function countCalls(): number {
    return calls + suspects.running();
  }

  function tellFree(): void {
    options.onFree();
    if (countCalls() === 0) for (const resolve of whenIdle.splice(0)) resolve();
  }

  async function runCall(
    items: readonly Held[],
    { begin = async () => true, isAlone = false }: CallOptions = {},
  ): Promise<void> {
    const ready: Ready[] = [];
    const settled: Promise<unknown>[] = [];
    for (const item of items) {
      // While it waited for its call its claim may have gone to another worker.
      if (item.isFencedOff) letGo(item);
      if (!isHeld(item)) continue;
      const prepared = prepare(item.entry);
      const full = 'event' in prepared && !isAlone ? fullOf(item, prepared.needs) : undefined;
      if (full !== undefined) settled.push(finish(item, async () => waitForRoom(item.entry, full)));
      else if ('event' in prepared) ready.push({ item, ...prepared });
      else settled.push(finish(item, prepared.settle));
    }
    const needs = isAlone ? [] : ready.flatMap((one) => one.needs);
    count(needs, 1);
    if (ready.length > 0 && isFresh() && (await begin())) settled.push(work(ready));
    else for (const { item } of ready) letGo(item);
    await Promise.all(settled);
    count(needs, -1);
  }

  function count(needs: readonly Provider[], change: 1 | -1): void {
    for (const provider of new Set(needs)) needing.set(provider, (needing.get(provider) ?? 0) + change);
  }

  /** A provider that as many calls need as may. A probe was only taken where there was room for it. */
  function fullOf({ entry }: Held, needs: readonly Provider[]): Provider | undefined {
    return needs.find((provider) => entry.probes !== provider && roomFor(provider).usual < 1);
  }

  function roomFor(provider: Provider): ProviderRoom {
    const used = needing.get(provider) ?? 0;
    const mayProbe = isBatch(consumer) || used < Math.max(1, parallelMax - 1);
    return { usual: Math.max(0, needingMax - used) * batchMax, mayProbe };
  }

  async function work(ready: readonly Ready[]): Promise<void> {
    const startedAt = performance.now();
    const outcomes = await handle(ready);
    const ms = Math.round(performance.now() - startedAt);
    const done = ready.map((one, index) =>
      finishWith(one, outcomes[index]!, { ms, together: retriesApart ? countAlike(outcomes, index) : 1 }),
    );
    const events = ready.map(({ event }) => event);
    await Promise.all([...done, tellSettled(events, done)]);
  }

  async function handle(ready: readonly Ready[]): Promise<Outcome[]> {
    const [first] = ready;
    try {
      if (isBatch(consumer)) {
        const deliveries = ready.map(
          ({ item, event }): Delivery => ({
            event,
            attempt: (item.entry.record?.spent ?? 0) + 1,
            ...(item.entry.probes !== undefined && { isProbe: true }),
          }),
        );
        return await consumer.handleBatch(deliveries, contextFor(whenAllLost(ready, isFresh)));
      }
      const { fence, entry } = first!.item;
      const context = { ...contextFor(fence.signal), isProbe: entry.probes !== undefined };
      return [{ events: await consumer.handle(first!.event, context) }];
    } catch (error) {
      return ready.map(() => ({ error }));
    }
  }

  function contextFor(signal: AbortSignal): Context {
    return {
      signal,
      log,
      now: () => new Date(options.now()),
      read: async (eventId) => {
        const found = await store.readEntry(eventId);
        return found === undefined ? undefined : decodeEntry(found.stream, found.id, found.fields);
      },
    };
  }

  async function tellSettled(events: readonly StoredEvent[], done: readonly Promise<boolean>[]): Promise<void> {
    if (!isBatch(consumer) || consumer.settled === undefined) return;
    const isDone = await Promise.all(done);
    await consumer.settled(events.filter((_, index) => isDone[index])).catch((error: unknown) => {
      log.warn({ err: error, group: consumer.name }, 'could not tidy up after a batch');
    });
  }

  /** What failed because it was told to stop has not failed of its own. */
  async function finishWith(
    { item, ...prepared }: Ready,
    outcome: Outcome,
    call: { ms: number; together: number },
  ): Promise<boolean> {
    if ('error' in outcome && (item.isFencedOff || !isFresh())) {
      letGo(item);
      return false;
    }
    return finish(item, () => toSettlement(item.entry, prepared, outcome, call));
  }

  /** True when the entry is done, and not only put off. */
  async function finish(item: Held, settle: () => Promise<Settlement>): Promise<boolean> {
    const { entry } = item;
    if (isAborted || !isHeld(item)) return false;
    const settlement = await settle();
    if (isAborted || !isHeld(item)) return false;
    const isSettled = await settler.settle(entry, settlement);
    if (isHeld(item)) held.delete(entry.eventId);
    if (isSettled && settlement.kind === 'park') options.onParked(settlement.delayMs);
    if (!isSettled)
      log.warn(
        { group: consumer.name, event: entry.eventId },
        'claim lost: another worker settles it, or its entry was deleted',
      );
    return isSettled && settlement.kind === 'done';
  }

  /** At a shutdown it stays held, and is handed back. */
  function letGo(item: Held): void {
    if (isAborted || !isHeld(item)) return;
    held.delete(item.entry.eventId);
    item.isLetGo = true;
    options.onStray();
  }

  function isHeld(item: Held): boolean {
    return held.get(item.entry.eventId) === item;
  }
}

function isBatch(consumer: Consumer): consumer is AnyBatchConsumer {
  return 'handleBatch' in consumer;
}

/** Lets go of a batch only when no entry of it is ours any more: a lost claim must spoil no neighbour. */
function whenAllLost(ready: readonly Ready[], isFresh: () => boolean): AbortSignal {
  const fence = makeFence(isFresh);
  let left = ready.length;
  for (const { item } of ready) {
    item.fence.signal.addEventListener('abort', () => {
      left -= 1;
      if (left === 0) fence.abort();
    });
  }
  return fence.signal;
}
