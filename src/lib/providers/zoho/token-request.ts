/**
 * One refresh: the request to Zoho's accounts server and what its answers mean. Source: zoho.com/accounts "OAuth, web
 * apps" for the limits; the error bodies, which often come with HTTP 200, from public code and the vendor's SDK.
 */
import got, { RequestError, type Response } from 'got';
import { OutageError, type OutageKind } from '../../errors.js';
import { parseApiDomain } from './data-centres.js';

export type TokenRequest = {
  accountsUrl: string;
  clientId: string;
  clientSecret: string;
  refreshToken: string;
  timeoutMs: number;
};

export type Grant = { accessToken: string; apiDomain: string | undefined; lifetimeMs: number };

export type Refusal = {
  code: string;
  kind: OutageKind;
  message: string;
  /** `throttled`: Zoho's limit is reached. `refused`: it answered no. `unreachable`: there was no usable answer. */
  reason: 'throttled' | 'refused' | 'unreachable';
  /** True when the request may count towards Zoho's limit. */
  counts: boolean;
};

/** The throttle's code, ours and Zoho's alike. */
export const THROTTLED = 'zoho_token_throttled';

const LIFETIME_MS_DEFAULT = 3_600_000;

const OTHER_CENTRE = 'The usual cause is the wrong data centre: check ZOHO_DC and ZOHO_ACCOUNTS_URL';

/** What a person does about it, by the word that Zoho answers. */
const ADVICE: Readonly<Record<string, string>> = {
  invalid_code: `ZOHO_REFRESH_TOKEN is wrong, revoked or of another data centre (ZOHO_DC): make a new one`,
  invalid_client: `ZOHO_CLIENT_ID is not known there. ${OTHER_CENTRE}`,
  invalid_client_secret: `ZOHO_CLIENT_SECRET does not belong to ZOHO_CLIENT_ID; each data centre has its own secret`,
  unauthorized_client: `ZOHO_CLIENT_ID may not do this. ${OTHER_CENTRE}`,
  unsupported_grant_type: `check ZOHO_ACCOUNTS_URL`,
  invalid_grant: `ZOHO_REFRESH_TOKEN is wrong or revoked: make a new one`,
  access_denied: `ZOHO_REFRESH_TOKEN may not be used by this client: make a new one`,
};

/** Never throws for an answer of Zoho's or for the want of one. */
export async function requestToken({ accountsUrl, timeoutMs, ...secrets }: TokenRequest): Promise<Grant | Refusal> {
  try {
    const response = await got.post(`${accountsUrl}/oauth/v2/token`, {
      // In the body, as query strings end up in the logs of proxies; and never sent on to where a redirect points.
      form: {
        grant_type: 'refresh_token',
        client_id: secrets.clientId,
        client_secret: secrets.clientSecret,
        refresh_token: secrets.refreshToken,
      },
      followRedirect: false,
      retry: { limit: 0 },
      timeout: { request: timeoutMs },
      throwHttpErrors: false,
    });
    return readAnswer(response);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    // The answer to a request that was sent may have been lost, so a broken connection counts.
    return unreachable(`Zoho's accounts server did not answer (${error.code})`, error.code === 'ECONNRESET');
  }
}

function readAnswer({ statusCode, body }: Response<string>): Grant | Refusal {
  const answer = parseObject(body);
  const { access_token: accessToken, error } = answer;
  // Nothing else says success: Zoho answers errors with HTTP 200.
  if (typeof accessToken === 'string' && accessToken !== '') {
    return { accessToken, apiDomain: parseApiDomain(answer.api_domain), lifetimeMs: lifetimeOf(answer) };
  }
  const word = typeof error === 'string' ? error.toLowerCase() : '';
  const isThrottled = statusCode === 429 || /too many requests/i.test(String(answer.error_description));
  if (isThrottled || word === 'access denied') {
    const message = 'Zoho has given too many tokens for this refresh token and gives no more for up to ten minutes';
    return { code: THROTTLED, kind: 'outage', message, reason: 'throttled', counts: true };
  }
  const advice = Object.hasOwn(ADVICE, word) ? ADVICE[word] : undefined;
  if (advice) return refused(`zoho_${word}`, `Zoho answered ${word} when asked for an access token: ${advice}`);
  if (statusCode >= 300 && statusCode < 500) {
    const message = `Zoho answered ${statusCode} when asked for an access token: check ZOHO_ACCOUNTS_URL and ZOHO_DC`;
    return refused('zoho_token_refused', message);
  }
  return unreachable(`Zoho's accounts server answered ${statusCode} and no token`, statusCode < 500);
}

/** A quirk the vendor's SDK handles: where there is `expires_in_sec`, `expires_in` is in milliseconds. */
function lifetimeOf({ expires_in_sec: inSeconds, expires_in: inEither }: Record<string, unknown>): number {
  const lifetimeMs = Number(inSeconds ?? inEither) * 1000;
  return Number.isFinite(lifetimeMs) && lifetimeMs > 0 ? lifetimeMs : LIFETIME_MS_DEFAULT;
}

function refused(code: string, message: string): Refusal {
  return { code, kind: 'configuration', message, reason: 'refused', counts: true };
}

function unreachable(message: string, counts: boolean): Refusal {
  return { code: 'zoho_accounts_unavailable', kind: 'outage', message, reason: 'unreachable', counts };
}

/** The error that a refusal is to whoever wanted a token. Asking for a token writes nothing. */
export function outageOf({ code, kind, message }: Pick<Refusal, 'code' | 'kind' | 'message'>, retryAfterMs: number) {
  return new OutageError(message, { code, kind, provider: 'zoho', retryAfterMs: Math.ceil(retryAfterMs) });
}

function parseObject(body: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
