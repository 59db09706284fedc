/**
 * What Gemini's failures mean to us. No provider error is kept as `cause`: Google's texts may name the key
 * ("Consumer 'api_key:…' has been suspended").
 * Sources: ai.google.dev/gemini-api/docs/api-errors and the error classes of SDK 0.24.1, whose `name` is always "Error".
 */
import { GoogleGenerativeAIError, GoogleGenerativeAIFetchError } from '@google/generative-ai';
import { OutageError, TerminalError } from '../../errors.js';
import { DeadlineError } from '../deadline.js';
import { DEFAULT_MODEL } from './models.js';

/** A refusal over HTTP. `details` is Google's `error.details`; both texts are missing when the body was no object. */
export type Refusal = { status: number; message: string; details: unknown };

const DOWN: ReadonlySet<string> = new Set(['gemini_unreachable', 'gemini_timeout', 'gemini_unavailable']);
const PER_DAY_WAIT_MS = 3_600_000;

/** Throws what a failed call means; rethrows what it does not know. */
export function rethrowGemini(cause: unknown, model: string): never {
  const refusal = refusalOf(cause);
  if (refusal) throw errorOfRefusal(refusal, model);
  if (cause instanceof DeadlineError) {
    throw outage('gemini_timeout', `Gemini did not answer within ${cause.timeoutMs} ms`);
  }
  if (cause instanceof SyntaxError) {
    throw outage('gemini_unreadable', 'Gemini answered 200 with a body that is no JSON');
  }
  // The SDK wraps every failure of `fetch`, without its cause; a body cut off comes from undici as it is.
  if (cause instanceof GoogleGenerativeAIError || (cause instanceof TypeError && cause.message === 'terminated')) {
    throw outage('gemini_unreachable', 'Gemini could not be reached, or the connection broke');
  }
  throw cause;
}

/** It gave no answer of its own. */
export function isDown(error: unknown): boolean {
  return error instanceof OutageError && DOWN.has(error.code);
}

export function configurationFault(code: string, message: string): OutageError {
  return new OutageError(message, { code, provider: 'gemini', kind: 'configuration' });
}

/** True for a 400 that may be about the thinking parameters: some models answer no more than "invalid argument". */
export function mayBeAboutThinking(cause: unknown): boolean {
  const refusal = refusalOf(cause);
  return refusal?.status === 400 && !isKeyInvalid(refusal) && !isRegionOrBilling(refusal);
}

export function errorOfRefusal(refusal: Refusal, model: string): OutageError | TerminalError {
  const { status } = refusal;
  if (isKeyInvalid(refusal) || status === 401) {
    return configurationFault('gemini_key_invalid', 'Gemini refused the API key: set GEMINI_API_KEY to a valid one');
  }
  if (status === 402 || (status === 400 && isRegionOrBilling(refusal))) {
    return configurationFault(
      'gemini_billing',
      `Gemini answered ${status}: the project has no credit, or no billing for its region; see Google AI Studio`,
    );
  }
  if (status === 403) {
    return configurationFault(
      'gemini_forbidden',
      'Gemini answered 403: the API key may not use the Gemini API; check the restrictions of GEMINI_API_KEY',
    );
  }
  if (status === 404) {
    return configurationFault(
      'gemini_model_unknown',
      `Gemini does not serve the model ${model}: set GEMINI_MODEL to one that it does, such as ${DEFAULT_MODEL}`,
    );
  }
  if (status === 429) return rateLimited(refusal);
  // A 500 may also mean a context too long; the transcript is cut well below that, so it is taken for an outage.
  if (status >= 500 || status === 408 || status === 499) {
    return outage('gemini_unavailable', `Gemini answered ${status}`);
  }
  return new TerminalError(`Gemini refused the request with ${status}`, {
    code: 'model_refused_request',
    provider: 'gemini',
  });
}

function rateLimited({ details }: Refusal): OutageError {
  const waitMs = retryDelayMs(details);
  if (quotaIds(details).some((id) => /per_?day/i.test(id))) {
    const retryAfterMs = Math.max(waitMs ?? 0, PER_DAY_WAIT_MS);
    return outage('gemini_quota_exhausted', 'Gemini answered 429: the quota of the day is used up', retryAfterMs);
  }
  return outage('gemini_rate_limited', 'Gemini answered 429', waitMs);
}

function outage(code: string, message: string, retryAfterMs?: number): OutageError {
  return new OutageError(message, { code, provider: 'gemini', retryAfterMs });
}

function refusalOf(cause: unknown): Refusal | undefined {
  if (!(cause instanceof GoogleGenerativeAIFetchError) || cause.status === undefined) return undefined;
  return { status: cause.status, message: cause.message, details: cause.errorDetails };
}

function isKeyInvalid({ status, message, details }: Refusal): boolean {
  if (status !== 400) return false;
  return (
    listOf(details).some(({ reason }) => reason === 'API_KEY_INVALID') || /API key (not valid|expired)/i.test(message)
  );
}

/** FAILED_PRECONDITION; the SDK drops the word, so its message is looked at. */
function isRegionOrBilling({ message }: Refusal): boolean {
  return /location is not supported|enable billing|not available in your country/i.test(message);
}

/** `RetryInfo.retryDelay`, as in "34s" or "1.5s". */
function retryDelayMs(details: unknown): number | undefined {
  for (const { retryDelay } of listOf(details)) {
    const seconds = /^(\d+(?:\.\d+)?)s$/.exec(String(retryDelay))?.[1];
    if (seconds !== undefined) return Math.ceil(Number(seconds) * 1000);
  }
  return undefined;
}

function quotaIds(details: unknown): string[] {
  return listOf(details).flatMap(({ violations }) => listOf(violations).map(({ quotaId }) => String(quotaId)));
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : [];
}
