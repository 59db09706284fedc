/**
 * The access token, one for all workers. Zoho gives ten for a refresh token in ten minutes and then none, so it is kept
 * in Redis, renewed before it expires, by one worker at a time, and a refusal is remembered for all of them.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { OutageError } from '../../errors.js';
import type { RedisClient } from '../../redis.js';
import { type Grant, outageOf, type Refusal, requestToken, THROTTLED } from './token-request.js';
import { makeTokenStore, type StoredToken } from './token-store.js';

export type ZohoTokenOptions = {
  redis: RedisClient;
  keyPrefix: string;
  accountsUrl: string;
  /** Where the API is when the token reply does not say so, or names a host that is not Zoho's. */
  apiUrl: string;
  /** Set by hand: then the token reply's `api_domain` does not count (developer organisations need that). */
  apiUrlIsFixed?: boolean;
  clientId: string;
  clientSecret: string;
  refreshToken: string;
  timeoutMs: number;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** Zoho's window of ten minutes; only tests have a reason to set it. */
  refreshWindowMs?: number;
};

export type ZohoToken = { accessToken: string; apiDomain: string };

export type ZohoTokenSource = {
  /**
   * A token that is good as far as is known. Throws `OutageError`: kind `configuration` with the codes
   * `zoho_invalid_code`, `zoho_invalid_client`, `zoho_invalid_client_secret`, …; kind `outage` with
   * `zoho_token_throttled` or `zoho_accounts_unavailable`. While an older token is good, it is given instead.
   */
  get: (signal: AbortSignal) => Promise<ZohoToken>;
  /**
   * Zoho refused this token: the next `get` fetches another, unless that was done meanwhile. False where another one would
   * fare no better, see `noteRefused`: then it stays.
   */
  invalidate: (failingToken: string) => Promise<boolean>;
  /** Zoho refused this token as well, which is new. It is what Zoho's return is found by: each further one is of the few that Zoho gives. */
  noteRefused: (newToken: string) => Promise<void>;
};

const RENEW_EARLY_MS = 300_000;
const REFRESH_WINDOW_MS = 600_000;
const UNREACHABLE_HOLD_MS = 2_000;
/** Where new tokens are refused, another one is fetched so often in a window. */
const NEXT_TOKEN_PARTS = 5;
const POLL_MS = 50;
/** A worker that dies with the lock holds up the others so long, and no longer: one that lives renews it. */
const LOCK_MS = 2_000;

export function makeZohoToken(options: ZohoTokenOptions): ZohoTokenSource {
  const { apiUrl, apiUrlIsFixed = false, now = Date.now, refreshWindowMs = REFRESH_WINDOW_MS } = options;
  const store = makeTokenStore(options);

  async function get(signal: AbortSignal): Promise<ZohoToken> {
    signal.throwIfAborted();
    const stored = await store.read();
    if (stored && now() < stored.renewAtMs) return present(stored);
    return present(stored && now() < stored.expiresAtMs ? await renew(stored, signal) : await obtain(signal));
  }

  /** The token is still good: whatever hinders its renewal is no reason to stop. */
  async function renew(stored: StoredToken, signal: AbortSignal): Promise<StoredToken> {
    try {
      return (await abortable(refreshAlone(), signal)) ?? stored;
    } catch (error) {
      if (error instanceof OutageError) return stored;
      throw error;
    }
  }

  /** Ends: a worker that holds the lock leaves a token or a hold behind, or its lock expires. */
  async function obtain(signal: AbortSignal): Promise<StoredToken> {
    for (;;) {
      const refreshed = await abortable(refreshAlone(), signal);
      if (refreshed) return refreshed;
      await abortable(wait(POLL_MS), signal);
      const stored = await store.read();
      if (stored && now() < stored.expiresAtMs) return stored;
    }
  }

  /** `undefined` when another worker is at it. Bound to no caller's signal, as others wait for the outcome too. */
  async function refreshAlone(): Promise<StoredToken | undefined> {
    await heedHold();
    const owner = randomUUID();
    if (!(await store.lock(owner, LOCK_MS))) return undefined;
    const keeping = setInterval(() => void store.keepLock(owner, LOCK_MS).catch(() => {}), LOCK_MS / 4);
    try {
      const stored = await store.read();
      if (stored && now() < stored.renewAtMs) return stored;
      await heedHold();
      return await refresh(owner);
    } finally {
      clearInterval(keeping);
      await store.unlock(owner);
    }
  }

  async function heedHold(): Promise<void> {
    const hold = await store.readHold();
    if (hold) throw outageOf(hold, hold.leftMs);
  }

  async function refresh(owner: string): Promise<StoredToken> {
    const { waitMs, used } = await store.reserve(owner, refreshWindowMs);
    if (waitMs > 0) {
      const message = 'Access tokens were asked for too often; Zoho would refuse the next one for up to ten minutes';
      throw outageOf({ code: THROTTLED, kind: 'outage', message }, waitMs);
    }
    const askedAtMs = now();
    const answer = await requestToken(options);
    if ('accessToken' in answer) return keep(answer, askedAtMs);
    if (!answer.counts) await store.release(owner);
    const holdMs = holdOf(answer, used, refreshWindowMs);
    await store.hold({ code: answer.code, kind: answer.kind, message: answer.message }, holdMs);
    throw outageOf(answer, holdMs);
  }

  async function keep({ accessToken, apiDomain, lifetimeMs }: Grant, askedAtMs: number): Promise<StoredToken> {
    const earlyMs = Math.min(RENEW_EARLY_MS, lifetimeMs / 4);
    const expiresAtMs = askedAtMs + lifetimeMs;
    const token = { accessToken, apiDomain, renewAtMs: expiresAtMs - earlyMs, expiresAtMs };
    await store.write(token, lifetimeMs);
    return token;
  }

  function present({ accessToken, apiDomain }: StoredToken): ZohoToken {
    return { accessToken, apiDomain: apiUrlIsFixed ? apiUrl : (apiDomain ?? apiUrl) };
  }

  return {
    get,
    async invalidate(failingToken) {
      if (await store.isRefused(failingToken)) return false;
      await store.forget(failingToken);
      return true;
    },
    noteRefused: (newToken) => store.noteRefused(newToken, refreshWindowMs / NEXT_TOKEN_PARTS),
  };
}

/**
 * How long nobody asks again. A refused token is probed soon a few times, as a person may be mending it, then so seldom
 * that the window's allowance lasts.
 */
function holdOf({ reason }: Refusal, used: number, windowMs: number): number {
  switch (reason) {
    case 'throttled':
      return windowMs;
    case 'unreachable':
      return Math.min(UNREACHABLE_HOLD_MS, windowMs);
    case 'refused':
      return used <= 4 ? windowMs / 60 : windowMs / 5;
  }
}

/** The work goes on when the caller gives up. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => {});
  if (signal.aborted) throw signal.reason;
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}
