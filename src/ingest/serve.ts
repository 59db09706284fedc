/** Listens, and stops without dropping what is in flight. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export type ServeOptions = {
  /** 0 for any free port. */
  port: number;
  /** A request, body included, must be complete within this time. */
  requestTimeoutMs?: number;
};

export type Serving = {
  port: number;
  /** Takes no new requests, lets those in flight finish within `graceMs`, then cuts what is left. */
  stop: (graceMs: number) => Promise<void>;
};

const REQUEST_TIMEOUT_MS = 10_000;

export async function serve(
  listener: RequestListener,
  { port, requestTimeoutMs = REQUEST_TIMEOUT_MS }: ServeOptions,
): Promise<Serving> {
  const server = createServer({
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(1_000, requestTimeoutMs),
  });
  let isStopping = false;
  server.on('request', (request, response) => {
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
    server.once('error', reject);
    server.listen(port, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
