/**
 * Bounds what one connection asks for at once. Node reads 64 KB at a time and starts each request in them, some two thousand
 * where they are short, before the first is answered. Hardly any client sends a second one before it has its answer.
 */
import { EventEmitter } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Emits the requests that are to be answered. */
export type Requests = EventEmitter<{ request: [request: IncomingMessage, response: ServerResponse] }>;

const UNANSWERED_MAX = 16;

/** Takes the place of the server's own event: of a connection that asks for too much nobody else sees the rest. */
export function boundRequests(server: Server): Requests {
  const requests: Requests = new EventEmitter();
  const unanswered = new WeakMap<Socket, number>();

  server.on('request', (request, response) => {
    const { socket } = request;
    const count = unanswered.get(socket) ?? 0;
    if (count === UNANSWERED_MAX) {
      stopParsing(socket);
      socket.destroy();
      return;
    }
    unanswered.set(socket, count + 1);
    response.once('close', () => unanswered.set(socket, unanswered.get(socket)! - 1));
    requests.emit('request', request, response);
  });
  return requests;
}

type ParsedSocket = Socket & { parser?: { onIncoming: () => number } | null };

/** As after an upgrade: what comes is no HTTP. */
const NOTHING_FOLLOWS = 2;

/**
 * Node documents no way to drop what it has read and not parsed. Were there no parser here, each request of the rest would cost
 * an error as the connection ends, 64 KB of them a tenth of a second; no more than that.
 */
function stopParsing({ parser }: ParsedSocket): void {
  if (parser) parser.onIncoming = () => NOTHING_FOLLOWS;
}
