/** Zoho's accounts server: gives access tokens for a refresh token, and knows which of them are good. */
import { randomBytes } from 'node:crypto';
import type { StandinReply, StandinRequest } from '../http.js';

export type TokenOptions = {
  clientId: string;
  clientSecret: string;
  refreshToken: string;
  /** Lifetime of an access token, in seconds. */
  expiresInS: number;
  /** So many refreshes in so long, then `Access Denied` until the window is over. */
  refreshesMax: number;
  refreshWindowMs: number;
  /** What the reply names as `api_domain`. */
  apiDomain: () => string;
};

/** The oldest token is dropped in silence when there are more. */
const LIVE_TOKENS_MAX = 15;

export type Tokens = ReturnType<typeof makeTokens>;

export function makeTokens(options: TokenOptions) {
  const liveUntil = new Map<string, number>();
  const refreshes: number[] = [];
  let refusal: string | undefined;
  let issued = 0;

  function grant(request: StandinRequest): StandinReply {
    const form = { ...Object.fromEntries(request.query), ...(request.body as Record<string, string> | undefined) };
    const now = Date.now();
    while (refreshes.length > 0 && refreshes[0]! <= now - options.refreshWindowMs) refreshes.shift();
    if (refreshes.length >= options.refreshesMax) return accessDenied();
    const error = refusal ?? findError(form);
    if (error) return { status: 200, body: { error } };
    refreshes.push(now);
    return { status: 200, body: issue(now) };
  }

  function findError(form: Record<string, string | undefined>): string | undefined {
    if (form.grant_type !== 'refresh_token') return 'unsupported_grant_type';
    if (form.client_id !== options.clientId) return 'invalid_client';
    if (form.client_secret !== options.clientSecret) return 'invalid_client_secret';
    return form.refresh_token === options.refreshToken ? undefined : 'invalid_code';
  }

  function issue(now: number): Record<string, unknown> {
    const token = `1000.${randomBytes(16).toString('hex')}.${randomBytes(16).toString('hex')}`;
    liveUntil.set(token, now + options.expiresInS * 1000);
    if (liveUntil.size > LIVE_TOKENS_MAX) liveUntil.delete(liveUntil.keys().next().value!);
    issued += 1;
    return {
      access_token: token,
      scope: 'ZohoCRM.modules.ALL ZohoCRM.settings.fields.READ ZohoCRM.coql.READ',
      api_domain: options.apiDomain(),
      token_type: 'Bearer',
      expires_in: options.expiresInS,
    };
  }

  return {
    grant,
    isGood(authorization: string | undefined): boolean {
      const token = /^Zoho-oauthtoken (\S+)$/.exec(authorization ?? '')?.[1];
      return token !== undefined && (liveUntil.get(token) ?? 0) > Date.now();
    },
    /** Every token given so far is refused from now on, as when an administrator revokes them. */
    expireAll: () => liveUntil.clear(),
    /** Answers `{"error": …}` with HTTP 200 from now on: `invalid_code`, `invalid_client`, …; `undefined` ends it. */
    refuse(error: string | undefined): void {
      refusal = error;
    },
    /** How many access tokens were given. */
    issued: () => issued,
  };
}

function accessDenied(): StandinReply {
  const error_description = 'You have made too many requests continuously. Please try again after some time.';
  return { status: 400, body: { error_description, error: 'Access Denied' } };
}
