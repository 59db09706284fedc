/** A worker's own port: `/healthz`, 503 once its read loop is dead although Redis answers, and `/metrics`. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from './config.js';
import type { Worker } from './runtime/worker.js';

/** Throws `ConfigError` where it can't have that port. */
export async function serveWorker(
  worker: Pick<Worker, 'isAlive' | 'name' | 'metrics'>,
  port: number,
): Promise<{ port: number; stop: () => Promise<void> }> {
  const server = createServer(async (request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (path === '/healthz') {
      const isAlive = worker.isAlive();
      response.writeHead(isAlive ? 200 : 503, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ status: isAlive ? 'ok' : 'dead', worker: worker.name }));
    } else if (path === '/metrics') {
      const text = await worker.metrics.registry.metrics().catch(() => undefined);
      if (text === undefined) return refuse(response, 503, 'unavailable', 'The figures could not be read');
      response.writeHead(200, { 'content-type': worker.metrics.registry.contentType });
      response.end(text);
    } else refuse(response, 404, 'not_found', 'There is /healthz and /metrics');
  });
  server.requestTimeout = 5_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', ({ code }: NodeJS.ErrnoException) =>
      reject(new ConfigError(`WORKER_PORT: should be a port that is free and allowed; this one is not (${code})`)),
    );
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
