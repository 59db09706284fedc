/**
 * Keeps the number of connections within what the process can hold. One too many costs the connection that has waited
 * longest for its sender: slow senders only do harm by being many and staying long; an honest one is done in a moment.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Requests } from './requests.js';

const CONNECTIONS_MAX = 1_000;
const CONNECTIONS_MIN = 8;
/** Open files that are no connections: the runtime's own, Redis, the spool. */
const FILES_KEPT = 40;
/** Where the system does not tell. */
const FILES_USUAL = 1_024;

/** A request that has come whole is never cut: it is ours to answer. */
export function boundConnections(server: Server, requests: Requests, connectionsMax = chooseConnectionsMax()): void {
  // The request that each is in the midst of; the one that has waited longest for its sender first.
  const connections = new Map<Socket, IncomingMessage | undefined>();

  server.on('connection', (socket: Socket) => {
    if (connections.size >= connectionsMax) {
      const victim = findWaiting() ?? socket;
      connections.delete(victim);
      victim.destroy();
      if (victim === socket) return;
    }
    connections.set(socket, undefined);
    socket.once('close', () => connections.delete(socket));
  });

  requests.on('request', (request, response) => {
    const { socket } = request;
    if (connections.has(socket)) connections.set(socket, request);
    response.once('close', () => {
      if (connections.delete(socket)) connections.set(socket, undefined);
    });
  });

  function findWaiting(): Socket | undefined {
    for (const [socket, request] of connections) if (!request?.complete) return socket;
    return undefined;
  }
}

/** By the limit on open files, as far as it is known. */
export function chooseConnectionsMax(files = readFileLimit()): number {
  return Math.min(CONNECTIONS_MAX, Math.max(CONNECTIONS_MIN, files - FILES_KEPT));
}

function readFileLimit(): number {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? FILES_USUAL);
  } catch {
    return FILES_USUAL;
  }
}
