/** Listens, and stops without dropping what is in flight. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { portError } from '../lib/config.js';
import { boundConnections } from './connections.js';
import { answerProtocolErrors } from './protocol-errors.js';
import { boundRequests } from './requests.js';

export type ServeOptions = {
  /** 0 for any free port. */
  port: number;
  /** A request, body included, must be complete within this time. */
  requestTimeoutMs?: number;
  /** [by the limit on open files] How many connections may be open at once. */
  connectionsMax?: number | undefined;
};

export type Serving = {
  port: number;
  /** Takes no new requests, lets those in flight finish within `graceMs`, then cuts what is left. */
  stop: (graceMs: number) => Promise<void>;
};

const REQUEST_TIMEOUT_MS = 10_000;
/** A connection between two requests. */
const KEEP_ALIVE_MS = 5_000;
/** A connection on which nothing moves: a client that does not take its answer. */
const SILENCE_MS = 30_000;
const HEAD_BYTES_MAX = 16 * 1024;

export async function serve(
  listener: RequestListener,
  { port, requestTimeoutMs = REQUEST_TIMEOUT_MS, connectionsMax }: ServeOptions,
): Promise<Serving> {
  const server = createServer({
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(1_000, requestTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEAD_BYTES_MAX,
    // The app refuses it, in the shape of every other refusal.
    requireHostHeader: false,
  });
  server.timeout = SILENCE_MS;
  // The head's size bounds them. Node would drop those beyond a count in silence, and a proxy's own come last: then a
  // request through a tunnel would look like one of this machine.
  server.maxHeadersCount = 0;
  const requests = boundRequests(server);
  boundConnections(server, requests, connectionsMax);
  answerProtocolErrors(server, requests);
  let isStopping = false;
  requests.on('request', (request, response) => {
    // A kept-alive connection would otherwise outlive its last answer, and hold up the stop.
    response.once('finish', () => isStopping && setImmediate(() => server.closeIdleConnections()));
    listener(request, response);
  });
  await listen(server, port);
  return {
    port: (server.address() as AddressInfo).port,
    stop(graceMs) {
      isStopping = true;
      return new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), graceMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
      });
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const refuse = (error: Error) => reject(portError('PORT', error));
    server.once('error', refuse);
    server.listen(port, () => {
      server.off('error', refuse);
      resolve();
    });
  });
}
