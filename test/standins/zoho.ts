/**
 * A stand-in for Zoho: the accounts server and CRM v8 in one. It keeps what is written, checks it as Zoho would, and
 * answers in Zoho's shapes and statuses. See README.md for how to start it.
 */
import { type Standin, type StandinReply, type StandinRequest, startStandin } from './http.js';
import { type Field, LEAD_FIELDS } from './zoho/fields.js';
import { findRoute, flatError, type Scope } from './zoho/routes.js';
import { type Lead, makeStore, type Note } from './zoho/store.js';
import { makeTokens, type Tokens } from './zoho/tokens.js';

export { makeField } from './zoho/fields.js';

export type ZohoOptions = {
  port?: number | undefined;
  clientId?: string;
  clientSecret?: string;
  refreshToken?: string;
  /** Lifetime of an access token in seconds [3600]. */
  expiresInS?: number;
  /** Refreshes allowed [10] in a window [ten minutes]. */
  refreshesMax?: number;
  refreshWindowMs?: number;
  /** `api_domain` of the token reply [the stand-in's own URL]. */
  apiDomain?: string;
  /** How long search does not see a new lead [0]; `'manual'`: until `flushIndex`. */
  indexLagMs?: number | 'manual';
  /** CRM calls at once before 429 [no limit]. */
  concurrencyMax?: number;
  /** Credits before 429 [no limit]; most calls cost 1, a write 1 for each ten records. */
  creditsMax?: number;
  /** Latency of every call [0]. */
  latencyMs?: number;
  /** What the token may not do: answered with OAUTH_SCOPE_MISMATCH. */
  withoutScopes?: readonly Scope[];
  /** `false`: COQL knows no `Converted__s`, as in some organisations. */
  coqlKnowsConverted?: boolean;
  /** COQL shows converted leads unasked [false]. */
  coqlShowsConverted?: boolean;
  /** Which of several open leads of one address an upsert by address writes [oldest]; Zoho does not say. */
  upsertTakes?: 'oldest' | 'newest';
  /** Further fields of the Leads module, see `makeField`; one of the same name replaces the stock one. */
  fields?: readonly Field[];
};

/** A lead as a test reads it: Zoho's field names beside `id`, times and conversion. */
export type StoredLead = Record<string, unknown> & {
  id: string;
  Created_Time: string;
  Modified_Time: string;
  converted?: { contactId: string; dealId: string };
};

export type ZohoStandin = Standin & {
  /** What a client needs to be let in. */
  credentials: { clientId: string; clientSecret: string; refreshToken: string };
  tokens: Pick<Tokens, 'expireAll' | 'refuse' | 'issued'>;
  leads: () => StoredLead[];
  /** The leads with this address, whatever its case, the oldest first; more than one means a duplicate was made. */
  leadsOf: (email: string) => StoredLead[];
  notes: () => Note[];
  creditsUsed: () => number;
  /** Puts a lead there without a call, found by search at once. Returns its id. */
  seedLead: (fields: Record<string, unknown>) => string;
  /** Changes a lead as a person would; `null` clears a field. */
  editLead: (id: string, fields: Record<string, unknown>) => void;
  convertLead: (id: string) => { contactId: string; dealId: string };
  deleteLead: (id: string) => void;
  /** Search sees every lead from now on. */
  flushIndex: () => void;
};

const CREDENTIALS = {
  clientId: '1000.STANDINCLIENT',
  clientSecret: 'standin-client-secret',
  refreshToken: '1000.standin.refresh',
};

