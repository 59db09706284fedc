/** Reads a request's bytes as they came, and no more of them than the limit. */
import type { IncomingMessage } from 'node:http';
import type { BodyBudget } from './body-budget.js';
import { ClientGoneError, HttpProblem, unavailable } from './problem.js';

export type ReadBodyOptions = {
  bytesMax: number;
  /** False for a body that is refused whatever it holds: read, so that its sender sees the answer, but not held. */
  isKept: boolean;
  budget: BodyBudget;
};

/**
 * How long a body that is too large is read on and thrown away: a sender whose connection is reset while it still writes
 * would never see the answer.
 */
const LINGER_MS = 1_000;
/** What a chunk takes beside its bytes: a body that comes byte by byte must not pass for small. */
const CHUNK_COST_BYTES = 256;
const CLOSE = { Connection: 'close' };

/**
 * Resolves to the body, empty where it is not kept. Throws `HttpProblem` 413 over the limit and 503 where bodies take too
 * much memory together, `ClientGoneError` when the sender hangs up.
 */
export function readBody(request: IncomingMessage, { bytesMax, isKept, budget }: ReadBodyOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let linger: NodeJS.Timeout | undefined;
    const share = budget.open(() => settle(() => reject(unavailable(CLOSE))));

    const settle = (act: () => void) => {
      clearTimeout(linger);
      request.off('data', take).off('end', finish).off('close', giveUp);
      share.close();
      act();
    };
    const refuse = () => settle(() => reject(tooLarge(bytesMax)));
    const giveUp = () => settle(() => reject(new ClientGoneError('The sender hung up')));
    const finish = () => (linger === undefined ? settle(() => resolve(Buffer.concat(chunks))) : refuse());
    const discard = () => {
      chunks.length = 0;
      share.close();
      linger ??= setTimeout(refuse, LINGER_MS);
    };
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) return discard();
      if (!isKept) return;
      chunks.push(chunk);
      share.take(chunk.length + CHUNK_COST_BYTES);
    };

    if (Number(request.headers['content-length'] ?? 0) > bytesMax) discard();
    request.on('data', take).on('end', finish).on('close', giveUp);
    // What the sender's socket says as it breaks; `close` follows it.
    request.on('error', () => {});
  });
}

function tooLarge(bytesMax: number): HttpProblem {
  return new HttpProblem(413, 'payload_too_large', `The body has more than ${bytesMax} bytes.`, { headers: CLOSE });
}
