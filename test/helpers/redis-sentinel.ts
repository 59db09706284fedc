/** A master, its replica and three sentinels on this machine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findFreePort, findRedisServer, untilExit } from '../../scripts/lib/redis-server.js';
import { startRedis, type TestRedis } from './redis-server.js';
import { removeDir } from './remove-dir.js';
import { waitFor } from './wait-for.js';

export type TestSentinels = {
  /** `redis-sentinel://…/mymaster`. */
  url: string;
  nodes: readonly [TestRedis, TestRedis];
  /** Whom the sentinels call the master now. */
  master: () => Promise<TestRedis>;
  /** Resolves when all sentinels have agreed on another master than this one. */
  failedOverFrom: (node: TestRedis) => Promise<TestRedis>;
  /** Resolves when the other node has all that the master has. */
  untilReplicated: () => Promise<void>;
  stop: () => Promise<void>;
};

const DOWN_AFTER_MS = 1_000;
const PATIENCE_MS = 30_000;

export async function startSentinels(): Promise<TestSentinels> {
  const first = await startRedis();
  const second = await startRedis({ args: ['--replicaof', '127.0.0.1', String(first.port)] });
  const nodes = [first, second] as const;
  const dir = mkdtempSync(join(tmpdir(), 'gvi-sentinels-'));
  const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(dir, first.port)));
  const clients = sentinels.map(({ port }) => connectTo(port));

  async function masterPortOf(client: Redis): Promise<number> {
    const [, port] = (await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')) as [string, string];
    return Number(port);
  }
  async function master(): Promise<TestRedis> {
    const port = await masterPortOf(clients[0]!);
    return nodes.find((node) => node.port === port)!;
  }

  await waitFor(
    'the sentinels to know each other and the replica',
    async () => {
      const states = await Promise.all(clients.map((client) => client.call('SENTINEL', 'MASTER', 'mymaster')));
      return states.every((state) => {
        const told = (name: string) => Number((state as string[])[(state as string[]).indexOf(name) + 1]);
        return told('num-other-sentinels') === 2 && told('num-slaves') === 1;
      });
    },
    PATIENCE_MS,
  );

  return {
    url: `redis-sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/mymaster`,
    nodes,
    master,
    async failedOverFrom(node) {
      await waitFor(
        'the sentinels to agree on another master',
        async () => (await Promise.all(clients.map(masterPortOf))).every((port) => port !== node.port),
        PATIENCE_MS,
      );
      return master();
    },
    async untilReplicated() {
      const client = connectTo((await master()).port);
      await waitFor('the replica to follow', async () => (await client.wait(1, 1_000)) === 1, PATIENCE_MS);
      client.disconnect();
    },
    async stop() {
      for (const client of clients) client.disconnect();
      for (const { child } of sentinels) child.kill('SIGKILL');
      await Promise.all(sentinels.map(({ child }) => untilExit(child)));
      await Promise.all(nodes.map((node) => node.stop()));
      removeDir(dir);
    },
  };
}

async function startSentinel(dir: string, masterPort: number): Promise<{ port: number; child: ChildProcess }> {
  const port = await findFreePort();
  const file = join(dir, `sentinel-${port}.conf`);
  const settings = [
    ...['bind 127.0.0.1', `port ${port}`, `dir ${dir}`],
    `sentinel monitor mymaster 127.0.0.1 ${masterPort} 2`,
    `sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MS}`,
    'sentinel failover-timeout mymaster 4000',
  ];
  writeFileSync(file, `${settings.join('\n')}\n`);
  const child = spawn(findRedisServer(), [file, '--sentinel'], { stdio: 'ignore' });
  process.once('exit', () => child.kill('SIGKILL'));
  return { port, child };
}

function connectTo(port: number): Redis {
  const client = new Redis({
    host: '127.0.0.1',
    port,
    protocol: 2,
    maxRetriesPerRequest: null,
    retryStrategy: () => 50,
  });
  client.on('error', () => {});
  return client;
}
