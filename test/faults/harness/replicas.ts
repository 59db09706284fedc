/** A master and a replica, with three sentinels that watch over them or with nobody. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findFreePort, findRedisServer, launchRedis, untilExit } from '../../../scripts/lib/redis-server.js';
import type { TestRedis } from '../../helpers/redis-server.js';
import { removeDir } from '../../helpers/remove-dir.js';
import { waitFor } from '../../helpers/wait-for.js';
import { sized } from './scenario.js';

export type ReplicatedRedis = TestRedis & {
  /** Resolves with a time: what was answered before it the replica has, too (ms since 1970). */
  untilCaughtUp: () => Promise<number>;
  /** The replica learns of no further write; where the master dies then, they are gone. */
  holdBack: () => Promise<void>;
  /** False where the sentinels have led it back to its master. */
  isHeldBack: () => Promise<boolean>;
  /** SIGKILL of the master. Resolves once the sentinels have made the replica the master, with when the former one was gone. */
  killMaster: () => Promise<number>;
  /**
   * In good order: the master takes no write until the replica has all, then the sentinels are asked to change the roles;
   * resolves once they have. Nothing is lost by it.
   */
  changeRoles: () => Promise<void>;
  /** Without sentinels: the replica becomes the master, the former one refuses writes from then on, and `port` is still its. */
  promote: () => Promise<void>;
  /** `port` is the new master's, as when an endpoint's name is given to another machine. */
  turnEndpoint: () => void;
  /** The former master is started where it is down. Resolves once it has all that the master has. */
  reunite: () => Promise<void>;
};

type Node = { port: number; dir: string; process: ChildProcess };

const NAME = 'mymaster';
const SENTINELS = 3;
/** A starved machine's master may be silent for longer than one that has its machine for itself. */
const DOWN_AFTER_MS = sized(1_500, 600);
/** Sentinels that stood still for two seconds do nothing for half a minute, as they trust no clock then. */
const PROMOTED_MS = 90_000;
const PAUSE_MS_MAX = 10_000;
/** Where nobody listens. */
const NOWHERE = 1;

export async function startReplicas({ isWatched }: { isWatched: boolean }): Promise<ReplicatedRedis> {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-replicas-'));
  let [master, replica] = await Promise.all([startNode(dir, 'a'), startNode(dir, 'b')]);
  let endpoint = master.port;
  await follow(replica.port, master.port);
  await untilInSync(replica.port, master.port);
  const sentinels = isWatched ? await startSentinels(dir, master.port) : [];
  const clients = new Set<Redis>();
  const dieWithTest = () => {
    for (const { process } of [master, replica, ...sentinels]) process.kill('SIGKILL');
  };
  process.once('exit', dieWithTest);
  const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');

  function swap(): void {
    [master, replica] = [replica, master];
  }

  function turnEndpoint(): void {
    endpoint = master.port;
    for (const client of clients) {
      client.options.port = endpoint;
      client.disconnect(true);
    }
  }

  async function untilPromoted(): Promise<void> {
    const { port } = replica;
    const ports = sentinels.map((sentinel) => sentinel.port);
    await waitFor('the replica to be the master', async () => (await roleOf(port)) === 'master', PROMOTED_MS);
    await waitFor(
      'a sentinel to know',
      async () => (await Promise.all(ports.map(masterPortOf))).includes(port),
      PROMOTED_MS,
    );
    swap();
    turnEndpoint();
  }

  async function untilCaughtUp(): Promise<number> {
    const now = Date.now();
    const { master_repl_offset: offset } = await infoOf(master.port);
    await waitFor('the replica to catch up', async () => {
      return Number((await infoOf(replica.port)).slave_repl_offset) >= Number(offset);
    });
    return now;
  }

  return {
    url: isWatched ? `redis-sentinel://${hosts}/${NAME}` : `redis://127.0.0.1:${endpoint}`,
    dir,
    get port() {
      return endpoint;
    },
    get pid() {
      return master.process.pid!;
    },
    connect(options = {}) {
      const client = new Redis({ ...options, host: '127.0.0.1', port: endpoint, protocol: 2 });
      client.on('error', () => {});
      clients.add(client);
      return client;
    },
    kill: (signal) => void master.process.kill(signal),
    restart: () => Promise.reject(new Error('the other one takes over: see reunite')),
    untilCaughtUp,
    holdBack: () => follow(replica.port, NOWHERE),
    isHeldBack: async () => (await infoOf(replica.port)).master_port === String(NOWHERE),
    async killMaster() {
      master.process.kill('SIGKILL');
      await untilExit(master.process);
      const goneAt = Date.now();
      await untilPromoted();
      return goneAt;
    },
    async changeRoles() {
      const former = master;
      await ask(former.port, ['CLIENT', 'PAUSE', String(PAUSE_MS_MAX), 'WRITE']);
      await untilInSync(replica.port, former.port);
      await ask(sentinels[0]!.port, ['SENTINEL', 'FAILOVER', NAME]);
      await untilPromoted();
      // The sentinels would do it, but only long after the pause, in which they take it for down: it holds their PUBLISH up.
      await follow(former.port, master.port);
      await ask(former.port, ['CLIENT', 'UNPAUSE']);
    },
    async promote() {
      await ask(replica.port, ['REPLICAOF', 'NO', 'ONE']);
      await follow(master.port, replica.port);
      swap();
    },
    turnEndpoint,
    async reunite() {
      if (replica.process.exitCode !== null || replica.process.signalCode !== null) {
        replica.process = await launchRedis({ dir: replica.dir, port: replica.port });
      }
      // The sentinels would do it, too, but they take their time.
      await follow(replica.port, master.port);
      await untilInSync(replica.port, master.port);
    },
    async stop() {
      for (const client of clients) client.disconnect();
      dieWithTest();
      await Promise.all([master, replica, ...sentinels].map((node) => untilExit(node.process)));
      process.off('exit', dieWithTest);
      removeDir(dir);
    },
  };
}

