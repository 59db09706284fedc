/**
 * Waits for new entries without taking them: a plain blocking read on a connection of its own. Nothing is claimed by it, so
 * neither a lost reply nor a dead link can strand an entry.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StreamName } from '../event-id.js';
import type { Keys } from '../keys.js';
import { cutLinks, type RedisClient } from '../redis.js';

export type Bell = {
  /** Resolves when an entry came after one of these ids, after `waitMs`, or when it is woken. */
  wait: (after: ReadonlyMap<StreamName, string>, waitMs: number) => Promise<void>;
  wake: () => void;
  /** Gives the connection up for a new one. */
  replace: () => void;
  close: () => void;
};

/** Whoever waits for less leaves the read as it is, for the next to wait on. */
const BLOCK_MS = 500;
/** The client itself finds a silent link dead sooner; this is for a client that has lost its way. */
const OVERDUE_MS = 5_000;
const ERROR_WAIT_MS = 250;

export function makeBell({ connect, keys }: { connect: () => RedisClient; keys: Keys }): Bell {
  let client = connect();
  let reading: { startedAt: number; ended: Promise<void> } | undefined;
  let isClosed = false;
  let wake = () => {};

  return {
    async wait(after, waitMs) {
      if (isClosed) return;
      if (reading !== undefined && performance.now() - reading.startedAt > BLOCK_MS + OVERDUE_MS) replaceIfStuck();
      reading ??= begin(after);
      let timer: NodeJS.Timeout | undefined;
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
        timer = setTimeout(resolve, waitMs);
      });
      await Promise.race([reading.ended, woken]);
      clearTimeout(timer);
    },
    wake: () => wake(),
    replace,
    close() {
      isClosed = true;
      end(client);
      wake();
    },
  };

  function begin(after: ReadonlyMap<StreamName, string>): NonNullable<typeof reading> {
    const names = [...after.keys()].map((stream) => keys.stream(stream));
    const own = {
      startedAt: performance.now(),
      ended: client
        .xread('COUNT', 1, 'BLOCK', BLOCK_MS, 'STREAMS', ...names, ...after.values())
        .then(done, () => sleep(ERROR_WAIT_MS).then(done)),
    };
    return own;

    /** A read that was given up ends when its connection goes. */
    function done(): void {
      if (reading === own) reading = undefined;
    }
  }

  /** One that waits to reconnect is not stuck: Redis is away. */
  function replaceIfStuck(): void {
    if (client.status === 'ready' || client.status === 'end') replace();
  }

  function replace(): void {
    if (isClosed) return;
    end(client);
    reading = undefined;
    client = connect();
    wake();
  }
}

function end(client: RedisClient): void {
  cutLinks(client);
  client.disconnect();
}
