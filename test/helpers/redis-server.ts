/** A redis-server that belongs to one test: own port, own directory, gone when the test ends. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { findFreePort, launchRedis, untilExit } from '../../scripts/lib/redis-server.js';
import { removeDir } from './remove-dir.js';
import { waitFor } from './wait-for.js';

export type StartRedisOptions = {
  /** Further command line options of redis-server, as in `['--maxmemory', '4mb']`. */
  args?: readonly string[];
  /** Where the data lives; it is kept. Without it: a temporary directory that `stop` removes. */
  dir?: string;
  port?: number;
};

/** Of ioredis; address and protocol are given. */
type ClientOptions = Omit<RedisOptions, 'host' | 'port' | 'protocol' | 'replyMapping'>;

export type TestRedis = {
  readonly url: string;
  readonly port: number;
  /** Where its data and `redis.log` are. */
  readonly dir: string;
  /** Changes with each `restart`. */
  readonly pid: number;
  /** A client of it, with `protocol: 2` and a listener for errors; `stop` disconnects it. */
  connect: (options?: ClientOptions) => Redis;
  /** Disconnects every client, ends the process, and removes the directory unless it was given. Safe to call twice. */
  stop: () => Promise<void>;
  /** Sends a signal: SIGKILL for a crash, SIGSTOP and SIGCONT for a freeze. */
  kill: (signal: NodeJS.Signals) => void;
  /** Starts it again on the same port and data; where it still runs, it is shut down in good order first. */
  restart: () => Promise<void>;
};

const ATTEMPTS_MAX = 5;
/**
 * Each write is with the system before it is answered, so that one that was killed has it again. With `everysec` Redis keeps writes to
 * itself for up to two seconds while the disk is slow; `always` waits for the disk each time.
 */
const KEEPS_ALL_BUT_AT_A_POWER_CUT = ['--appendfsync', 'no'];

/** Resolves once the server answers PING. */
export async function startRedis(options: StartRedisOptions = {}): Promise<TestRedis> {
  const args = [...KEEPS_ALL_BUT_AT_A_POWER_CUT, ...(options.args ?? [])];
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'gvi-redis-'));
  const removeOwn = () => options.dir === undefined && removeDir(dir);
  const launched = await launch({ ...options, args }, dir).catch((error: unknown) => {
    removeOwn();
    throw error;
  });
  const { port } = launched;
  let { server } = launched;
  const clients = new Set<Redis>();

  const dieWithTest = () => {
    server.kill('SIGKILL');
    removeOwn();
  };
  process.once('exit', dieWithTest);

  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    dir,
    get pid() {
      return server.pid!;
    },
    connect(clientOptions = {}) {
      const client = new Redis({ ...clientOptions, host: '127.0.0.1', port, protocol: 2 });
      client.on('error', () => {});
      clients.add(client);
      return client;
    },
    kill(signal) {
      server.kill(signal);
    },
    async restart() {
      server.kill('SIGCONT');
      server.kill('SIGTERM');
      await untilExit(server);
      server = await launchRedis({ dir, port, args });
    },
    async stop() {
      for (const client of clients) client.disconnect();
      clients.clear();
      server.kill('SIGKILL');
      await untilExit(server);
      process.off('exit', dieWithTest);
      removeOwn();
    },
  };
}

/** SIGKILL. Resolves once the process is gone. */
export async function endRedis(redis: Pick<TestRedis, 'pid' | 'kill'>): Promise<void> {
  const { pid } = redis;
  redis.kill('SIGKILL');
  await waitFor('Redis to be gone', () => !isAlive(pid));
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** A free port can be taken by another test before the server binds it: then another one is tried. */
async function launch(options: StartRedisOptions, dir: string): Promise<{ server: ChildProcess; port: number }> {
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await findFreePort());
    try {
      return { server: await launchRedis({ dir, port, ...(options.args && { args: options.args }) }), port };
    } catch (error) {
      if (options.port !== undefined || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}
