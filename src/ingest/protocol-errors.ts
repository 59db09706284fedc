/** Answers what is no request that a route could see, as HTTP itself refuses it, in the shape of every other refusal. */
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { HttpProblem } from './problem.js';
import type { Requests } from './requests.js';

/** By Node's code of the error; anything else is no HTTP. */
const PROBLEMS: Record<string, HttpProblem> = {
  ERR_HTTP_REQUEST_TIMEOUT: new HttpProblem(408, 'request_timeout', 'The request did not come in time.'),
  HPE_HEADER_OVERFLOW: new HttpProblem(431, 'headers_too_large', 'The head of the request is too large.'),
  HPE_CHUNK_EXTENSIONS_OVERFLOW: new HttpProblem(413, 'payload_too_large', 'The chunks of the body are too large.'),
};
const NO_HTTP = new HttpProblem(400, 'bad_request', 'This is no HTTP request.');

export function answerProtocolErrors(server: Server, requests: Requests): void {
  /** The latest of each connection; those before it are answered first. */
  const exchanges = new WeakMap<Socket, { request: IncomingMessage; response: ServerResponse }>();
  const ending = new WeakSet<Socket>();
  requests.on('request', (request, response) => exchanges.set(request.socket, { request, response }));
  // An expectation that nobody knows may be ignored; Node would answer it by itself, in another shape.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (ending.has(socket)) return;
    ending.add(socket);
    const { request, response } = exchanges.get(socket) ?? {};
    const isAnswering = response !== undefined && !response.writableFinished;
    if (isAnswering && request?.complete) {
      // What came whole before the nonsense has its own answer.
      response.once('close', () => socket.destroySoon());
    } else if (!socket.writable || (isAnswering && response.headersSent)) {
      socket.destroy();
    } else {
      socket.end(format(PROBLEMS[error.code ?? ''] ?? NO_HTTP));
      socket.destroySoon();
    }
  });
}

function format({ status, code, message }: HttpProblem): string {
  const body = JSON.stringify({ error: { code, message } });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${body.length}`,
    'X-Content-Type-Options: nosniff',
    'Cache-Control: no-store',
    'Connection: close',
  ];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}
