/**
 * What every stand-in shares: a server on 127.0.0.1 that keeps a log of its calls and can be told to misbehave, from a
 * test (`faults`) or over HTTP (`/_standin/…`). A stand-in brings one function, `handle`, and its own state.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { type Fault, type FaultSwitch, type Matcher, makeFaultSwitch, type Switch, takeFault } from './http-faults.js';

export type { Fault, FaultSwitch, Matcher } from './http-faults.js';

export type StandinRequest = {
  method: string;
  /** Without the query. */
  path: string;
  query: URLSearchParams;
  headers: Record<string, string>;
  /** JSON and forms are parsed by their content type; anything else is text, `undefined` when empty. */
  body: unknown;
  rawBody: string;
};

/** A string body is sent as it is (HTML unless `headers` say otherwise), anything else as JSON, none as an empty body. */
export type StandinReply = { status: number; body?: unknown; headers?: Record<string, string> };

export type Call = {
  /** Counts from 1, in order of arrival. */
  seq: number;
  /** ISO 8601. */
  at: string;
  method: string;
  path: string;
  query: Record<string, string>;
  /** Credentials are masked: `Bearer ***`. */
  headers: Record<string, string>;
  /** Credentials in forms are masked too. */
  body: unknown;
  /** `undefined` while under way and when no answer was given. */
  status: number | undefined;
  /** When its work was done, ISO 8601; absent where it was not. */
  doneAt?: string;
  /** The fault that hit this call. */
  fault?: Fault;
};

export type Standin = {
  url: string;
  port: number;
  calls: Call[];
  faults: FaultSwitch;
  /** Refuses connections until `comeBack`; what is open is cut. State is kept. */
  goDown: () => Promise<void>;
  comeBack: () => Promise<void>;
  stop: () => Promise<void>;
};

export type StandinOptions = {
  port?: number | undefined;
  handle: (request: StandinRequest) => StandinReply | Promise<StandinReply>;
  /** Asked before latency and work, with the other requests under way: a reply refuses the call (concurrency limits). */
  admit?: (request: StandinRequest, underWay: ReadonlySet<StandinRequest>) => StandinReply | undefined;
  /** Further routes under `/_standin/`, by method and name: `'GET state'`. The result is sent as JSON. */
  control?: Record<string, (request: StandinRequest) => unknown>;
  /** Latency of every call, as if the real thing were far away. */
  latencyMs?: number | undefined;
};

const CALLS_KEPT = 100_000;
const SECRET_HEADERS = new Set(['authorization', 'cookie', 'x-goog-api-key']);
const SECRET_FORM_KEYS = new Set(['client_secret', 'refresh_token', 'token']);

export async function startStandin(options: StandinOptions): Promise<Standin> {
  const calls: Call[] = [];
  const switches: Switch[] = [];
  const faults = makeFaultSwitch(switches);
  const underWay = new Set<StandinRequest>();
  const stopped = new AbortController();
  let seq = 0;

  const control: NonNullable<StandinOptions['control']> = {
    'POST faults': ({ body }) => {
      const { method, path, times, ...fault } = body as Matcher & Fault;
      faults.on(definedOnly({ method, path, times }), fault);
      return { faults: switches.length };
    },
    'DELETE faults': () => {
      faults.clear();
      return { faults: 0 };
    },
    'GET calls': ({ query }) => ({ calls: calls.filter((call) => call.seq > Number(query.get('after') ?? 0)) }),
    ...options.control,
  };

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await readRequest(incoming);
    if (request.path.startsWith('/_standin/')) return send(response, await answerControl(control, request));
    const call = record(request);
    const refusal = options.admit?.(request, underWay);
    if (refusal) {
      call.status = refusal.status;
      return send(response, refusal);
    }
    underWay.add(request);
    try {
      await serve(request, call, response);
    } finally {
      underWay.delete(request);
    }
  }

  async function serve(request: StandinRequest, call: Call, response: ServerResponse): Promise<void> {
    const fault = takeFault(switches, request) ?? {};
    if (Object.keys(fault).length > 0) call.fault = fault;
    const latencyMs = (options.latencyMs ?? 0) + (fault.latencyMs ?? 0);
    await fault.until;
    if (latencyMs > 0) await wait(latencyMs, undefined, { signal: stopped.signal });
    if (fault.reset) return void response.socket?.resetAndDestroy();
    if (fault.hang) return untilClosed(response);
    const instead = fault.status === undefined ? undefined : replyOf(fault, fault.status);
    const reply = instead && !fault.doneButAnswerLost ? instead : await work(request, call);
    if (fault.doneButAnswerLost && !instead) return void response.socket?.destroy();
    const given = instead ?? reply;
    call.status = given.status;
    return send(response, given, fault.slowBodyMs);
  }

  async function work(request: StandinRequest, call: Call): Promise<StandinReply> {
    const reply = await options.handle(request);
    if (reply.status < 400) call.doneAt = new Date().toISOString();
    return reply;
  }

  function record(request: StandinRequest): Call {
    seq += 1;
    const call: Call = {
      seq,
      at: new Date().toISOString(),
      method: request.method,
      path: request.path,
      query: Object.fromEntries(request.query),
      headers: maskHeaders(request.headers),
      body: maskForm(request),
      status: undefined,
    };
    calls.push(call);
    if (calls.length > CALLS_KEPT) calls.splice(0, CALLS_KEPT / 10);
    return call;
  }

  const server = createServer((incoming, response) => {
    answer(incoming, response).catch((error: unknown) => {
      if (stopped.signal.aborted || response.headersSent) response.destroy();
      else send(response, { status: 500, headers: { 'x-standin-bug': String(error) }, body: `stand-in: ${error}` });
    });
  });
  server.keepAliveTimeout = 60_000;
  const port = await listen(server, options.port ?? 0);

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    calls,
    faults,
    goDown: () => close(server),
    comeBack: async () => {
      if (!server.listening) await listen(server, port);
    },
    stop: async () => {
      stopped.abort();
      await close(server);
    },
  };
}

