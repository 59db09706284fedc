/**
 * What went wrong with a call to Slack, told apart by whether the message may stand in the channel all the same: Slack
 * has no idempotency key. Sources: docs.slack.dev chat.postMessage "Errors", @slack/web-api 8.2 `errors.ts`.
 */
import { WebAPIHTTPError, WebAPIPlatformError, WebAPIRateLimitedError, WebAPIRequestError } from '@slack/web-api';
import { OutageError, TerminalError } from '../../errors.js';

/** Token, scope or channel: it takes a person to mend it. */
const CONFIGURATION_CODES = new Set([
  'invalid_auth',
  'not_authed',
  'account_inactive',
  'token_revoked',
  'token_expired',
  'not_allowed_token_type',
  'missing_scope',
  'no_permission',
  'access_denied',
  'org_login_required',
  'two_factor_setup_required',
  'enterprise_is_restricted',
  'team_access_not_granted',
  'ekm_access_denied',
  'channel_not_found',
  'not_in_channel',
  'is_archived',
  'restricted_action',
  'restricted_action_read_only_channel',
  'restricted_action_thread_only_channel',
  'posting_to_general_channel_denied',
  'unknown_method',
]);

/** The message itself is at fault; as plain short text it may pass. */
const PAYLOAD_CODES = new Set([
  'invalid_blocks',
  'invalid_blocks_format',
  'msg_blocks_too_long',
  'msg_too_long',
  'no_text',
  'too_many_attachments',
]);

const RATE_LIMIT_CODES = new Set(['ratelimited', 'rate_limited']);
/** Refused before any work. */
const BUSY_CODES = new Set(['service_unavailable', 'request_timeout', 'team_added_to_org']);
/** Slack answers these although the message may have been posted. */
const DOUBTFUL_CODES = new Set(['internal_error', 'fatal_error']);

/** The connection was never made, so nothing can have been posted. */
const NOT_CONNECTED =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT|CERT_.*|ERR_TLS_.*|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_.*)$/;

const RATE_LIMIT_WAIT_MS = 30_000;

/** True where Slack refused the form of the message, not the sender: worth a second try as plain text. */
export function isPayloadRefusal(cause: unknown): boolean {
  if (cause instanceof WebAPIPlatformError) return PAYLOAD_CODES.has(cause.data.error);
  return cause instanceof WebAPIHTTPError && cause.statusCode === 413;
}

/**
 * Throws `OutageError` (with `mayBeDone` where the outcome is not known) or `TerminalError`; what it does not recognise
 * passes untouched.
 */
export function rethrowSlack(cause: unknown): never {
  if (cause instanceof WebAPIRateLimitedError) throw limited(cause.retryAfter * 1_000, cause);
  if (cause instanceof WebAPIPlatformError) throw fromRefusal(cause);
  if (cause instanceof WebAPIHTTPError) throw fromStatus(cause);
  if (cause instanceof WebAPIRequestError) throw fromConnection(cause);
  if (isTimeout(cause)) throw timedOut(cause);
  // The client's own words for a 429 whose Retry-After is missing or no number.
  if (cause instanceof Error && cause.message.startsWith('Retry header')) throw limited(RATE_LIMIT_WAIT_MS, cause);
  // Thrown while the answer is read: its body was cut off, or is JSON but no object.
  if (cause instanceof TypeError) throw fromReading(cause);
  throw cause;
}

function fromRefusal(cause: WebAPIPlatformError): OutageError | TerminalError {
  const code: unknown = cause.data.error;
  // The client passes a body that is no JSON on as if it were an error code. It is kept out: it may hold anything.
  if (typeof code !== 'string' || !/^[a-z][a-z0-9_]{1,63}$/.test(code)) {
    return unreadable();
  }
  const message = `Slack refused: ${code}`;
  if (RATE_LIMIT_CODES.has(code)) {
    const retryAfterS = cause.data.response_metadata?.retryAfter;
    return limited(retryAfterS === undefined ? RATE_LIMIT_WAIT_MS : retryAfterS * 1_000, cause);
  }
  if (CONFIGURATION_CODES.has(code)) return misconfigured(message, { code: `slack_${code}`, cause });
  if (BUSY_CODES.has(code)) return outage(message, { code: `slack_${code}`, cause });
  if (DOUBTFUL_CODES.has(code)) return outage(message, { code: `slack_${code}`, cause, mayBeDone: true });
  return new TerminalError(message, { code: `slack_${code}`, provider: 'slack', cause });
}

function fromStatus(cause: WebAPIHTTPError): OutageError | TerminalError {
  const { statusCode } = cause;
  const message = `Slack answered ${statusCode}`;
  const code = `slack_http_${statusCode}`;
  if (statusCode >= 500 || statusCode === 408) return outage(message, { code, cause, mayBeDone: true });
  if (statusCode === 400 || statusCode === 413) return new TerminalError(message, { code, provider: 'slack', cause });
  // Slack itself says no with 200: another 4xx comes from a proxy, or from a wrong SLACK_API_URL.
  if (statusCode >= 400) return misconfigured(message, { code, cause });
  return outage(message, { code, cause, mayBeDone: true });
}

function fromConnection(cause: WebAPIRequestError): OutageError {
  if (isTimeout(cause.original)) return timedOut(cause);
  const reason = connectionCodeOf(cause.original);
  const mayBeDone = reason === undefined || !NOT_CONNECTED.test(reason);
  const message = reason === undefined ? 'The connection to Slack failed' : `The connection to Slack failed: ${reason}`;
  return outage(message, { code: mayBeDone ? 'slack_connection_lost' : 'slack_unreachable', cause, mayBeDone });
}

function fromReading(cause: TypeError): OutageError {
  if (connectionCodeOf(cause) === undefined) return unreadable();
  return outage('The connection to Slack broke off', { code: 'slack_connection_lost', cause, mayBeDone: true });
}

/** `fetch` hides the socket's error code one or more causes deep. */
function connectionCodeOf(error: unknown): string | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    const { code } = current as { code?: unknown };
    if (typeof code === 'string' && /^[A-Z][A-Z0-9_]+$/.test(code)) return code;
  }
  return undefined;
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

function unreadable(): OutageError {
  return outage('Slack gave an answer that cannot be read', { code: 'slack_unreadable_answer', mayBeDone: true });
}

function timedOut(cause: unknown): OutageError {
  return outage('Slack did not answer in time', { code: 'slack_timeout', cause, mayBeDone: true });
}

function limited(retryAfterMs: number, cause: unknown): OutageError {
  return new OutageError('Slack asked us to slow down', {
    provider: 'slack',
    code: 'slack_rate_limited',
    cause,
    retryAfterMs: Math.max(0, retryAfterMs),
  });
}

function misconfigured(message: string, details: { code: string; cause: unknown }): OutageError {
  return new OutageError(message, { provider: 'slack', kind: 'configuration', ...details });
}

function outage(message: string, details: { code: string; cause?: unknown; mayBeDone?: boolean }): OutageError {
  return new OutageError(message, { provider: 'slack', ...details });
}
