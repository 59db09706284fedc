/** What becomes of a failed attempt: pure, so that every row of it is a test. */
import {
  ASKED_MS_MAX,
  NotYetError,
  OutageError,
  type OutageKind,
  type Provider,
  RetryableError,
  TerminalError,
} from '../errors.js';
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
  /** [1] How many events of a batch have failed with this very error, where they are to be tried apart then. */
  together?: number;
  record: AttemptRecord | undefined;
  /** Redis time, ms. */
  now: number;
  /** When a call of another event to the same provider last succeeded; 0 for never. Redis time, ms. */
  otherSuccessAt: number;
  /** When the pause of the provider at fault began, Redis time in ms; `undefined` while it is not paused. */
  pausedSince: number | undefined;
  /** 0 ≤ random < 1. */
  random: number;
};

/** A success this fresh says that one failed call is no outage; the second failure decides. */
const RECENT_SUCCESS_MS = 2_000;
/** Until then others have time to succeed; what they do is told twice a second (`provider-health.ts`). */
const DOUBT_WAIT_MS = 1_000;
/** Two workers know Redis' time by so much differently. A success further ahead is from before that clock went back. */
const CLOCKS_DIFFER_MS = 1_000;

/** What failed together is tried again in batches smaller by this. */
const APART = 10;

const STORE_WAIT_MS = 1_000;
/** The code of a record that knows of no failure. */
export const NOT_YET = 'not_yet';

/**
 * A provider's failure is an outage when no call for another event has succeeded since; then it burns no attempt. An
 * event that fails while others succeed spends its own attempts, also where it looks like a fault of the settings.
 * Anything unknown is taken for this event's own failure.
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

  const asked = error instanceof RetryableError ? error.retryAfterMs : undefined;
  if (isTogether(input)) {
    return { kind: 'park', delayMs: backOff(1, asked, input.random, policy), record: apart(record, input) };
  }
  const spent = { ...record, spent: record.spent + 1 };
  const { code, message } = describe(error);
  if (spent.spent >= policy.attemptsMax) return fail(code, message, spent.spent);
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
  const { now, pausedSince } = input;
  const otherSuccessAt = input.otherSuccessAt > now + CLOCKS_DIFFER_MS ? 0 : input.otherSuccessAt;
  // What failed in an earlier outage was held on to for that one.
  const lastsSince = Math.max(record.firstFailureAt, pausedSince ?? now);
  if (now - lastsSince >= policy.outageGiveUpMs) {
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
  const askedMs = error.retryAfterMs === undefined ? undefined : Math.min(error.retryAfterMs, ASKED_MS_MAX);
  // What others did before the pause began says nothing of it.
  const othersSucceed = otherSuccessAt > Math.max(record.doubtAt ?? Number.POSITIVE_INFINITY, pausedSince ?? 0);
  if (othersSucceed && isTogether(input)) {
    return { kind: 'park', delayMs: backOff(1, askedMs, input.random, policy), record: apart(doubted, input) };
  }
  if (othersSucceed || isKnownForIt(error, input)) {
    const spent = { ...doubted, spent: record.spent + 1 };
    if (spent.spent >= policy.attemptsMax) return fail(error.code, error.message, spent.spent);
    return { kind: 'park', delayMs: backOff(spent.spent, askedMs, input.random, policy), record: spent };
  }
  const inDoubt = record.doubtAt === undefined && otherSuccessAt > now - RECENT_SUCCESS_MS;
  if (!inDoubt) return wait;
  const delayMs = Math.max(DOUBT_WAIT_MS, backOff(1, askedMs, input.random, policy));
  return { kind: 'park', delayMs, record: doubted };
}

function isTogether({ together = 1 }: FailureInput): boolean {
  return together > 1;
}

function apart(record: AttemptRecord, { together = 1 }: FailureInput): AttemptRecord {
  return { ...record, batchMax: Math.ceil(together / APART) };
}

/**
 * A record that may not be written looks like a missing right of ours. Once others have shown that it is none, it pauses
 * nobody a second time; but while the provider is paused it may be anybody's.
 */
function isKnownForIt({ kind, code }: OutageError, { record, pausedSince }: FailureInput): boolean {
  if (kind !== 'configuration' || pausedSince !== undefined || record === undefined) return false;
  return record.spent > 0 && record.code === code;
}

/**
 * Exponential from the base, ± 20 %, and with that under the cap. What the provider asked for is never cut short, but for
 * the time after which an event is given up; those who were all told the same come back spread over a fifth of it.
 */
export function backOff(attempt: number, askedMs: number | undefined, random: number, policy: RetryPolicy): number {
  const most = Math.min(1.2 * policy.retryBaseMs * 2 ** (attempt - 1), policy.retryMaxMs);
  const jittered = most * (2 + random) * (1 / 3);
  if (askedMs === undefined) return Math.round(jittered);
  return Math.round(Math.min(Math.max(askedMs * (1 + random * 0.2), jittered), policy.outageGiveUpMs));
}

/** To wait one's turn is no failure: it neither hides one nor begins the time after which an event is given up. */
function nextRecord({ error, record, now }: FailureInput): AttemptRecord {
  const hasFailed = record !== undefined && record.code !== NOT_YET;
  const { code, message } = error instanceof NotYetError && hasFailed ? record : describe(error);
  return {
    spent: record?.spent ?? 0,
    firstFailureAt: hasFailed ? record.firstFailureAt : now,
    ...keptOf(record),
    waitedMs: record?.waitedMs ?? 0,
    parkedAt: now,
    code,
    message,
  };
}

/** What is remembered of a former attempt, whatever comes. */
export function keptOf(record: AttemptRecord | undefined): Pick<AttemptRecord, 'doubtAt' | 'batchMax'> {
  const { doubtAt, batchMax } = record ?? {};
  return { ...(doubtAt !== undefined && { doubtAt }), ...(batchMax !== undefined && { batchMax }) };
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
