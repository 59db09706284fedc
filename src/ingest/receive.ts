/** Takes one webhook in: size, content type, authenticity, JSON, test delivery, type, schema, in this order. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Logger } from 'pino';
import { type AppendAnswer, type RejectedWebhook, StoreUnavailableError } from '../lib/append.js';
import type { BodyBudget } from './body-budget.js';
import type { LogBounded } from './bounded-log.js';
import type { IngestMetrics } from './metrics.js';
import { parseJson, whyNoJson } from './parse-json.js';
import { HttpProblem, toProblem } from './problem.js';
import { readBody } from './read-body.js';
import type { Issue, Refusal, Source } from './sources/source.js';
import { reasonOf } from './spool/refusal.js';
import type { SpooledAnswer, TakeIn } from './spool/spool.js';

export type ReceiveDeps = {
  /** To Redis alone, or to the spool where that is away. */
  append: TakeIn;
  /** Concerns only a source that has no key configured. */
  allowUnverified: boolean;
  bodyBytesMax: number;
  metrics: Pick<IngestMetrics, 'received'>;
  now: () => Date;
  log: Logger;
};

/** What the webhooks of one app share. */
export type ReceiveShared = { budget: BodyBudget; logBounded: LogBounded };

type Deps = ReceiveDeps & ReceiveShared;

type Answer = AppendAnswer | SpooledAnswer | { status: 'ignored'; reason: string };

/** `unusable` says why, for the log: a sender that is acknowledged is not told. */
type Taken = { answer: Answer; unusable?: string };

export type Reply = { status: number; body: Record<string, unknown> };

/** The reply to one webhook, with its log line and its figures. Throws what `toProblem` turns into an answer. */
export async function receive(source: Source, request: IncomingMessage, deps: Deps): Promise<Reply> {
  const startedAt = performance.now();
  const report = (status: string, more: object) => {
    const ms = Math.round(performance.now() - startedAt);
    deps.metrics.received(source.name, status, ms);
    return { source: source.name, status, ms, ...more };
  };
  try {
    const { answer, unusable } = await takeIn(source, request, deps);
    deps.log.info(report(answer.status, { ...describe(answer), unusable }), 'webhook');
    return toReply(answer);
  } catch (error) {
    const { code, status } = toProblem(error);
    const line = report(code, whyOf(error));
    deps.logBounded(status < 500 ? 'info' : 'warn', `${source.name} ${code}`, line, 'webhook');
    throw error;
  }
}

async function takeIn(source: Source, request: IncomingMessage, deps: Deps): Promise<Taken> {
  const { headers } = request;
  // A refusal that is certain by now still waits for the body: its size comes first, and its sender has to see the answer.
  const refusal = refuseHeaders(source, headers, deps);
  const { bodyBytesMax: bytesMax, budget } = deps;
  const rawBody = await readBody(request, { bytesMax, isKept: refusal === undefined, budget });
  if (refusal !== undefined) throw refusal;
  const isAuthentic = authenticate(source, rawBody, headers, deps);
  const unusable = async (reason: RejectedWebhook['reason'], refusal: HttpProblem): Promise<Taken> => {
    // A sender that proved itself would send the body again and again; it is kept, and acknowledged. Others get to know.
    if (!isAuthentic) throw refusal;
    const answer = await deps.append({ kind: 'rejected', source: source.name, reason, body: rawBody });
    return { answer, unusable: refusal.message };
  };

  const json = parseJson(rawBody);
  if (json === undefined) return unusable('invalid_json', new HttpProblem(400, 'invalid_json', whyNoJson(rawBody)));
  const reading = source.read(json, rawBody);
  switch (reading.kind) {
    case 'ignored':
      return { answer: { status: 'ignored', reason: reading.reason } };
    case 'invalid':
      return unusable('invalid_payload', invalidPayload(reading.issues));
    case 'event':
      return { answer: await deps.append(reading) };
  }
}

/** Content type, then as much of the authenticity as the head can tell. */
function refuseHeaders(source: Source, headers: IncomingHttpHeaders, deps: Deps): HttpProblem | undefined {
  if (!isJson(headers)) {
    const message = 'The body should be application/json without a content encoding.';
    return new HttpProblem(415, 'unsupported_media_type', message);
  }
  if (!source.isVerifiable) return deps.allowUnverified ? undefined : new SignatureProblem({ reason: 'missing' });
  const refusal = source.judgeHeaders(headers, deps.now());
  return refusal && new SignatureProblem(refusal);
}

function isJson(headers: IncomingHttpHeaders): boolean {
  const type = (headers['content-type'] ?? '').split(';', 1)[0]!.trim();
  const coding = (headers['content-encoding'] ?? 'identity').trim();
  return /^application\/([\w.+-]+\+)?json$/i.test(type) && /^(identity)?$/i.test(coding);
}

/** True for a proven sender, false for one that nothing can be asked of. Throws 401. */
function authenticate(source: Source, rawBody: Buffer, headers: IncomingHttpHeaders, deps: Deps): boolean {
  if (!source.isVerifiable) return false;
  const now = deps.now();
  const verdict = source.checkAuthenticity(rawBody, headers, now);
  if (verdict === 'authentic') return true;
  throw new SignatureProblem(source.judgeHeaders(headers, now) ?? { reason: verdict });
}

class SignatureProblem extends HttpProblem {
  /** For the log alone. */
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(401, 'invalid_signature', 'The signature is missing, wrong or too old.');
    this.refusal = refusal;
  }
}

function invalidPayload(issues: readonly Issue[]): HttpProblem {
  return new HttpProblem(422, 'invalid_payload', 'The body does not have the expected shape.', { issues });
}

const HTTP_STATUS = { accepted: 202, quarantined: 202, spooled: 202, duplicate: 200, ignored: 200 } as const;

function toReply(answer: Answer): Reply {
  const status = HTTP_STATUS[answer.status];
  if (answer.status !== 'quarantined') return { status, body: answer };
  return { status, body: { status: answer.status, eventId: answer.eventId } };
}

function describe(answer: Answer): object {
  if (answer.status === 'ignored') return { reason: answer.reason };
  if (answer.status === 'spooled') return { spoolId: answer.spoolId, key: answer.idempotencyKey };
  const { eventId, idempotencyKey } = answer;
  return { eventId, key: idempotencyKey, ...('changed' in answer ? { changed: true } : {}) };
}

function whyOf(error: unknown): object {
  if (error instanceof SignatureProblem) return error.refusal;
  if (error instanceof StoreUnavailableError) return { reason: reasonOf(error) };
  return error instanceof HttpProblem ? {} : { err: error };
}
