/** A real redis-server as a child process: found on PATH, on a port of its own, ready when the promise resolves. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { Redis } from 'ioredis';

export type LaunchOptions = {
  /** Must exist; data and `redis.log` go there. */
  dir: string;
  port: number;
  /** Further command line options; they win over the ones given here. */
  args?: readonly string[];
  /** True gives it a process group of its own, so that a Ctrl-C in the terminal does not reach it. */
  detached?: boolean;
  /** Called before it answers: it may have much to load first. */
  onSpawn?: (server: ChildProcess) => void;
};

const BINARIES = ['redis-server', 'valkey-server'];

/** The path of redis-server, or of valkey-server. Throws when neither is on PATH. */
export function findRedisServer(path = process.env.PATH ?? ''): string {
  for (const binary of BINARIES) {
    const found = path
      .split(delimiter)
      .map((folder) => join(folder, binary))
      .find(isExecutable);
    if (found) return found;
  }
  throw new Error('Neither redis-server nor valkey-server is on PATH: ./scripts/dev and ./scripts/test install one');
}

/** Below the ports that systems give to outgoing connections, Linux from 32768 on: so none of those can sit on it while its server is away. */
const PORT_MIN = 15_000;
const PORT_MAX = 32_000;

/** A port of 127.0.0.1 that nobody uses at this moment, and that a server which is started again will find free. */
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_MAX);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** Starts a server that appends every write to disk; resolves once it answers. Throws with its log when it exits before. */
export async function launchRedis({
  dir,
  port,
  args = [],
  detached = false,
  onSpawn,
}: LaunchOptions): Promise<ChildProcess> {
  const logFile = join(dir, 'redis.log');
  const log = openSync(logFile, 'w+');
  const server = spawn(
    findRedisServer(),
    ['--bind', '127.0.0.1', '--port', String(port), '--dir', dir, '--save', '', '--appendonly', 'yes', ...args],
    { stdio: ['ignore', log, log], detached },
  );
  closeSync(log);
  onSpawn?.(server);
  const exited = untilExit(server).then(() => {
    const lastLines = existsSync(logFile) ? readFileSync(logFile, 'utf8').trim().split('\n').slice(-5) : [];
    throw new Error([`redis-server on port ${port} ended before it answered`, ...lastLines].join('\n'));
  });
  await Promise.race([exited, untilAnswering(server, port)]);
  return server;
}

/** Resolves when the process has ended, however it ended, or could not be started at all. */
export function untilExit(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
}

/** Asks until the server that answers on the port is this one: another one may have taken the port in between. */
async function untilAnswering(server: ChildProcess, port: number): Promise<void> {
  const client = new Redis({
    host: '127.0.0.1',
    port,
    protocol: 2,
    maxRetriesPerRequest: null,
    retryStrategy: () => (server.exitCode === null && server.signalCode === null ? 10 : null),
  });
  client.on('error', () => {});
  try {
    await client.ping();
    const isOurs = (await client.info('server')).includes(`process_id:${server.pid}\r`);
    if (!isOurs) throw new Error(`Another redis-server answers on port ${port}`);
  } finally {
    client.disconnect();
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
