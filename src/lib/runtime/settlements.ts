/**
 * Turns what came of an entry into its settlement: follow-ons encoded, failures decided, provenance kept. Deciding is done
 * here, carrying out by the settler.
 */
import type { Logger } from 'pino';
import { decodeEntry, encodeFollowOn, streamOf } from '../codec.js';
import type { Consumer, Outcome } from '../consumer.js';
import { NotYetError, OutageError, type Provider, RetryableError, TerminalError } from '../errors.js';
import type { EventType, NewEvent, StoredEvent } from '../events.js';
import type { Keys } from '../keys.js';
import type { WorkerMetrics } from '../metrics.js';
import type { AttemptRecord, Entry } from './entry.js';
import { decideFailure, keptOf, NOT_YET, type RetryPolicy } from './failure.js';
import { markKey } from './group-store.js';
import type { ProviderHealth, ProviderState } from './provider-health.js';
import type { Settlement } from './settler.js';

export type SettlementOptions = {
  consumer: Consumer;
  health: ProviderHealth;
  keys: Keys;
  policy: RetryPolicy & { idempotencyTtlS: number };
  log: Logger;
  metrics: WorkerMetrics;
  /** Redis time in ms. */
  now: () => number;
};

/** An event that the consumer is to see, and the providers without which that makes no sense. */
export type Prepared = { event: StoredEvent; needs: readonly Provider[] };

/** One of these may end a chain: then the pipeline is done with the event. */
const FINAL_TYPE: EventType = 'lead.synced';
const UNKNOWN: ProviderState = { succeededAt: 0, pausedSince: undefined };

export function makeSettlements(options: SettlementOptions) {
  const { consumer, health, keys, policy, log, metrics } = options;
  return { prepare, toSettlement, waitForRoom };

  /** What can be settled without the consumer is; all else is decoded. */
  function prepare(entry: Entry): Prepared | { settle: () => Promise<Settlement> } {
    if (entry.isDone && consumer.name !== 'alert') return { settle: async () => ({ kind: 'ack' }) };
    if (entry.verdict === 'condemned') return { settle: async () => crashed(entry) };
    try {
      const event = decodeEntry(entry.stream, entry.id, entry.fields);
      if (!consumer.on.includes(event.type)) return { settle: async () => ({ kind: 'ack' }) };
      const needs = consumer.needs?.(event) ?? [];
      const missing = entry.probes === undefined ? needs.find(health.isPaused) : undefined;
      if (missing !== undefined) return { settle: async () => waitForReturn(entry, missing) };
      return { event, needs };
    } catch (error) {
      return { settle: () => settleError(entry, error) };
    }
  }

  async function toSettlement(
    entry: Entry,
    { event, needs }: Prepared,
    outcome: Outcome,
    { ms, together }: { ms: number; together: number },
  ): Promise<Settlement> {
    if ('error' in outcome) return settleError(entry, outcome.error, { ms, together });
    if (!outcome.isWithoutProvider) await tellSuccess(outcome.events.length === 0 ? undefined : entry.probes, needs);
    try {
      return doneWith(entry, event, outcome.events, ms);
    } catch (error) {
      return settleError(entry, error, { ms });
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

  async function settleError(
    entry: Entry,
    error: unknown,
    { ms = 0, together = 1 }: { ms?: number; together?: number } = {},
  ): Promise<Settlement> {
    if (entry.probes !== undefined && refusedBy(error) === entry.probes) await tellSuccess(entry.probes, []);
    const provider = error instanceof OutageError ? error.provider : undefined;
    const known = provider === undefined ? undefined : await health.look(provider).catch(() => undefined);
    const { succeededAt: otherSuccessAt, pausedSince } = known ?? UNKNOWN;
    const record = entry.record === undefined ? undefined : { ...entry.record, waitedMs: waitedMs(entry) };
    const decision = decideFailure(
      { error, together, record, now: options.now(), otherSuccessAt, pausedSince, random: Math.random() },
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

  function crashed(entry: Entry): Settlement {
    const { crashes } = entry;
    const facts = { group: consumer.name, event: entry.eventId, key: entry.fields.key };
    log.error({ ...facts, code: 'worker_crashed', attempts: crashes }, 'failed for good');
    metrics.settled(consumer.name, 'failed', 0);
    const message = `${crashes} times a worker died while it worked on this event, in the end while the event ran alone`;
    return failure(entry, 'worker_crashed', message, crashes);
  }

  function waitFor(provider: Provider, record: AttemptRecord): Settlement {
    return { kind: 'wait', set: keys.waiting(consumer.name, provider), delayMs: 0, record };
  }

  function waitForReturn(entry: Entry, provider: Provider): Settlement {
    const reason = { code: `${provider}_paused`, message: `Waits for ${provider}` };
    return waitFor(provider, nextWaitRecord(entry, reason));
  }

  /** As many calls need this provider as may: it waits where it would if the provider were away, which is no failure. */
  function waitForRoom(entry: Entry, provider: Provider): Settlement {
    return waitFor(provider, nextWaitRecord(entry, { code: NOT_YET, message: `Waits for its turn with ${provider}` }));
  }

  function nextWaitRecord(entry: Entry, reason: Pick<AttemptRecord, 'code' | 'message'>): AttemptRecord {
    const now = options.now();
    const before = entry.record;
    return {
      spent: before?.spent ?? 0,
      firstFailureAt: before?.firstFailureAt ?? now,
      ...keptOf(before),
      waitedMs: waitedMs(entry),
      parkedAt: now,
      code: before?.code ?? reason.code,
      message: before?.message ?? reason.message,
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
      const events = consumer.givenUp(entry.eventId, decodeIfPossible(entry), { log });
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
    const now = options.now();
    await Promise.all(
      [...needed].map((provider) => health.succeeded(provider, { now, isProbe: provider === probed }).catch(() => {})),
    );
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

/** Who refused what it was asked: it is up. An error of our own says nothing of it. */
function refusedBy(error: unknown): Provider | undefined {
  return error instanceof TerminalError || error instanceof RetryableError ? error.provider : undefined;
}

/** Only what nobody foresaw goes to the log whole; the rest is told by its code. */
function unexpected(error: unknown): unknown {
  const isForeseen = [NotYetError, OutageError, RetryableError, TerminalError].some((type) => error instanceof type);
  return isForeseen ? undefined : error;
}
