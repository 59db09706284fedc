/**
 * Calendly's API, as far as webhook subscriptions need it. One attempt a call. There is no call that changes a
 * subscription: another url, key or list of events means another subscription.
 * Source: developer.calendly.com "Webhooks", API v2.
 */
import got, { RequestError, TimeoutError } from 'got';
import { z } from 'zod';
import { CalendlyError, errorOfRefusal } from './errors.js';

export type Scope = 'organization' | 'user';

/** URIs, as Calendly names everything. */
export type Account = { user: string; organization: string };

export type Subscription = {
  /** The last segment of its URI. */
  id: string;
  url: string;
  /** Also `group`, which this service neither makes nor lists. */
  scope: string;
  /** `active`, or `disabled` after 24 hours of failed deliveries: it never comes back by itself. */
  state: string;
  events: string[];
  createdAt: string;
  /** Since when deliveries are repeated; absent while they succeed. */
  retryStartedAt: string | undefined;
};

export type NewSubscription = { url: string; scope: Scope; events: readonly string[]; signingKey: string };

/** Every call throws `CalendlyError`, or the signal's reason. */
export type CalendlyApi = {
  readAccount: (signal: AbortSignal) => Promise<Account>;
  /** All pages. Of scope `user` those of the token's own user. */
  listSubscriptions: (account: Account, scope: Scope, signal: AbortSignal) => Promise<Subscription[]>;
  readSubscription: (id: string, signal: AbortSignal) => Promise<Subscription>;
  createSubscription: (account: Account, wanted: NewSubscription, signal: AbortSignal) => Promise<Subscription>;
  deleteSubscription: (id: string, signal: AbortSignal) => Promise<void>;
};

export type CalendlyApiOptions = {
  token: string;
  /** Calendly's own when left out. */
  apiUrl?: string | undefined;
  timeoutMs?: number | undefined;
};

type Call = {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  query?: Record<string, string>;
  body?: unknown;
};

const API_URL = 'https://api.calendly.com';
const TIMEOUT_MS = 10_000;
const PAGE_SIZE = '100';
/** Against an answer that always names a next page. */
const PAGES_MAX = 50;
const SUBSCRIPTIONS = '/webhook_subscriptions';

const account = z.object({ resource: z.object({ uri: z.string(), current_organization: z.string() }) });

const subscription = z
  .object({
    uri: z.string(),
    callback_url: z.string(),
    scope: z.string(),
    state: z.string(),
    events: z.array(z.string()),
    created_at: z.string(),
    retry_started_at: z.string().nullish(),
  })
  .transform(
    ({ uri, callback_url, created_at, retry_started_at, ...same }): Subscription => ({
      ...same,
      id: uri.slice(uri.lastIndexOf('/') + 1),
      url: callback_url,
      createdAt: created_at,
      retryStartedAt: retry_started_at ?? undefined,
    }),
  );

const one = z.object({ resource: subscription });
const page = z.object({
  collection: z.array(subscription),
  pagination: z.object({ next_page_token: z.string().nullish() }).optional(),
});

export function makeCalendlyApi({ token, apiUrl = API_URL, timeoutMs = TIMEOUT_MS }: CalendlyApiOptions): CalendlyApi {
  const base = apiUrl.replace(/\/+$/, '');

  async function ask<T>(call: Call, shape: z.ZodType<T>, signal: AbortSignal): Promise<T> {
    const asked = `${call.method} ${call.path}`;
    const { status, text } = await exchange(call, asked, signal);
    const body = parse(text);
    if (status < 200 || status >= 300) throw errorOfRefusal(asked, status, body);
    const parsed = shape.safeParse(body);
    if (parsed.success) return parsed.data;
    throw new CalendlyError(
      `Calendly answered ${status} to ${asked} with a body that cannot be read`,
      'calendly_unreadable_answer',
    );
  }

  async function exchange(
    { method, path, query, body }: Call,
    asked: string,
    signal: AbortSignal,
  ): Promise<{ status: number; text: string }> {
    signal.throwIfAborted();
    assertUsableToken(token);
    try {
      const { statusCode, body: text } = await got(`${base}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}` },
        ...(query && { searchParams: query }),
        ...(body !== undefined && { json: body }),
        // The token must not follow a redirect to another host.
        followRedirect: false,
        retry: { limit: 0 },
        timeout: { request: timeoutMs },
        throwHttpErrors: false,
        signal,
      });
      return { status: statusCode, text };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RequestError)) throw error;
      const what = error instanceof TimeoutError ? 'did not answer in time' : `could not be reached (${error.code})`;
      throw new CalendlyError(`Calendly ${what}: ${asked}`, 'calendly_unavailable');
    }
  }

  return {
    async readAccount(signal) {
      const { resource } = await ask({ method: 'GET', path: '/users/me' }, account, signal);
      return { user: resource.uri, organization: resource.current_organization };
    },

    async listSubscriptions({ organization, user }, scope, signal) {
      const query = { organization, scope, count: PAGE_SIZE, ...(scope === 'user' && { user }) };
      const found: Subscription[] = [];
      let pageToken: string | undefined;
      for (let turn = 0; turn < PAGES_MAX; turn += 1) {
        const asked = { ...query, ...(pageToken !== undefined && { page_token: pageToken }) };
        const { collection, pagination } = await ask(
          { method: 'GET', path: SUBSCRIPTIONS, query: asked },
          page,
          signal,
        );
        found.push(...collection);
        pageToken = pagination?.next_page_token ?? undefined;
        if (pageToken === undefined) break;
      }
      return found;
    },

    async readSubscription(id, signal) {
      return (await ask({ method: 'GET', path: pathOf(id) }, one, signal)).resource;
    },

    async createSubscription({ organization, user }, { url, scope, events, signingKey }, signal) {
      const body = {
        ...{ url, events, organization, scope, signing_key: signingKey },
        ...(scope === 'user' && { user }),
      };
      return (await ask({ method: 'POST', path: SUBSCRIPTIONS, body }, one, signal)).resource;
    },

    async deleteSubscription(id, signal) {
      await ask({ method: 'DELETE', path: pathOf(id) }, z.unknown(), signal);
    },
  };
}

function pathOf(id: string): string {
  return `${SUBSCRIPTIONS}/${encodeURIComponent(id)}`;
}

/** A header cannot hold such a token. */
function assertUsableToken(token: string): void {
  if (/^[\x21-\x7e]+$/.test(token)) return;
  throw new CalendlyError(
    'CALENDLY_API_TOKEN is empty or holds characters that no token has',
    'calendly_unauthenticated',
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