export async function startZoho(options: ZohoOptions = {}): Promise<ZohoStandin> {
  const own = options.fields ?? [];
  const stock = LEAD_FIELDS.filter(({ api_name }) => !own.some((field) => field.api_name === api_name));
  const store = makeStore([...stock, ...own], {
    indexLagMs: options.indexLagMs ?? 0,
    upsertTakes: options.upsertTakes ?? 'oldest',
  });
  const { clientId, clientSecret, refreshToken } = { ...CREDENTIALS, ...options };
  const tokens = makeTokens({
    clientId,
    clientSecret,
    refreshToken,
    expiresInS: options.expiresInS ?? 3600,
    refreshesMax: options.refreshesMax ?? 10,
    refreshWindowMs: options.refreshWindowMs ?? 600_000,
    apiDomain: () => options.apiDomain ?? server.url,
  });
  const creditsMax = options.creditsMax ?? Number.POSITIVE_INFINITY;
  const concurrencyMax = options.concurrencyMax ?? Number.POSITIVE_INFINITY;
  const routing = {
    coqlKnowsConverted: options.coqlKnowsConverted ?? true,
    coqlShowsConverted: options.coqlShowsConverted ?? false,
  };
  let creditsUsed = 0;

  function handle(request: StandinRequest): StandinReply {
    if (request.path === '/oauth/v2/token' && request.method === 'POST') return tokens.grant(request);
    const route = findRoute(store, request, routing);
    if (!route) {
      return flatError(404, 'INVALID_URL_PATTERN', 'Please check if the URL trying to access is a correct one');
    }
    if (!tokens.isGood(request.headers.authorization)) return flatError(401, 'INVALID_TOKEN', 'invalid oauth token');
    if (options.withoutScopes?.includes(route.scope)) return flatError(401, 'OAUTH_SCOPE_MISMATCH', 'Unauthorized');
    if (creditsUsed + route.credits > creditsMax) return tooMany('You have reached the maximum limit for the day.');
    creditsUsed += route.credits;
    const reply = route.run();
    if (creditsUsed * 2 < creditsMax) return reply;
    return { ...reply, headers: { ...reply.headers, 'x-api-credits-remaining': String(creditsMax - creditsUsed) } };
  }

  function admit(request: StandinRequest, underWay: ReadonlySet<StandinRequest>): StandinReply | undefined {
    if (!isCrmCall(request)) return undefined;
    const others = [...underWay].filter(isCrmCall).length;
    return others < concurrencyMax
      ? undefined
      : tooMany('Too many requests fired in concurrent than the allowed limit.');
  }

  const leads = () => [...store.leads.values()].map(showLead);
  const state = () => ({
    leads: leads(),
    notes: [...store.notes.values()],
    tokensIssued: tokens.issued(),
    creditsUsed,
  });
  const server = await startStandin({
    port: options.port,
    latencyMs: options.latencyMs,
    handle,
    admit,
    control: {
      'GET state': state,
      'POST leads': ({ body }) => showLead(store.seedLead(body as Record<string, unknown>)),
      'POST convert': ({ body }) => store.convertLead((body as { id: string }).id),
      'POST edit': ({ body }) => {
        const { id, ...fields } = body as { id: string } & Record<string, unknown>;
        return showLead(store.editLead(id, fields));
      },
    },
  });

  return {
    ...server,
    credentials: { clientId, clientSecret, refreshToken },
    tokens,
    leads,
    leadsOf: (email) => leads().filter((lead) => String(lead.Email ?? '').toLowerCase() === email.toLowerCase()),
    notes: () => [...store.notes.values()].map((note) => ({ ...note })),
    creditsUsed: () => creditsUsed,
    seedLead: (fields) => store.seedLead(fields).id,
    editLead: (id, fields) => void store.editLead(id, fields),
    convertLead: store.convertLead,
    deleteLead: store.deleteLead,
    flushIndex: store.flushIndex,
  };
}

function isCrmCall({ path }: StandinRequest): boolean {
  return path.startsWith('/crm/');
}

function tooMany(message: string): StandinReply {
  return flatError(429, 'TOO_MANY_REQUESTS', message);
}

function showLead({ id, fields, createdTime, modifiedTime, converted }: Lead): StoredLead {
  return { id, ...fields, Created_Time: createdTime, Modified_Time: modifiedTime, ...(converted && { converted }) };
}
