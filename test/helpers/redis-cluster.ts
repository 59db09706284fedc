/** A real cluster of three masters on this machine, and the moving of a slot between them. */
import type { Redis } from 'ioredis';
import { findFreePort } from '../../scripts/lib/redis-server.js';
import { startRedis, type TestRedis } from './redis-server.js';
import { waitFor } from './wait-for.js';

export type TestCluster = {
  /** `redis-cluster://…`. */
  url: string;
  nodes: readonly TestRedis[];
  slotOf: (key: string) => Promise<number>;
  ownerOf: (slot: number) => Promise<TestRedis>;
  /** Begins to move a slot to another node; what it returns moves its keys, and then the slot. */
  moveSlot: (slot: number, to: TestRedis) => Promise<{ finish: () => Promise<void> }>;
  /** Keys on a node. */
  sizeOf: (node: TestRedis) => Promise<number>;
  stop: () => Promise<void>;
};

const SLOTS = 16_384;
const NODES = 3;
const PATIENCE_MS = 30_000;

export async function startCluster(): Promise<TestCluster> {
  const nodes: TestRedis[] = [];
  // One after the other, as each looks for two free ports.
  for (let i = 0; i < NODES; i += 1) nodes.push(await startNode());
  const clients = new Map(nodes.map((node) => [node, connectTo(node)]));
  const client = (node: TestRedis) => clients.get(node)!;
  const ask = (node: TestRedis, ...args: (string | number)[]) => client(node).call('CLUSTER', ...args);

  for (const [index, node] of nodes.entries()) {
    const first = Math.floor((SLOTS / NODES) * index);
    const last = Math.floor((SLOTS / NODES) * (index + 1)) - 1;
    await ask(node, 'ADDSLOTSRANGE', first, last);
    await ask(node, 'SET-CONFIG-EPOCH', index + 1);
  }
  const busPortOf = async (node: TestRedis) => ((await client(node).config('GET', 'cluster-port')) as string[])[1]!;
  for (const node of nodes.slice(1)) await ask(node, 'MEET', '127.0.0.1', nodes[0]!.port, await busPortOf(nodes[0]!));
  await waitFor(
    'the cluster to be complete',
    async () => {
      const infos = await Promise.all(nodes.map((node) => ask(node, 'INFO')));
      return infos.every((info) => /cluster_state:ok.*cluster_known_nodes:3/s.test(String(info)));
    },
    PATIENCE_MS,
  );

  async function ownerOf(slot: number): Promise<TestRedis> {
    const ranges = (await ask(nodes[0]!, 'SLOTS')) as [number, number, [string, number]][];
    const range = ranges.find(([first, last]) => slot >= first && slot <= last)!;
    return nodes.find(({ port }) => port === range[2][1])!;
  }

  return {
    url: `redis-cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    nodes,
    slotOf: async (key) => Number(await ask(nodes[0]!, 'KEYSLOT', key)),
    ownerOf,
    async moveSlot(slot, to) {
      const from = await ownerOf(slot);
      const [fromId, toId] = await Promise.all([from, to].map(async (node) => String(await ask(node, 'MYID'))));
      await ask(to, 'SETSLOT', slot, 'IMPORTING', fromId!);
      await ask(from, 'SETSLOT', slot, 'MIGRATING', toId!);
      return {
        async finish() {
          for (;;) {
            const keys = (await ask(from, 'GETKEYSINSLOT', slot, 100)) as string[];
            if (keys.length === 0) break;
            await client(from).call('MIGRATE', '127.0.0.1', to.port, '', 0, 5_000, 'REPLACE', 'KEYS', ...keys);
          }
          for (const node of [to, from, ...nodes]) await ask(node, 'SETSLOT', slot, 'NODE', toId!);
        },
      };
    },
    sizeOf: (node) => client(node).dbsize(),
    async stop() {
      for (const each of clients.values()) each.disconnect();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

async function startNode(): Promise<TestRedis> {
  // The bus is on the port plus 10,000 unless it is told, which may be no port at all.
  const busPort = await findFreePort();
  const cluster = ['--cluster-enabled', 'yes', '--cluster-port', String(busPort), '--cluster-node-timeout', '2000'];
  return startRedis({ args: cluster });
}

function connectTo(node: TestRedis): Redis {
  return node.connect({ maxRetriesPerRequest: null, retryStrategy: () => 50 });
}
