/** A wire between a client and a server that can go dead without a word, as when a firewall forgets a connection. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export type TestLink = {
  port: number;
  /** From now on nothing comes through, on connections that are open and on new ones, and nobody is told. */
  swallow: () => void;
  /** New connections work again; those that swallowed something stay dead. */
  heal: () => void;
  /** From now on what the server says comes so much later. */
  delay: (ms: number) => void;
  /** Connections break, and new ones lead to the server on that port, as when a replica takes over. */
  turn: (port: number) => void;
  connections: () => number;
  stop: () => Promise<void>;
};

export async function startLink(targetPort: number): Promise<TestLink> {
  const wires = new Set<{ isDead: boolean; ends: readonly [Socket, Socket] }>();
  let isSwallowing = false;
  let delayMs = 0;
  let leadsTo = targetPort;
  const server = createServer((client) => {
    const ends = [client, connect(leadsTo, '127.0.0.1')] as const;
    const wire = { isDead: isSwallowing, ends };
    wires.add(wire);
    const cut = () => {
      wires.delete(wire);
      for (const end of ends) end.destroy();
    };
    for (const [from, to] of [ends, [ends[1], ends[0]] as const]) {
      from.on('data', (chunk) => {
        if (wire.isDead) return;
        if (delayMs === 0 || from === client) to.write(chunk);
        else setTimeout(() => to.write(chunk), delayMs);
      });
      from.on('error', () => {});
      // Whoever holds the near end may always let go; of the far end's going a dead wire tells nothing.
      from.on('close', () => {
        if (from === client || !wire.isDead) cut();
      });
    }
  });
  const breakAll = () => {
    for (const { ends } of wires) for (const end of ends) end.destroy();
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    swallow() {
      isSwallowing = true;
      for (const wire of wires) wire.isDead = true;
    },
    heal() {
      isSwallowing = false;
    },
    delay(ms) {
      delayMs = ms;
    },
    turn(port) {
      leadsTo = port;
      breakAll();
    },
    connections: () => wires.size,
    async stop() {
      breakAll();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
