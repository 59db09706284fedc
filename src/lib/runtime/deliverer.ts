/**
 * Hands entries to a consumer and turns what comes of them into settlements. It counts the slots: entries are only read
 * while a call is free to take them, and whatever is held here is kept alive until it is settled, lost or handed back.
 */
import type { Logger } from 'pino';
import { decodeEntry, encodeFollowOn, streamOf } from '../codec.js';
import type { AnyBatchConsumer, Consumer, Context, Delivery, Outcome } from '../consumer.js';
import { NotYetError, OutageError, type Provider, RetryableError, TerminalError } from '../errors.js';
import type { EventType, NewEvent, StoredEvent } from '../events.js';
import type { Keys } from '../keys.js';
import type { WorkerMetrics } from '../metrics.js';
import type { AttemptRecord, Entry } from './entry.js';
import { decideFailure, type RetryPolicy } from './failure.js';
import { type GroupStore, markKey } from './group-store.js';
import type { ProviderHealth } from './provider-health.js';
import type { Settlement, Settler } from './settler.js';

export type WorkPolicy = RetryPolicy & {
  visibilityTimeoutMs: number;
  shutdownGraceMs: number;
  idempotencyTtlS: number;
};

export type DelivererOptions = {
  consumer: Consumer;
  /** How many calls of the consumer run at once. */
  parallelMax: number;
  store: GroupStore;
  settler: Settler;
  health: ProviderHealth;
  keys: Keys;
  policy: WorkPolicy;
  log: Logger;
  metrics: WorkerMetrics;
  /** Redis time in ms. */
  now: () => number;
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

/** An entry that the consumer is to see, and the providers without which that makes no sense. */
type Ready = { item: Held; event: StoredEvent; needs: readonly Provider[] };

/** One of these may end a chain: then the pipeline is done with the event. */
const FINAL_TYPE: EventType = 'lead.synced';

export function makeDeliverer(options: DelivererOptions): Deliverer {
  const { consumer, parallelMax, store, settler, health, keys, policy, log, metrics } = options;
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
      const done = ready.map((one, index) => finish(one.item, () => toSettlement(one, outcomes[index]!, ms)));
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

  /** What can be settled without the consumer is; all else is decoded. */
  function prepare(entry: Entry): Omit<Ready, 'item'> | { settle: () => Promise<Settlement> } {
    if (entry.isDone && consumer.name !== 'alert') return { settle: async () => ({ kind: 'ack' }) };
    if (entry.deliveries > policy.attemptsMax) {
      const message = `A worker died ${entry.deliveries - 1} times while it worked on this event`;
      return { settle: async () => failure(entry, 'worker_crashed', message, entry.deliveries - 1) };
    }
    try {
      const event = decodeEntry(entry.stream, entry.id, entry.fields);
      if (!consumer.on.includes(event.type)) return { settle: async () => ({ kind: 'ack' }) };
      const needs = consumer.needs?.(event) ?? [];
      const missing = entry.probes === undefined ? needs.find(health.isPaused) : undefined;
      if (missing !== undefined) return { settle: async () => waitFor(missing, nextWaitRecord(entry, missing)) };
      return { event, needs };
    } catch (error) {
      return { settle: () => settleError(entry, error) };
    }
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

  async function toSettlement(
    { item: { entry }, event, needs }: Ready,
    outcome: Outcome,
    ms: number,
  ): Promise<Settlement> {
    if ('error' in outcome) return settleError(entry, outcome.error, ms);
    await tellSuccess(outcome.events.length === 0 ? undefined : entry.probes, needs);
    try {
      return doneWith(entry, event, outcome.events, ms);
    } catch (error) {
      return settleError(entry, error, ms);
    }
  }

  function doneWith(entry: Entry, event: StoredEvent, events: readonly NewEvent[], ms: number): Settlement {
    const attempts = (entry.record?.spent ?? 0) + 1;
    const provenance = {
      key: event.key,
      cause: event.id,
      attempts,
      ms,
      waitedMs: waitedMs(entry),
      replay: entry.fields.replay,
    };
    const isFinal = events.some(({ type }) => type === FINAL_TYPE);
    metrics.settled(consumer.name, 'done', ms);
    log.info(
      { group: consumer.name, event: event.id, key: event.key, wrote: events.map(({ type }) => type), attempts, ms },
      'done',
    );
    return {
      kind: 'done',
      events: events.map((followOn) => ({
        stream: streamOf(followOn.type),
        fields: encodeFollowOn(followOn, provenance),
      })),
      ...(isFinal ? { mark: { key: markKey(keys, entry.fields), ttlS: policy.idempotencyTtlS } } : {}),
    };
  }

  async function settleError(entry: Entry, error: unknown, ms = 0): Promise<Settlement> {
    const provider = providerOf(error);
    const otherSuccessAt = provider === undefined ? 0 : await health.lastSuccessAt(provider).catch(() => 0);
    const record = entry.record === undefined ? undefined : { ...entry.record, waitedMs: waitedMs(entry) };
    const decision = decideFailure(
      { error, record, now: options.now(), otherSuccessAt, random: Math.random() },
      policy,
    );
    const facts = { group: consumer.name, event: entry.eventId, key: entry.fields.key, ms };
    switch (decision.kind) {
      case 'fail':
        log.error(
          { ...facts, code: decision.code, attempts: decision.attempts, err: unexpected(error) },
          'failed for good',
        );
        metrics.settled(consumer.name, 'failed', ms);
        return failure(entry, decision.code, decision.message, decision.attempts, ms);
      case 'park':
        log[error instanceof NotYetError ? 'debug' : 'warn'](
          {
            ...facts,
            code: decision.record.code,
            delayMs: decision.delayMs,
            spent: decision.record.spent,
            err: unexpected(error),
          },
          'parked',
        );
        metrics.settled(consumer.name, 'parked', ms);
        return { kind: 'park', set: keys.parked(consumer.name), delayMs: decision.delayMs, record: decision.record };
      case 'wait': {
        const { provider: paused, outage: kind, reason, retryAfterMs } = decision;
        await health
          .pause({ provider: paused, kind, reason, retryAfterMs, isProbe: entry.probes === paused })
          .catch(() => {});
        metrics.settled(consumer.name, 'waiting', ms);
        return waitFor(paused, decision.record);
      }
    }
  }

  function waitFor(provider: Provider, record: AttemptRecord): Settlement {
    return { kind: 'wait', set: keys.waiting(consumer.name, provider), delayMs: 0, record };
  }

  function nextWaitRecord(entry: Entry, provider: Provider): AttemptRecord {
    const now = options.now();
    const before = entry.record;
    return {
      spent: before?.spent ?? 0,
      firstFailureAt: before?.firstFailureAt ?? now,
      ...(before?.doubtAt === undefined ? {} : { doubtAt: before.doubtAt }),
      waitedMs: waitedMs(entry),
      parkedAt: now,
      code: before?.code ?? `${provider}_paused`,
      message: before?.message ?? `Waits for ${provider}`,
    };
  }

  /** `event.failed`, or what the consumer says instead. */
  function failure(entry: Entry, code: string, message: string, attempts: number, ms = 0): Settlement {
    const key = entry.fields.key ?? `unreadable:${entry.eventId}`;
    const data = {
      eventId: entry.eventId,
      stream: entry.stream,
      group: consumer.name,
      key,
      attempts,
      error: { code, message },
    };
    const provenance = {
      key,
      cause: entry.eventId,
      attempts,
      ms,
      waitedMs: waitedMs(entry),
      replay: entry.fields.replay,
    };
    if (consumer.givenUp !== undefined) {
      const events = consumer.givenUp(entry.eventId, decodeIfPossible(entry));
      return {
        kind: 'done',
        events: events.map((event) => ({ stream: streamOf(event.type), fields: encodeFollowOn(event, provenance) })),
      };
    }
    return {
      kind: 'fail',
      stream: 'events:failed',
      fields: encodeFollowOn({ type: 'event.failed', data }, provenance),
    };
  }

  /** An event that came to nothing proves nothing of the provider that it was let through to probe. */
  async function tellSuccess(probed: Provider | undefined, needs: readonly Provider[]): Promise<void> {
    const needed = new Set([...needs, ...(probed === undefined ? [] : [probed])]);
    await Promise.all([...needed].map((provider) => health.succeeded(provider, options.now()).catch(() => {})));
  }

  function waitedMs(entry: Entry): number {
    const { record } = entry;
    return record === undefined ? 0 : record.waitedMs + Math.max(0, Math.round(entry.takenAt - record.parkedAt));
  }
}

function decodeIfPossible({ stream, id, fields }: Entry): StoredEvent | undefined {
  try {
    return decodeEntry(stream, id, fields);
  } catch {
    return undefined;
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

function providerOf(error: unknown): Provider | undefined {
  return error instanceof OutageError ? error.provider : undefined;
}

/** Only what nobody foresaw goes to the log whole; the rest is told by its code. */
function unexpected(error: unknown): unknown {
  const isForeseen = [NotYetError, OutageError, RetryableError, TerminalError].some((type) => error instanceof type);
  return isForeseen ? undefined : error;
}
