/**
 * What was taken in of late, for a Redis that comes back without it: after a power cut with `appendfsync everysec` it lacks the
 * last second, and a replica that takes over lacks what had not reached it. Each second it is asked which one it is. Another
 * one is given all of it again, in order and under the names of its deliveries: what is there makes no second entry.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Counter, type Registry } from 'prom-client';
import { type Append, nameDelivery, StoreUnavailableError } from '../lib/append.js';
import { STREAMS } from '../lib/events.js';
import type { Keys } from '../lib/keys.js';
import type { RedisClient } from '../lib/redis.js';
import { loadScript } from '../lib/scripts.js';

export type Recent = {
  /** The same append; what it takes in is kept for a while. */
  keeping: (append: Append) => Append;
  addMetrics: (registry: Registry) => void;
  stop: () => void;
};

export type RecentOptions = {
  /** The connection that appends go by: it is asked which server they go to. */
  redis: RedisClient;
  keys: Keys;
  /** By which it is appended again. */
  append: Append;
  log: Logger;
  everyMs?: number;
  /** Counted while Redis answers: what was taken in before an outage is kept through it. */
  keptMs?: number;
  /** Of the bodies; the oldest go first. */
  bytesMax?: number;
};

type Kept = { webhook: Parameters<Append>[0]; delivery: string; at: number; bytes: number };

const EVERY_MS = 1_000;
const KEPT_MS = 30_000;
const BYTES_MAX = 16 * 1024 * 1024;
const RETRY_MS = 250;

export function keepRecent(options: RecentOptions): Recent {
  const { redis, keys, append, log, everyMs = EVERY_MS, keptMs = KEPT_MS, bytesMax = BYTES_MAX } = options;
  const identify = loadScript(redis, 'identify');
  const streams = STREAMS.map((stream) => keys.stream(stream));
  const stopping = new AbortController();
  /** By the names of the deliveries, the oldest first. */
  const kept = new Map<string, Kept>();
  const toAppend = new Map<string, Kept>();
  let bytes = 0;
  let server: string | undefined;
  let isAppending = false;
  let found = 0;
  void watch();

  return {
    keeping:
      (inner) =>
      async (webhook, delivery = nameDelivery()) => {
        const answer = await inner(webhook, delivery);
        if (answer.status !== 'duplicate') keep(webhook, delivery);
        return answer;
      },
    addMetrics(registry) {
      new Counter({
        name: 'gvi_ingest_appended_again_total',
        help: 'Webhooks that Redis had lost, and was given again',
        registers: [registry],
        collect() {
          this.reset();
          this.inc(found);
        },
      });
    },
    stop: () => stopping.abort(),
  };

  function keep(webhook: Kept['webhook'], delivery: string): void {
    const size = (webhook.kind === 'event' ? webhook.data : webhook.body).length;
    kept.set(delivery, { webhook, delivery, at: performance.now(), bytes: size });
    bytes += size;
    prune();
  }

  function prune(): void {
    for (const old of kept.values()) {
      if (old.at >= performance.now() - keptMs && bytes <= bytesMax) return;
      forget(old);
    }
  }

  function forget(old: Kept): void {
    kept.delete(old.delivery);
    bytes -= old.bytes;
  }

  async function watch(): Promise<void> {
    while (!stopping.signal.aborted) {
      // Of a Redis that is away its connection tells.
      const answer = (await identify(streams, []).catch(() => undefined)) as [string, number] | undefined;
      if (answer !== undefined) notice(...answer);
      await sleep(everyMs, undefined, { signal: stopping.signal, ref: false }).catch(() => {});
    }
  }

  function notice(id: string, streamsThere: number): void {
    const isOther = server !== undefined && server !== id;
    server = id;
    if (!isOther) prune();
    if (!isOther || kept.size === 0) return;
    if (streamsThere === 0) {
      // One that was emptied on purpose looks the same.
      log.warn({ webhooks: kept.size }, 'redis came back empty: what was taken in of late is not appended again');
      for (const old of kept.values()) forget(old);
      return;
    }
    log.info({ webhooks: kept.size }, 'redis is another than before: what it lacks of late is appended again');
    for (const [delivery, one] of kept) toAppend.set(delivery, one);
    void appendAgain();
  }

  async function appendAgain(): Promise<void> {
    if (isAppending) return;
    isAppending = true;
    for (const { webhook, delivery } of toAppend.values()) {
      const answer = await appendUntilAnswered(webhook, delivery);
      toAppend.delete(delivery);
      if (answer === undefined || answer.status === 'duplicate') continue;
      found += 1;
      const { eventId, idempotencyKey } = answer;
      log.warn({ eventId, key: idempotencyKey }, 'redis had lost a webhook; appended again');
    }
    isAppending = false;
  }

  async function appendUntilAnswered(webhook: Kept['webhook'], delivery: string) {
    while (!stopping.signal.aborted) {
      try {
        return await append(webhook, delivery);
      } catch (error) {
        if (!(error instanceof StoreUnavailableError)) throw error;
        await sleep(RETRY_MS, undefined, { signal: stopping.signal }).catch(() => {});
      }
    }
    return undefined;
  }
}