async function startNode(parent: string, name: string): Promise<Node> {
  const dir = join(parent, name);
  mkdirSync(dir);
  const port = await findFreePort();
  return { port, dir, process: await launchRedis({ dir, port, args: ['--repl-diskless-sync-delay', '0'] }) };
}

async function startSentinels(parent: string, masterPort: number): Promise<Node[]> {
  const nodes: Node[] = [];
  for (let n = 1; n <= SENTINELS; n += 1) {
    const dir = join(parent, `sentinel-${n}`);
    const port = await findFreePort();
    mkdirSync(dir);
    writeFileSync(
      join(dir, 'sentinel.conf'),
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${dir}`,
        `logfile ${join(dir, 'sentinel.log')}`,
        `sentinel monitor ${NAME} 127.0.0.1 ${masterPort} 2`,
        `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout ${NAME} 2000`,
        '',
      ].join('\n'),
    );
    const server = spawn(findRedisServer(), [join(dir, 'sentinel.conf'), '--sentinel'], { stdio: 'ignore' });
    nodes.push({ port, dir, process: server });
  }
  for (const { port } of nodes) {
    await waitFor('the sentinels to know each other and the replica', async () => {
      const facts = await ask(port, ['SENTINEL', 'MASTER', NAME]).catch(() => []);
      const of = (what: string) => Number((facts as string[])[(facts as string[]).indexOf(what) + 1]);
      return of('num-slaves') === 1 && of('num-other-sentinels') === SENTINELS - 1;
    });
  }
  return nodes;
}

async function follow(port: number, masterPort: number): Promise<void> {
  await ask(port, ['REPLICAOF', '127.0.0.1', String(masterPort)]);
}

async function untilInSync(port: number, masterPort: number): Promise<void> {
  await waitFor('the replica to have all', async () => {
    const [own, others] = await Promise.all([infoOf(port), infoOf(masterPort)]);
    return own.master_link_status === 'up' && own.slave_repl_offset === others.master_repl_offset;
  });
}

async function roleOf(port: number): Promise<string | undefined> {
  return (await infoOf(port).catch(() => undefined))?.role;
}

async function masterPortOf(sentinelPort: number): Promise<number> {
  const address = (await ask(sentinelPort, ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME])) as string[];
  return Number(address[1]);
}

async function infoOf(port: number): Promise<Record<string, string>> {
  const text = (await ask(port, ['INFO', 'replication'])) as string;
  return Object.fromEntries(text.split('\r\n').map((line) => line.split(':', 2) as [string, string]));
}

/** On a connection of its own. */
async function ask(port: number, [command, ...args]: readonly [string, ...string[]]): Promise<unknown> {
  const client = new Redis({
    host: '127.0.0.1',
    port,
    protocol: 2,
    enableReadyCheck: false,
    retryStrategy: () => null,
  });
  client.on('error', () => {});
  try {
    return await client.call(command, ...args);
  } finally {
    client.disconnect();
  }
}
