/** HTTP as no client library would speak it: bytes over a socket. */
import { connect, type Socket } from 'node:net';

export type RawAnswer = {
  /** 0 where there was none. */
  status: number;
  /** Lower-cased names; the last of several. */
  headers: Record<string, string>;
  body: string;
};

/** Writes the bytes and reads until the server closes. `hangsUp` ends our side at once, without waiting for an answer. */
export async function exchange(
  base: string,
  bytes: string | Buffer,
  { hangsUp = false }: { hangsUp?: boolean } = {},
): Promise<RawAnswer[]> {
  const socket = open(base);
  const received = readAll(socket);
  const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
  if (hangsUp) socket.end(data);
  else socket.write(data);
  return parseAnswers(await received);
}

/** A socket that never throws; errors close it. */
export function open(base: string): Socket {
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  socket.on('error', () => {});
  return socket;
}

export function readAll(socket: Socket): Promise<string> {
  let received = '';
  socket.setEncoding('latin1');
  socket.on('data', (chunk) => {
    received += chunk;
  });
  return new Promise((resolve) => socket.once('close', () => resolve(received)));
}

/** The answers in the order they came. */
export function parseAnswers(received: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  let rest = received;
  while (rest !== '') {
    const headEnd = rest.indexOf('\r\n\r\n');
    const [statusLine = '', ...lines] = rest.slice(0, headEnd < 0 ? rest.length : headEnd).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    );
    const bodyStart = headEnd < 0 ? rest.length : headEnd + 4;
    const bodyEnd = bodyStart + Number(headers['content-length'] ?? 0);
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1] ?? 0);
    answers.push({ status, headers, body: rest.slice(bodyStart, bodyEnd) });
    if (status === 100) answers.pop();
    rest = headEnd < 0 ? '' : rest.slice(bodyEnd);
  }
  return answers;
}
