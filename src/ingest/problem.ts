/** What is answered when a request is refused: `{"error":{code,message,…}}`, and nothing of what went wrong inside. */
import { StoreUnavailableError } from '../lib/append.js';
import type { Issue } from './sources/source.js';

type Details = { headers?: Record<string, string>; issues?: readonly Issue[] };

/** A refusal. The message goes to the sender. */
export class HttpProblem extends Error {
  override readonly name = 'HttpProblem';
  readonly status: number;
  /** Machine-readable, snake_case, stable. */
  readonly code: string;
  readonly headers: Record<string, string>;
  readonly issues: readonly Issue[] | undefined;

  constructor(status: number, code: string, message: string, { headers = {}, issues }: Details = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
    this.issues = issues;
  }
}

/** The sender hung up before its request was complete: there is nobody left to answer. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError';
}

const RETRY_AFTER_S = '5';

export function unavailable(headers: Record<string, string> = {}): HttpProblem {
  return new HttpProblem(503, 'unavailable', 'The service cannot take this now. Try again soon.', {
    headers: { 'Retry-After': RETRY_AFTER_S, ...headers },
  });
}

export function notFound(): HttpProblem {
  return new HttpProblem(404, 'not_found', 'There is nothing here.');
}

/** Any error as what the sender is told of it. */
export function toProblem(error: unknown): HttpProblem {
  if (error instanceof HttpProblem) return error;
  if (error instanceof StoreUnavailableError) return unavailable();
  if (error instanceof ClientGoneError) return new HttpProblem(400, 'incomplete', 'The request was not complete.');
  return new HttpProblem(500, 'internal', 'The service failed to handle this request.');
}