/** Resolves with the first call that satisfies `probe`, past or to come. Fails after `timeoutMs`. */
export async function waitForCall(
  standin: { calls: Call[] },
  probe: (call: Call) => boolean,
  timeoutMs = 30_000,
): Promise<Call> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const call = standin.calls.find(probe);
    if (call) return call;
    if (Date.now() > until) throw new Error(`no such call within ${timeoutMs} ms (${standin.calls.length} others)`);
    await wait(5);
  }
}

async function answerControl(
  control: NonNullable<StandinOptions['control']>,
  request: StandinRequest,
): Promise<StandinReply> {
  const route = control[`${request.method} ${request.path.slice('/_standin/'.length)}`];
  return route
    ? { status: 200, body: (await route(request)) ?? {} }
    : { status: 404, body: { error: 'no such control' } };
}

async function readRequest(incoming: IncomingMessage): Promise<StandinRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const rawBody = Buffer.concat(chunks).toString('utf8');
  const url = new URL(incoming.url ?? '/', 'http://standin');
  const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]));
  const body = parseBody(rawBody, headers['content-type'] ?? '');
  return { method: incoming.method ?? 'GET', path: url.pathname, query: url.searchParams, headers, body, rawBody };
}

function parseBody(rawBody: string, contentType: string): unknown {
  if (rawBody === '') return undefined;
  if (contentType.includes('x-www-form-urlencoded')) return Object.fromEntries(new URLSearchParams(rawBody));
  if (!contentType.includes('json')) return rawBody;
  try {
    return JSON.parse(rawBody);
  } catch {
    return rawBody;
  }
}

function replyOf({ body, headers }: Fault, status: number): StandinReply {
  return { status, body: body ?? `<html><body>${status}</body></html>`, ...(headers && { headers }) };
}

function send(response: ServerResponse, { status, body, headers }: StandinReply, slowBodyMs = 0): void | Promise<void> {
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  if (text !== '') response.setHeader('content-type', typeof body === 'string' ? 'text/html' : 'application/json');
  response.writeHead(status, headers);
  if (slowBodyMs <= 0) return void response.end(text);
  const half = Math.floor(text.length / 2);
  response.write(text.slice(0, half));
  const rest = setTimeout(() => response.end(text.slice(half)), slowBodyMs);
  return untilClosed(response).finally(() => clearTimeout(rest));
}

function untilClosed(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => response.once('close', () => resolve()));
}

function maskHeaders(headers: Record<string, string>): Record<string, string> {
  const masked = ([name, value]: [string, string]): [string, string] => {
    if (!SECRET_HEADERS.has(name)) return [name, value];
    return [name, value.includes(' ') ? `${value.split(' ')[0]} ***` : '***'];
  };
  return Object.fromEntries(Object.entries(headers).map(masked));
}

function maskForm({ body, headers }: StandinRequest): unknown {
  if (!headers['content-type']?.includes('x-www-form-urlencoded') || typeof body !== 'object') return body;
  const masked = Object.entries(body ?? {}).map(([name, value]) => [name, SECRET_FORM_KEYS.has(name) ? '***' : value]);
  return Object.fromEntries(masked);
}

function definedOnly(matcher: { [K in keyof Matcher]: Matcher[K] | undefined }): Matcher {
  return Object.fromEntries(Object.entries(matcher).filter(([, value]) => value !== undefined)) as Matcher;
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    if (!server.listening) return resolve();
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
