/** One HTTP call to Zoho CRM: token, timeout, and an answer that is good or thrown as one of `errors.ts`. */
import got, { RequestError, TimeoutError } from 'got';
import { OutageError } from '../../errors.js';
import { type Gate, OPEN_GATE } from '../../provider-gate.js';
import { type Answer, type Asked, nameOf, readAnswer, TokenRefusedError } from './answers.js';
import type { ZohoToken, ZohoTokenSource } from './token.js';

export type ZohoCall = Asked & {
  query?: Record<string, string>;
  body?: unknown;
  /** Called right before the request goes out; what it throws is thrown. */
  beforeSend?: () => void;
};

export type ZohoClient = {
  /** The parsed body, `undefined` where there is none. Throws what `readAnswer` throws, and the signal's reason. */
  send: (call: ZohoCall, signal: AbortSignal) => Promise<unknown>;
};

/** Nothing was sent when a call fails like this. */
const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
const NOT_SENT_PHASES = new Set(['lookup', 'connect', 'secureConnect']);
const CONNECT_MS_MAX = 10_000;
/** Each further try costs a token, of which Zoho gives ten in ten minutes. */
const TOKEN_WAIT_MS = 75_000;

export function makeZohoClient({
  token,
  timeoutMs,
  gate = OPEN_GATE,
}: {
  token: ZohoTokenSource;
  timeoutMs: number;
  /** Keeps to the limits that Zoho has for all callers together. */
  gate?: Gate | undefined;
}): ZohoClient {
  const connectMs = Math.min(timeoutMs, CONNECT_MS_MAX);

  async function send(call: ZohoCall, signal: AbortSignal): Promise<unknown> {
    const first = await token.get(signal);
    try {
      return await ask(call, first, signal);
    } catch (error) {
      if (!(error instanceof TokenRefusedError)) throw error;
    }
    await token.invalidate(first.accessToken);
    try {
      return await ask(call, await token.get(signal), signal);
    } catch (error) {
      if (!(error instanceof TokenRefusedError)) throw error;
      const message = `${error.message}, with a new token too: check that ZOHO_DC and ZOHO_API_URL fit the account`;
      throw new OutageError(message, {
        ...{ code: 'zoho_invalid_token', provider: 'zoho', kind: 'configuration' },
        retryAfterMs: TOKEN_WAIT_MS,
      });
    }
  }

  function ask(call: ZohoCall, good: ZohoToken, signal: AbortSignal): Promise<unknown> {
    const exchanged = async () => readAnswer(call, await exchange(call, good, signal));
    // A write follows on a look-up, which grows old.
    return gate.pass(exchanged, { signal, isUrgent: call.writes });
  }

  async function exchange(call: ZohoCall, { accessToken, apiDomain }: ZohoToken, signal: AbortSignal): Promise<Answer> {
    call.beforeSend?.();
    try {
      const { statusCode, body, headers } = await got(`${apiDomain}${call.path}`, {
        method: call.method as 'GET' | 'POST' | 'PUT',
        headers: { authorization: `Zoho-oauthtoken ${accessToken}` },
        ...(call.query && { searchParams: call.query }),
        ...(call.body !== undefined && { json: call.body }),
        // The token must not follow a redirect to another host.
        followRedirect: false,
        retry: { limit: 0 },
        signal,
        throwHttpErrors: false,
        timeout: { lookup: connectMs, connect: connectMs, secureConnect: connectMs, request: timeoutMs },
      });
      const creditsLeft = Number(headers['x-api-credits-remaining'] ?? Number.NaN);
      if (Number.isFinite(creditsLeft)) gate.callsLeft(creditsLeft);
      return { status: statusCode, text: body, retryAfter: headers['retry-after'] };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RequestError) throw noAnswer(call, error);
      throw error;
    }
  }

  return { send };
}

/** Got's error is not kept as the cause: it holds the token and the query. */
function noAnswer(call: ZohoCall, error: RequestError): OutageError {
  const wasTooSlow = error instanceof TimeoutError;
  const wasSent = wasTooSlow ? !NOT_SENT_PHASES.has(error.event) : !NOT_SENT.has(error.code);
  const code = wasTooSlow ? 'zoho_timeout' : 'zoho_unreachable';
  const what = wasTooSlow ? 'did not answer in time' : `could not be reached (${error.code})`;
  return new OutageError(`Zoho ${what}: ${nameOf(call)}`, {
    code,
    provider: 'zoho',
    mayBeDone: call.writes && wasSent,
  });
}
