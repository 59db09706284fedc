/** What becomes of a failed attempt: pure, so that every row of it is a test. */
import { NotYetError, OutageError, type OutageKind, type Provider, RetryableError, TerminalError } from '../errors.js';
import { isStoreError } from '../redis-errors.js';
import type { AttemptRecord } from './entry.js';

export type RetryPolicy = {
  attemptsMax: number;
  retryBaseMs: number;
  retryMaxMs: number;
  outageGiveUpMs: number;
};

export type FailureDecision =
  /** `event.failed`. */
  | { kind: 'fail'; code: string; message: string; attempts: number }
  /** Try again after a delay, without holding a slot. */
  | { kind: 'park'; delayMs: number; record: AttemptRecord }
  /** Wait until the provider is up again; it is paused for all. */
  | {
      kind: 'wait';
      provider: Provider;
      outage: OutageKind;
      reason: string;
      retryAfterMs: number | undefined;
      record: AttemptRecord;
    };

export type FailureInput = {
  error: unknown;
  record: AttemptRecord | undefined;
  /** Redis time, ms. */
  now: number;
  /** When a call of another event to the same provider last succeeded; 0 for never. Redis time, ms. */
  otherSuccessAt: number;
  /** 0 ≤ random < 1. */
  random: number;
};

/** A success this fresh says that one failed call is no outage; the second failure decides. */
const RECENT_SUCCESS_MS = 2_000;

const STORE_WAIT_MS = 1_000;
/** The code of a record that knows of no failure. */
const NOT_YET = 'not_yet';

/**
 * A provider's failure is an outage when no call for another event has succeeded since; then it burns no attempt. An
 * event that fails while others succeed spends its own attempts. Anything unknown is taken for this event's own failure.
 */
export function decideFailure(input: FailureInput, policy: RetryPolicy): FailureDecision {
  const { error, now } = input;
  const record = nextRecord(input);
  if (error instanceof NotYetError) return { kind: 'park', delayMs: error.delayMs, record };
  if (error instanceof TerminalError) return fail(error.code, error.message, record.spent + 1);
  if (error instanceof OutageError) return decideOutage(error, input, record, policy);
  if (isStoreError(error) && now - record.firstFailureAt < policy.outageGiveUpMs) {
    return { kind: 'park', delayMs: backOff(1, STORE_WAIT_MS, input.random, policy), record };
  }

  const spent = { ...record, spent: record.spent + 1 };
  const { code, message } = describe(error);
  if (spent.spent >= policy.attemptsMax) return fail(code, message, spent.spent);
  const asked = error instanceof RetryableError ? error.retryAfterMs : undefined;
  return {
    kind: 'park',
    delayMs: backOff(spent.spent, asked, input.random, policy),
    record: { ...spent, parkedAt: now },
  };
}

function decideOutage(
  error: OutageError,
  input: FailureInput,
  record: AttemptRecord,
  policy: RetryPolicy,
): FailureDecision {
  const { now, otherSuccessAt } = input;
  if (now - record.firstFailureAt >= policy.outageGiveUpMs) {
    return fail(error.code, `Gave up: ${error.provider} has not come back. ${error.message}`, record.spent + 1);
  }
  const doubted: AttemptRecord = { ...record, doubtAt: now };
  const wait: FailureDecision = {
    kind: 'wait',
    provider: error.provider,
    outage: error.kind,
    reason: error.code,
    retryAfterMs: error.retryAfterMs,
    record: doubted,
  };
  if (error.kind === 'configuration') return wait;

  const othersSucceed = otherSuccessAt > (record.doubtAt ?? Number.POSITIVE_INFINITY);
  if (othersSucceed) {
    const spent = { ...doubted, spent: record.spent + 1 };
    if (spent.spent >= policy.attemptsMax) return fail(error.code, error.message, spent.spent);
    return { kind: 'park', delayMs: backOff(spent.spent, error.retryAfterMs, input.random, policy), record: spent };
  }
  const inDoubt = record.doubtAt === undefined && otherSuccessAt > now - RECENT_SUCCESS_MS;
  if (!inDoubt) return wait;
  return { kind: 'park', delayMs: backOff(1, error.retryAfterMs, input.random, policy), record: doubted };
}

/** Exponential from the base, capped, ± 20 %; what the provider asked for comes first and is never cut short. */
export function backOff(attempt: number, askedMs: number | undefined, random: number, policy: RetryPolicy): number {
  const exponential = Math.min(policy.retryBaseMs * 2 ** (attempt - 1), policy.retryMaxMs);
  const jittered = exponential * (0.8 + random * 0.4);
  return Math.round(askedMs === undefined ? jittered : Math.max(askedMs, jittered));
}

/** To wait one's turn is no failure: it neither hides one nor begins the time after which an event is given up. */
function nextRecord({ error, record, now }: FailureInput): AttemptRecord {
  const hasFailed = record !== undefined && record.code !== NOT_YET;
  const { code, message } = error instanceof NotYetError && hasFailed ? record : describe(error);
  return {
    spent: record?.spent ?? 0,
    firstFailureAt: hasFailed ? record.firstFailureAt : now,
    ...(record?.doubtAt === undefined ? {} : { doubtAt: record.doubtAt }),
    waitedMs: record?.waitedMs ?? 0,
    parkedAt: now,
    code,
    message,
  };
}

function fail(code: string, message: string, attempts: number): FailureDecision {
  return { kind: 'fail', code, message, attempts };
}

/** What may be stored and shown. An unknown error's own text may hold anything, so only its name is told. */
function describe(error: unknown): { code: string; message: string } {
  if (error instanceof RetryableError || error instanceof OutageError || error instanceof TerminalError) {
    return { code: error.code, message: error.message };
  }
  if (error instanceof NotYetError) return { code: NOT_YET, message: error.message };
  const name = error instanceof Error ? error.name : typeof error;
  return { code: 'unexpected', message: `An unexpected ${name} stopped the work; the log has its stack` };
}
