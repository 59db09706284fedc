/** Reads a request's bytes as they came, and no more of them than the limit. */
import type { IncomingMessage } from 'node:http';
import { ClientGoneError, HttpProblem } from './problem.js';

/**
 * How long a body that is too large is read on and thrown away: a sender whose connection is reset while it still writes
 * would never see the answer.
 */
const LINGER_MS = 1_000;

/** Throws `HttpProblem` 413 over the limit, `ClientGoneError` when the sender hangs up. */
export function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let linger: NodeJS.Timeout | undefined;

    const settle = (act: () => void) => {
      clearTimeout(linger);
      request.off('data', take).off('end', finish).off('close', giveUp);
      act();
    };
    const refuse = () => settle(() => reject(tooLarge(bytesMax)));
    const giveUp = () => settle(() => reject(new ClientGoneError('The sender hung up')));
    const finish = () => (linger === undefined ? settle(() => resolve(Buffer.concat(chunks, bytes))) : refuse());
    const discard = () => {
      chunks.length = 0;
      linger ??= setTimeout(refuse, LINGER_MS);
    };
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) discard();
      else chunks.push(chunk);
    };

    if (Number(request.headers['content-length'] ?? 0) > bytesMax) discard();
    request.on('data', take).on('end', finish).on('close', giveUp);
    // What the sender's socket says as it breaks; `close` follows it.
    request.on('error', () => {});
  });
}

function tooLarge(bytesMax: number): HttpProblem {
  return new HttpProblem(413, 'payload_too_large', `The body has more than ${bytesMax} bytes.`, {
    headers: { Connection: 'close' },
  });
}
