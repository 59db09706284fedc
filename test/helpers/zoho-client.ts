/** The Zoho client against its stand-in, without Redis: what the tests of calls and their errors share. */
import { makeZohoClient, type ZohoCall } from '../../src/lib/providers/zoho/client.js';
import type { ZohoTokenSource } from '../../src/lib/providers/zoho/token.js';
import type { ZohoStandin } from '../standins/zoho.js';

export const UPSERT_PATH = '/crm/v8/Leads/upsert';
export const ADDRESS = 'ada@acme.example';

export const read: ZohoCall = {
  method: 'GET',
  path: '/crm/v8/Leads/search',
  query: { email: ADDRESS },
  writes: false,
  isPerRecord: false,
};
export const write: ZohoCall = {
  method: 'POST',
  path: UPSERT_PATH,
  body: { data: [{ Last_Name: 'Byron', Email: ADDRESS }], duplicate_check_fields: ['Email'] },
  writes: true,
  isPerRecord: true,
};

export const flat = (code: string) => ({ code, details: {}, message: 'as Zoho says it', status: 'error' });
export const wrapped = (code: string) => ({ data: [flat(code)] });

/** Fetches a token of the stand-in when none is at hand: what `token.ts` does over Redis. */
function makeToken(zoho: ZohoStandin): ZohoTokenSource & { invalidated: string[] } {
  const invalidated: string[] = [];
  const refused: string[] = [];
  let current: string | undefined;
  return {
    invalidated,
    async get() {
      current ??= await fetchToken(zoho);
      return { accessToken: current, apiDomain: zoho.url };
    },
    async invalidate(failing) {
      if (refused.includes(failing)) return false;
      invalidated.push(failing);
      current = undefined;
      return true;
    },
    async noteRefused(failing) {
      refused.push(failing);
    },
  };
}

let tokensLeft: string[] = [];

/** The stand-in gives ten and then refuses, as Zoho does: so a token is used by several tests. */
async function fetchToken({ url, credentials }: ZohoStandin): Promise<string> {
  const kept = tokensLeft.pop();
  if (kept !== undefined) return kept;
  const form = {
    grant_type: 'refresh_token',
    client_id: credentials.clientId,
    client_secret: credentials.clientSecret,
    refresh_token: credentials.refreshToken,
  };
  const response = await fetch(`${url}/oauth/v2/token`, { method: 'POST', body: new URLSearchParams(form) });
  return ((await response.json()) as { access_token: string }).access_token;
}

/** What a call may take in tests of anything else. */
export const PATIENT_MS = 30_000;

export function connectClient(zoho: ZohoStandin, { timeoutMs = PATIENT_MS } = {}) {
  const token = makeToken(zoho);
  const client = makeZohoClient({ token, timeoutMs });
  const send = async (call: ZohoCall, signal = new AbortController().signal) => {
    try {
      return await client.send(call, signal);
    } finally {
      tokensLeft = [(await token.get(signal)).accessToken];
    }
  };
  return { send, token };
}

export const crmCalls = ({ calls }: ZohoStandin) => calls.filter(({ path }) => path.startsWith('/crm/'));
