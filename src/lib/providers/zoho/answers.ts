/**
 * What an answer of Zoho CRM means. The status alone says little (the vendor's two specifications disagree about it), so
 * the body decides. Source: zoho.com/crm/developer/docs/api/v8 "HTTP status codes" and the error tables of each call.
 */
import { OutageError, RetryableError, TerminalError } from '../../errors.js';

export type Answer = { status: number; text: string; retryAfter: string | undefined };

/** What was asked, for messages and for what an error means. */
export type Asked = {
  method: string;
  /** Without the query, which holds addresses. */
  path: string;
  /** The call writes: it may be done although no good answer came. */
  writes: boolean;
  /** The answer has one entry in `data` for each record sent, and each stands for itself. */
  isPerRecord: boolean;
};

/** Zoho has refused the access token; another one may help, once. */
export class TokenRefusedError extends Error {
  override readonly name = 'TokenRefusedError';
}

const TOKEN_REFUSED = new Set(['INVALID_TOKEN', 'AUTHENTICATION_FAILURE']);

/** Never about one record, wherever they stand. */
const ABOUT_THE_REQUEST = new Set([
  ...TOKEN_REFUSED,
  'OAUTH_SCOPE_MISMATCH',
  'INVALID_URL_PATTERN',
  'TOO_MANY_REQUESTS',
]);

const ABOUT_THE_REQUEST_STATUS = new Set([401, 403, 404, 429]);

/** Always about a record, whatever the status: of a note that is gone Zoho may say it with 404. */
const ABOUT_A_RECORD = new Set(['INVALID_DATA']);

/** What a person does about it; other refusals of the whole request are faults of ours and terminal. */
const CONFIGURATION: Readonly<Record<string, string>> = {
  OAUTH_SCOPE_MISMATCH: 'the token lacks a scope: make a new ZOHO_REFRESH_TOKEN with every scope that the manual names',
  NO_PERMISSION: "the token's user may not do this: check the user's profile in Zoho CRM",
  AUTHORIZATION_FAILED: "the token's user may not do this: check the user's profile in Zoho CRM",
  INVALID_URL_PATTERN: 'there is no such address: check ZOHO_DC and ZOHO_API_URL',
};

/** Other words for "later". */
const TRANSIENT = new Set(['RECORD_LOCKED', 'ALREADY_MODIFIED']);

/**
 * The parsed body of a good answer; `undefined` for 204, which means that nothing was found. Throws `TokenRefusedError`,
 * `OutageError` (`zoho_too_many_requests`, `zoho_unavailable`, `zoho_unreadable_answer`, kind `configuration`:
 * `zoho_oauth_scope_mismatch`, `zoho_no_permission`, `zoho_invalid_url_pattern`, …), `RetryableError` or
 * `TerminalError`, their codes being Zoho's own in lower case after `zoho_`.
 */
export function readAnswer(asked: Asked, answer: Answer): unknown {
  const { status, text } = answer;
  const body = parse(text);
  const code = requestCode(asked, status, body);
  if (code !== undefined) throw errorOf(asked, answer, code);
  if (status === 204 && !asked.writes) return undefined;
  if (body !== undefined && (status < 300 || isRecords(body))) return body;
  if (status >= 300) throw errorOf(asked, answer, undefined);
  throw outage(asked, 'zoho_unreadable_answer', `Zoho answered ${status} without readable JSON to ${nameOf(asked)}`);
}

/** `POST /crm/v8/Leads/upsert` */
export function nameOf({ method, path }: Pick<Asked, 'method' | 'path'>): string {
  return `${method} ${path}`;
}

/** The code of an error that is about the whole request, in either envelope: flat, or wrapped in `data`. */
function requestCode({ isPerRecord }: Asked, status: number, body: unknown): string | undefined {
  if (!isObject(body)) return undefined;
  if (!isRecords(body)) return body.status === 'error' || status >= 400 ? codeOf(body) : undefined;
  const codes = new Set(
    body.data.map((entry) => (isObject(entry) && entry.status === 'error' ? codeOf(entry) : undefined)),
  );
  const [code] = codes;
  if (codes.size !== 1 || code === undefined) return undefined;
  const isStatusAboutRequest = (ABOUT_THE_REQUEST_STATUS.has(status) || status >= 500) && !ABOUT_A_RECORD.has(code);
  const isAboutRequest = ABOUT_THE_REQUEST.has(code) || isStatusAboutRequest;
  return !isPerRecord || isAboutRequest ? code : undefined;
}

function errorOf(asked: Asked, { status, retryAfter }: Answer, code: string | undefined): Error {
  const said = `Zoho answered ${status}${code === undefined ? '' : ` ${code}`} to ${nameOf(asked)}`;
  const ourCode = code === undefined ? `zoho_http_${status}` : `zoho_${code.toLowerCase()}`;
  if (code !== undefined && TOKEN_REFUSED.has(code)) return new TokenRefusedError(said);
  if (status === 429 || code === 'TOO_MANY_REQUESTS') {
    const retryAfterMs = parseRetryAfter(retryAfter);
    return new OutageError(said, { code: 'zoho_too_many_requests', provider: 'zoho', retryAfterMs });
  }
  if (status >= 500 || status === 408 || code === 'INTERNAL_ERROR') return outage(asked, 'zoho_unavailable', said);
  const advice = code !== undefined && Object.hasOwn(CONFIGURATION, code) ? CONFIGURATION[code] : undefined;
  if (advice) return configuration(`${said}: ${advice}`, ourCode);
  if (status === 401 || status === 403) return configuration(`${said}: check the token and its user`, ourCode);
  if (status < 400 || (status === 404 && code === undefined)) {
    return configuration(`${said}: check ZOHO_API_URL`, ourCode);
  }
  if (code !== undefined && TRANSIENT.has(code)) return new RetryableError(said, { code: ourCode, provider: 'zoho' });
  return new TerminalError(said, { code: ourCode, provider: 'zoho' });
}

/** Codes become part of messages, so they must look like one. */
function codeOf({ code }: Record<string, unknown>): string | undefined {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{1,60}$/.test(code) ? code : undefined;
}

function outage({ writes }: Asked, code: string, message: string): OutageError {
  return new OutageError(message, { code, provider: 'zoho', mayBeDone: writes });
}

function configuration(message: string, code: string): OutageError {
  return new OutageError(message, { code, provider: 'zoho', kind: 'configuration' });
}

/** Not documented for Zoho CRM, heeded where it comes; in seconds. */
function parseRetryAfter(header: string | undefined): number | undefined {
  const seconds = Number(header);
  return header !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRecords(body: unknown): body is { data: unknown[] } {
  return isObject(body) && Array.isArray(body.data);
}
