/** One HTTP call to Zoho CRM: token, timeout, and an answer that is good or thrown as one of `errors.ts`. */
import type { ClientRequest } from 'node:http';
import { TLSSocket } from 'node:tls';
import got, { RequestError, TimeoutError } from 'got';
import { NotYetError, OutageError } from '../../errors.js';
import { type Gate, OPEN_GATE } from '../../provider-gate.js';
import { type Answer, type Asked, nameOf, readAnswer, TokenRefusedError } from './answers.js';
import type { ZohoToken, ZohoTokenSource } from './token.js';

export type ZohoCall = Asked & {
  query?: Record<string, string>;
  body?: unknown;
  /** Called right before the request goes out; what it throws is thrown. */
  beforeSend?: () => void;
  /** It leaves by then or not at all (`NotYetError`), whatever it waited for: its turn, a new token, a connection. `performance.now()` */
  sendBy?: number;
};

export type ZohoClient = {
  /** The parsed body, `undefined` where there is none. Throws what `readAnswer` throws, and the signal's reason. */
  send: (call: ZohoCall, signal: AbortSignal) => Promise<unknown>;
};

/** Nothing was sent when a call fails like this. */
const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
const NOT_SENT_PHASES = new Set(['lookup', 'connect', 'secureConnect']);
const CONNECT_MS_MAX = 10_000;
const LATE_WAIT_MS = 500;

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
      if (!(await token.invalidate(first.accessToken))) throw noTokenHelps(error);
    }
    const second = await token.get(signal);
    try {
      return await ask(call, second, signal);
    } catch (error) {
      if (!(error instanceof TokenRefusedError)) throw error;
      await token.noteRefused(second.accessToken);
      throw noTokenHelps(error);
    }
  }

  function ask(call: ZohoCall, good: ZohoToken, signal: AbortSignal): Promise<unknown> {
    const exchanged = async () => readAnswer(call, await exchange(call, good, signal));
    // A write follows on a look-up, which grows old.
    return gate.pass(exchanged, { signal, isUrgent: call.writes, beginBy: call.sendBy });
  }

  async function exchange(call: ZohoCall, { accessToken, apiDomain }: ZohoToken, signal: AbortSignal): Promise<Answer> {
    call.beforeSend?.();
    const departure = watchDeparture(call);
    try {
      const request = got(`${apiDomain}${call.path}`, {
        method: call.method as 'GET' | 'POST' | 'PUT',
        headers: { authorization: `Zoho-oauthtoken ${accessToken}` },
        ...(call.query && { searchParams: call.query }),
        ...(call.body !== undefined && { json: call.body }),
        // The token must not follow a redirect to another host.
        followRedirect: false,
        retry: { limit: 0 },
        signal: AbortSignal.any([signal, departure.late]),
        throwHttpErrors: false,
        timeout: { lookup: connectMs, connect: connectMs, secureConnect: connectMs, request: timeoutMs },
      });
      request.on('request', departure.follow);
      const { statusCode, body, headers } = await request;
      const creditsLeft = Number(headers['x-api-credits-remaining'] ?? Number.NaN);
      if (Number.isFinite(creditsLeft)) gate.callsLeft(creditsLeft);
      return { status: statusCode, text: body, retryAfter: headers['retry-after'] };
    } catch (error) {
      signal.throwIfAborted();
      departure.late.throwIfAborted();
      if (error instanceof RequestError) throw noAnswer(call, error);
      throw error;
    } finally {
      departure.end();
    }
  }

  return { send };
}

function noTokenHelps({ message }: TokenRefusedError): OutageError {
  return new OutageError(`${message}, with a new token too: check that ZOHO_DC and ZOHO_API_URL fit the account`, {
    code: 'zoho_invalid_token',
    provider: 'zoho',
    kind: 'configuration',
  });
}

/** `late` is aborted where the request has no connection when it should have left: one that has is on its way. */
function watchDeparture(call: ZohoCall) {
  const late = new AbortController();
  const abort = () =>
    late.abort(
      new NotYetError(`What was seen in Zoho is too old by now for ${nameOf(call)}`, { delayMs: LATE_WAIT_MS }),
    );
  const leftMs = (call.sendBy ?? Number.POSITIVE_INFINITY) - performance.now();
  if (leftMs <= 0) abort();
  late.signal.throwIfAborted();
  const timer = leftMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(abort, leftMs);
  const end = () => clearTimeout(timer);
  const follow = (request: ClientRequest) =>
    request.once('socket', (socket) => {
      if (request.reusedSocket) end();
      else socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', end);
    });
  return { late: late.signal, follow, end };
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
