/** A worker's own port: `/healthz`, 503 once its read loop is dead although Redis answers, and `/metrics`. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { portError } from './config.js';
import { within } from './runtime/within.js';
import type { Worker } from './runtime/worker.js';

type Served = Pick<Worker, 'isAlive' | 'name' | 'metrics'>;

/** Where Redis is there a worker runs sooner: then `ok` is its first answer. */
const STARTING_MS = 500;

/**
 * Throws `ConfigError` where it can't have that port. There is no worker yet while it waits for Redis: that is healthy, too, as no
 * restart would bring Redis back.
 */
export async function serveWorker(
  starting: Promise<Served>,
  port: number,
): Promise<{ port: number; stop: () => Promise<void> }> {
  let worker: Served | undefined;
  void starting.then((started) => {
    worker = started;
  });
  const server = createServer(async (request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (worker === undefined) await within(STARTING_MS, starting);
    if (path === '/healthz') {
      const isAlive = worker?.isAlive() ?? true;
      const status = worker === undefined ? 'starting' : isAlive ? 'ok' : 'dead';
      response.writeHead(isAlive ? 200 : 503, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ status, worker: worker?.name }));
    } else if (path === '/metrics') {
      const text = await worker?.metrics.registry.metrics().catch(() => undefined);
      if (worker === undefined || text === undefined)
        return refuse(response, 503, 'unavailable', 'The figures could not be read');
      response.writeHead(200, { 'content-type': worker.metrics.registry.contentType });
      response.end(text);
    } else refuse(response, 404, 'not_found', 'There is /healthz and /metrics');
  });
  server.requestTimeout = 5_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(portError('WORKER_PORT', error)));
    server.listen(port, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ error: { code, message } }));
}
