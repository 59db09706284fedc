/** A TCP proxy that misbehaves as told, and says what goes through it. One for each process and link. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeHttpReader, makeRedisReader, type Reader } from './proxy-readers.js';
import type { Random } from './random.js';
import type { Link, Passage } from './wire.js';

/** What the link does from now on. Bytes under way when it heals arrive then, as TCP would send them again. */
export type LinkFault =
  | { kind: 'pass' }
  /** Each command and each reply is late by this much. */
  | { kind: 'delay'; delayMs: number; jitterMs?: number }
  | { kind: 'throttle'; bytesPerS: number }
  /** Executed, but the reply is swallowed and the connection cut, with this probability for each reply. */
  | { kind: 'drop-replies'; probability: number }
  /** The connection is cut after some bytes of a command, with this probability for each command. */
  | { kind: 'cut-commands'; probability: number }
  /** Nothing comes through in either direction, and nobody is told. */
  | { kind: 'black-hole' }
  /** New connections are accepted and never answered; those open are cut unless told otherwise. */
  | { kind: 'half-open'; keepsOpenOnes?: boolean }
  /** New connections are refused, those open are cut. */
  | { kind: 'refuse' };

/** `cut`: the connection is destroyed and the command or reply goes nowhere. */
export type Verdict = 'pass' | 'cut';
export type Hook = (passage: Passage) => Verdict | Promise<Verdict>;

export type LinkProxy = {
  port: number;
  link: Link;
  owner: string;
  setFault: (fault: LinkFault) => Promise<void>;
  heal: () => Promise<void>;
  /** Cuts every open connection, by RST. */
  reset: () => void;
  /** Lets nothing more through the open connections, ever, and tells nobody, as a firewall that has lost its table. */
  forget: () => void;
  connections: () => number;
  /** Replies dropped and commands cut so far. */
  hits: () => number;
  stop: () => Promise<void>;
};

type Connection = { client: Socket; upstream: Socket | undefined; isForgotten: boolean; destroy: () => void };

export async function startProxy(options: {
  owner: string;
  link: Link;
  target: () => { host: string; port: number };
  hook: Hook;
  random: Random;
}): Promise<LinkProxy> {
  const { owner, link, target, hook, random } = options;
  let fault: LinkFault = { kind: 'pass' };
  let whenHealed = makeGate(true);
  let hits = 0;
  const connections = new Set<Connection>();
  const server = createServer({ noDelay: true }, serve);
  server.on('error', () => {});
  const port = await listen(server, 0);

  function serve(client: Socket): void {
    const connection: Connection = { client, upstream: undefined, isForgotten: false, destroy };
    connections.add(connection);
    client.on('error', destroy).on('close', destroy);
    if (fault.kind === 'half-open') return void client.on('data', () => {});
    const upstream = connect({ ...target(), noDelay: true });
    connection.upstream = upstream;
    upstream.on('error', destroy).on('close', destroy);
    const reader = link === 'redis' ? makeRedisReader() : makeHttpReader();
    const forth = makeLane(destroy);
    const back = makeLane(destroy);
    client.on('data', (chunk: Buffer) => {
      for (const unit of reader.fromClient(chunk)) forth(() => forward(unit, upstream, connection, reader));
    });
    upstream.on('data', (chunk: Buffer) => {
      for (const unit of reader.fromServer(chunk)) back(() => answer(unit, client, connection));
    });

    function destroy(): void {
      connections.delete(connection);
      client.destroy();
      connection.upstream?.destroy();
    }
  }

  async function forward(
    unit: ReturnType<Reader['fromClient']>[number],
    upstream: Socket,
    connection: Connection,
    reader: Reader,
  ): Promise<void> {
    if (connection.isForgotten) return;
    const verdict = unit.passage && hook({ ...unit.passage, owner, link, when: 'before' });
    if (verdict !== undefined && (verdict === 'cut' || (await verdict) === 'cut')) return connection.destroy();
    if (fault.kind !== 'pass') await hinder(unit);
    if (fault.kind === 'cut-commands' && unit.passage && random.chance(fault.probability)) {
      hits += 1;
      // What is next in line must not follow the half of this one: its bytes would be taken for the other half.
      connection.isForgotten = true;
      upstream.write(unit.bytes.subarray(0, random.int(1, unit.bytes.length - 1)), () => connection.destroy());
      return;
    }
    if (upstream.destroyed) return;
    if (unit.passage) reader.sent(unit.passage);
    upstream.write(unit.bytes);
  }

  async function answer(
    unit: ReturnType<Reader['fromServer']>[number],
    client: Socket,
    connection: Connection,
  ): Promise<void> {
    if (connection.isForgotten) return;
    const verdict = unit.passage && hook({ ...unit.passage, owner, link, when: 'after' });
    if (verdict !== undefined && (verdict === 'cut' || (await verdict) === 'cut')) return connection.destroy();
    if (fault.kind !== 'pass') await hinder(unit);
    if (fault.kind === 'drop-replies' && unit.isReply && random.chance(fault.probability)) {
      hits += 1;
      return connection.destroy();
    }
    if (!client.destroyed) client.write(unit.bytes);
  }

  async function hinder({ bytes, arrivedAt }: { bytes: Buffer; arrivedAt: number }): Promise<void> {
    if (fault.kind === 'delay') {
      const dueAt = arrivedAt + fault.delayMs + Math.round(random.next() * (fault.jitterMs ?? 0));
      if (dueAt > Date.now()) await sleep(dueAt - Date.now());
    }
    if (fault.kind === 'throttle') await sleep((bytes.length / fault.bytesPerS) * 1_000);
    if (fault.kind === 'black-hole' || fault.kind === 'half-open') await whenHealed.promise;
  }

  function destroyAll(isReset: boolean): void {
    for (const connection of [...connections]) {
      if (isReset) connection.client.resetAndDestroy();
      connection.destroy();
    }
  }

  async function setFault(next: LinkFault): Promise<void> {
    const before = fault;
    fault = next;
    if (next.kind === 'black-hole' || next.kind === 'half-open') whenHealed = makeGate(false);
    else whenHealed.open();
    if (next.kind === 'half-open' && !next.keepsOpenOnes) destroyAll(false);
    // Nobody at the far end knows of a connection that was half open.
    if (before.kind === 'half-open' && next.kind !== 'half-open') {
      for (const connection of [...connections]) if (connection.upstream === undefined) connection.destroy();
    }
    if (next.kind === 'refuse' && server.listening) {
      const closed = new Promise((resolve) => server.close(resolve));
      destroyAll(true);
      await closed;
    }
    if (next.kind !== 'refuse' && !server.listening) await listen(server, port);
  }

  return {
    ...{ port, link, owner, setFault },
    heal: () => setFault({ kind: 'pass' }),
    reset: () => destroyAll(true),
    forget() {
      for (const connection of connections) connection.isForgotten = true;
    },
    connections: () => connections.size,
    hits: () => hits,
    async stop() {
      whenHealed.open();
      destroyAll(false);
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Does one after the other, at once where nothing holds it up. */
function makeLane(onError: () => void): (task: () => Promise<void>) => void {
  const tasks: (() => Promise<void>)[] = [];
  let isRunning = false;
  async function run(): Promise<void> {
    isRunning = true;
    try {
      for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) await task();
    } catch {
      onError();
    }
    isRunning = false;
  }
  return (task) => {
    tasks.push(task);
    if (!isRunning) void run();
  };
}

function makeGate(isOpen: boolean): { promise: Promise<void>; open: () => void } {
  let open = () => {};
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  if (isOpen) open();
  return { promise, open };
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    });
  });
}
