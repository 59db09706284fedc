/**
 * Hands entries to a consumer and settles what comes of them. It counts the slots: entries are only read while a call is
 * free to take them, and whatever is held here is kept alive until it is settled, lost or handed back.
 */
import { decodeEntry } from '../codec.js';
import type { AnyBatchConsumer, Consumer, Context, Delivery, Outcome } from '../consumer.js';
import type { StoredEvent } from '../events.js';
import type { Entry } from './entry.js';
import type { RetryPolicy } from './failure.js';
import type { GroupStore } from './group-store.js';
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
  policy: WorkPolicy;
  onFree: () => void;
};

export type Deliverer = {
  /** How many entries may be read now. */
  free: () => number;
  /** Entries that are held already are passed over. */
  deliver: (entries: readonly Entry[]) => void;
  held: () => readonly Entry[];
  /** Takes out what no call has begun with. */
  takeQueued: () => Entry[];
  /** The claim went to another worker: what is still running for it counts for nothing. */
  drop: (eventId: string) => void;
  /** Resolves when nothing runs any more. */
  idle: () => Promise<void>;
  /** Ends what runs; nothing of it is settled after this. */
  abort: () => void;
};

type Held = { entry: Entry; abort: AbortController };

type Ready = Prepared & { item: Held };

export function makeDeliverer(options: DelivererOptions): Deliverer {
  const { consumer, parallelMax, store, settler, log } = options;
  const { prepare, toSettlement } = makeSettlements(options);
  const batchMax = isBatch(consumer) ? consumer.batchMax : 1;
  const held = new Map<string, Held>();
  const queue: Held[] = [];
  const whenIdle: (() => void)[] = [];
  let calls = 0;
  let isAborted = false;

  return {
    free: () => Math.max(0, (parallelMax - calls) * batchMax - queue.length),

    deliver(entries) {
      for (const entry of entries) {
        if (held.has(entry.eventId)) continue;
        const item = { entry, abort: new AbortController() };
        held.set(entry.eventId, item);
        queue.push(item);
      }
      startCalls();
    },

    held: () => [...held.values()].map(({ entry }) => entry),

    takeQueued() {
      const waiting = queue.splice(0).map(({ entry }) => entry);
      for (const { eventId } of waiting) held.delete(eventId);
      return waiting;
    },

    drop(eventId) {
      held.get(eventId)?.abort.abort();
      held.delete(eventId);
    },

    idle: () => (calls === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),

    abort() {
      isAborted = true;
      queue.length = 0;
      for (const { abort } of held.values()) abort.abort();
    },
  };

  function startCalls(): void {
    while (calls < parallelMax && queue.length > 0) {
      calls += 1;
      void runCall(queue.splice(0, batchMax)).finally(() => {
        calls -= 1;
        options.onFree();
        if (calls === 0) for (const resolve of whenIdle.splice(0)) resolve();
      });
    }
  }

  async function runCall(items: Held[]): Promise<void> {
    const ready: Ready[] = [];
    const settled: Promise<unknown>[] = [];
    for (const item of items) {
      const prepared = prepare(item.entry);
      if ('event' in prepared) ready.push({ item, ...prepared });
      else settled.push(finish(item, prepared.settle));
    }
    if (ready.length > 0) {
      const startedAt = performance.now();
      const outcomes = await handle(ready);
      const ms = Math.round(performance.now() - startedAt);
      const done = ready.map((one, index) =>
        finish(one.item, () => toSettlement(one.item.entry, one, outcomes[index]!, ms)),
      );
      settled.push(
        ...done,
        tellSettled(
          ready.map(({ event }) => event),
          done,
        ),
      );
    }
    await Promise.all(settled);
  }

  async function handle(ready: readonly { item: Held; event: StoredEvent }[]): Promise<Outcome[]> {
    const [first] = ready;
    try {
      if (isBatch(consumer)) {
        const deliveries = ready.map(
          ({ item, event }): Delivery => ({ event, attempt: (item.entry.record?.spent ?? 0) + 1 }),
        );
        return await consumer.handleBatch(deliveries, contextFor(whenAllLost(ready)));
      }
      return [{ events: await consumer.handle(first!.event, contextFor(first!.item.abort.signal)) }];
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

  /** True when the entry is done, and not only put off. */
  async function finish(item: Held, settle: () => Promise<Settlement>): Promise<boolean> {
    const { entry } = item;
    if (isAborted || held.get(entry.eventId) !== item) return false;
    const settlement = await settle();
    if (isAborted || held.get(entry.eventId) !== item) return false;
    const isSettled = await settler.settle(entry, settlement);
    if (held.get(entry.eventId) === item) held.delete(entry.eventId);
    if (!isSettled) log.warn({ group: consumer.name, event: entry.eventId }, 'claim lost; another worker settles it');
    return isSettled && settlement.kind === 'done';
  }
}

function isBatch(consumer: Consumer): consumer is AnyBatchConsumer {
  return 'handleBatch' in consumer;
}

/** Lets go of a batch only when no entry of it is ours any more: a lost claim must spoil no neighbour. */
function whenAllLost(ready: readonly { item: Held }[]): AbortSignal {
  const abort = new AbortController();
  let left = ready.length;
  for (const { item } of ready) {
    item.abort.signal.addEventListener('abort', () => {
      left -= 1;
      if (left === 0) abort.abort();
    });
  }
  return abort.signal;
}
