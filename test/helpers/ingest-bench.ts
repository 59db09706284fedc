/** Ingest as it is served, on a Redis of the test's own, and a client that posts signed webhooks to it. */
import type { Redis } from 'ioredis';
import { pino } from 'pino';
import { type IngestDeps, makeApp } from '../../src/ingest/app.js';
import { makeIngestMetrics } from '../../src/ingest/metrics.js';
import { makeReadiness } from '../../src/ingest/readiness.js';
import { type Serving, serve } from '../../src/ingest/serve.js';
import { makeSources, type SourceSettings } from '../../src/ingest/sources/index.js';
import { makeAppend } from '../../src/lib/append.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis } from '../../src/lib/redis.js';
import { startRedis, type TestRedis } from './redis-server.js';
import { waitFor } from './wait-for.js';
import { CALENDLY_KEY, calendlySignature, READAI_KEY, readaiSignature } from './webhooks.js';

export const MB = 1024 * 1024;
const PATIENCE_MS = 8_000;

export const KEYED: SourceSettings = {
  calendly: { signingKeys: [CALENDLY_KEY], toleranceS: 300 },
  readai: { signingKeys: [READAI_KEY], sharedSecret: undefined },
  internalDomains: ['seller.example'],
};
export const KEYLESS: SourceSettings = {
  ...KEYED,
  calendly: { signingKeys: [], toleranceS: 300 },
  readai: { signingKeys: [], sharedSecret: undefined },
};

type StartOptions = Partial<IngestDeps> & { settings?: SourceSettings; requestTimeoutMs?: number };

export type IngestBench = {
  server: TestRedis;
  /** For looking on; the app has a client of its own, `ingest`. */
  redis: Redis;
  ingest: Redis;
  /** Serves the app with these dependencies instead; answers its URL. */
  start: (options?: StartOptions) => Promise<string>;
  /** What was logged since the last `reset`, parsed. */
  logLines: () => Record<string, unknown>[];
  entriesOf: (stream: string) => Promise<[id: string, fields: string[]][]>;
  lastEventId: (stream: string) => Promise<string>;
  /** Stops what was served, empties Redis. */
  reset: () => Promise<void>;
  stop: () => Promise<void>;
};

/** `isPatient`: a Redis that answers late is waited for, longer than any sender would; for what is not about one that is away. */
export async function startIngestBench({ isPatient = false } = {}): Promise<IngestBench> {
  const server = await startRedis();
  const redis = server.connect();
  const ingest = connectRedis({ url: server.url, role: isPatient ? 'drain' : 'ingest' });
  const patience = isPatient ? { timeoutMs: PATIENCE_MS } : {};
  await waitFor('the connection', () => ingest.status === 'ready');
  const servings: Serving[] = [];
  const lines: string[] = [];
  const stopServings = () => Promise.all(servings.splice(0).map((serving) => serving.stop(0)));

  return {
    server,
    redis,
    ingest,
    async start({ settings = KEYED, requestTimeoutMs = 10_000, ...deps } = {}) {
      const metrics = makeIngestMetrics();
      const app = makeApp({
        sources: makeSources(settings),
        append: makeAppend({ redis: ingest, keyPrefix: '', idempotencyTtlS: 3_600, ...patience }),
        allowUnverified: false,
        bodyBytesMax: 10 * MB,
        metrics,
        metricsText: () => metrics.registry.metrics(),
        ready: makeReadiness({ redis: ingest, keys: makeKeys(''), ...patience }),
        debug: undefined,
        access: { tokens: [], isProduction: false },
        now: () => new Date(),
        log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) }),
        ...deps,
      });
      const serving = await serve(app.callback(), { port: 0, requestTimeoutMs });
      servings.push(serving);
      return `http://127.0.0.1:${serving.port}`;
    },
    logLines: () => lines.map((line) => JSON.parse(line)),
    entriesOf: (stream) => redis.xrange(`events:${stream}`, '-', '+'),
    async lastEventId(stream) {
      const [entry] = await redis.xrevrange(`events:${stream}`, '+', '-', 'COUNT', 1);
      return `${stream}-${entry?.[0]}`;
    },
    async reset() {
      await stopServings();
      lines.length = 0;
      await redis.flushall();
    },
    async stop() {
      await stopServings();
      ingest.disconnect();
      await server.stop();
    },
  };
}

/** Whatever an answer may hold. */
export type AnswerBody = {
  status?: string;
  eventId?: string;
  idempotencyKey?: string;
  reason?: string;
  changed?: boolean;
  error?: { code: string; message: string; issues?: { path: string; message: string }[] };
};

/** `body` is empty where the answer is no JSON. */
export type Answer = { status: number; body: AnswerBody; text: string; headers: Headers };

export async function send(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') && text !== '';
  return { status: response.status, body: isJson ? JSON.parse(text) : {}, text, headers: response.headers };
}

/** Delivers it as its sender does: again where it is answered 503, as Redis was late. */
export function untilAnswered<A extends { status: number }>(deliver: () => Promise<A>): Promise<A> {
  return waitFor('a webhook to be answered', async () => {
    const answer = await deliver();
    return answer.status !== 503 && answer;
  });
}

type Sent = string | Buffer;

/** As JSON, unless `headers` say otherwise. */
export function post(url: string, body: Sent, headers: Record<string, string> = {}): Promise<Answer> {
  return send(url, {
    method: 'POST',
    body: body as BodyInit,
    headers: { 'content-type': 'application/json', ...headers },
  });
}

/** Signed, unless `headers` say otherwise. */
export function postCalendly(base: string, body: Sent, headers: Record<string, string> = {}): Promise<Answer> {
  const signature = { 'calendly-webhook-signature': calendlySignature(body) };
  return post(`${base}/webhooks/calendly`, body, { ...signature, ...headers });
}

/** Signed, unless `headers` say otherwise. */
export function postReadai(base: string, body: Sent, headers: Record<string, string> = {}): Promise<Answer> {
  return post(`${base}/webhooks/readai`, body, { 'x-read-signature': readaiSignature(body), ...headers });
}

/** What a refusal is known by. */
export function errorOf({ status, body }: Answer): [status: number, code: string | undefined] {
  return [status, body.error?.code];
}
