/**
 * What was taken in of late, for a Redis that comes back without it: after a power cut with `appendfsync everysec` it lacks the
 * last second, and a replica that takes over lacks what had not reached it. Each second it is asked which one it is. Another
 * one is given all of it again, in order and under the names of its deliveries: what is there makes no second entry. One that
 * holds neither the oldest of it nor anything from before was emptied, and is left so.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Counter, type Registry } from 'prom-client';
import { type Append, type AppendAnswer, keyOf, nameDelivery, StoreUnavailableError } from '../lib/append.js';
import { parseEventId } from '../lib/event-id.js';
import { STREAMS } from '../lib/events.js';
import type { Keys } from '../lib/keys.js';
import type { RedisClient } from '../lib/redis.js';
import { loadScript, type Script } from '../lib/scripts.js';
import { isAway, reasonOf } from './spool/refusal.js';

export type Recent = {
  /** The same append; what it takes in is kept for a while. */
  keeping: (append: Append) => Append;
  /**
   * The same for an append by the second connection that may be a repeat: a duplicate may be its own first try, and is kept as
   * well. It rejects, as if Redis were away, while what Redis lacks is not there again: what is older comes first.
   */
  keepingRepeats: (append: Append) => Append;
  addMetrics: (registry: Registry) => void;
  stop: () => void;
};

export type RecentOptions = {
  /** The connection by which requests append, and the one for what no request waits for. Each is asked where it leads to. */
  redis: RedisClient;
  laterRedis: RedisClient;
  keys: Keys;
  /** By the second connection: so it is appended again, whatever its size. */
  append: Append;
  log: Logger;
  everyMs?: number;
  /** Before the last time that Redis was seen to be the same: an outage may last as long as it likes. */
  keptMs?: number;
  /** [for ever] How long Redis knows what it took in at the least: then it may be done with, trimmed, and taken for new. */
  knownMs?: number;
  /** Of the bodies; the oldest go first. */
  bytesMax?: number;
};

type Webhook = Parameters<Append>[0];

/** `event`: the one that was made of it; of a repeat it may be an older one, of which nothing need be there any more. */
type Kept = { webhook: Webhook; delivery: string; event: TakenIn | undefined; at: number; bytes: number };

/** By its idempotency key and its Redis id. */
type TakenIn = { key: string; id: string };

/** `seenAt`: when it was last asked something that it answered; `awayAt`: when it last did not answer, and `awayFor` why. */
type Connection = { identify: Script; server: string | undefined; seenAt: number; awayAt: number; awayFor: string };

const EVERY_MS = 1_000;
/** After an outage, until it is known what Redis lacks. */
const UNSURE_EVERY_MS = 100;
const KEPT_MS = 30_000;
const BYTES_MAX = 16 * 1024 * 1024;
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 2_000;
const REFUSALS_MAX = 5;
/** What a client says that has no connection; see `redis-errors.ts`. */
const NOT_CONNECTED = 'NOT_CONNECTED';

export function keepRecent(options: RecentOptions): Recent {
  const { keys, append, log, everyMs = EVERY_MS, knownMs = Number.POSITIVE_INFINITY, bytesMax = BYTES_MAX } = options;
  const keptMs = Math.min(options.keptMs ?? KEPT_MS, knownMs / 2);
  const streams = STREAMS.map((stream) => keys.stream(stream));
  const stopping = new AbortController();
  const [later, requests] = [options.laterRedis, options.redis].map(makeConnection) as [Connection, Connection];
  /** By the names of the deliveries, in the order of arrival. */
  const kept = new Map<string, Kept>();
  const toAppend = new Map<string, Kept>();
  let bytes = 0;
  let isAppending = false;
  let found = 0;
  for (const connection of [requests, later]) void watch(connection);

  return {
    keeping:
      (inner) =>
      async (webhook, delivery = nameDelivery()) => {
        const answer = await inner(webhook, delivery);
        if (answer.status !== 'duplicate' || answer.changed) keep(webhook, delivery, answer);
        return answer;
      },
    keepingRepeats:
      (inner) =>
      async (webhook, delivery = nameDelivery()) => {
        if (!isSettled(later)) {
          // By its word alone: this webhook is never the one that is refused.
          const cause = new Error(isAnswering(later) ? 'what redis lacks is not there again yet' : later.awayFor);
          throw new StoreUnavailableError('Redis did not take the webhook', { cause });
        }
        const answer = await inner(webhook, delivery);
        keep(webhook, delivery, answer);
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
    stop() {
      stopping.abort();
      if (toAppend.size > 0)
        log.warn({ webhooks: toAppend.size }, 'ends before redis was given again what it may lack');
    },
  };

  function keep(webhook: Webhook, delivery: string, answer: AppendAnswer): void {
    const size = (webhook.kind === 'event' ? webhook.data : webhook.body).length;
    if (!kept.has(delivery)) bytes += size;
    // Where it is kept already it keeps its place.
    kept.set(delivery, { webhook, delivery, event: takenIn(answer), at: performance.now(), bytes: size });
    for (const oldest of kept.values()) {
      if (bytes <= bytesMax) return;
      forget(oldest);
    }
  }

  function forget(old: Kept): void {
    kept.delete(old.delivery);
    bytes -= old.bytes;
  }

  async function watch(connection: Connection): Promise<void> {
    while (!stopping.signal.aborted) {
      const askedAt = performance.now();
      const answer = await ask(connection).catch((error: unknown) => noteAway(connection, error));
      if (answer !== undefined) notice(connection, askedAt, ...(answer as [string, number]));
      const waitMs = isSettled(connection) ? everyMs : Math.min(everyMs, UNSURE_EVERY_MS);
      await sleep(waitMs, undefined, { signal: stopping.signal, ref: false }).catch(() => {});
    }
  }

  function ask({ identify }: Connection): Promise<unknown> {
    const oldest = findOldest();
    const places = oldest === undefined ? streams : [...streams, keys.progress(oldest.key)];
    const about = kept.size === 0 ? [] : [oldest?.id ?? '+'];
    return identify(places, [streams.length, ...about]);
  }

  function findOldest(): TakenIn | undefined {
    for (const { event } of kept.values()) if (event !== undefined) return event;
    return undefined;
  }

  function notice(connection: Connection, askedAt: number, id: string, wasEmptied: number): void {
    const isSame = connection.server === id;
    Object.assign(connection, { server: id, seenAt: askedAt, awayFor: NOT_CONNECTED });
    if (wasEmptied === 1) forgetBefore(askedAt);
    if (isSame) age();
    else if (kept.size > 0) giveAgain();
  }

  function age(): void {
    // While they lead to different ones, what was given again may have gone to the one that is about to be left.
    if (requests.server !== later.server) return;
    const seenAt = Math.min(requests.seenAt, later.seenAt);
    for (const old of kept.values()) if (old.at < seenAt - keptMs) forget(old);
  }

  /** What was kept since Redis was asked may have been taken in since it was emptied. */
  function forgetBefore(askedAt: number): void {
    const gone = [...kept.values()].filter(({ at }) => at < askedAt);
    if (gone.length > 0)
      log.warn({ webhooks: gone.length }, 'redis was emptied: what was taken in of late is not appended again');
    for (const old of gone) forget(old);
    toAppend.clear();
  }

  function giveAgain(): void {
    log.info({ webhooks: kept.size }, 'redis is another than before: what it lacks of late is appended again');
    for (const [delivery, one] of kept) {
      // What an earlier round has left, and is not kept any more, is older.
      toAppend.delete(delivery);
      toAppend.set(delivery, one);
    }
    void appendAgain();
  }

  function isSettled(connection: Connection): boolean {
    return toAppend.size === 0 && isAnswering(connection);
  }

  async function appendAgain(): Promise<void> {
    if (isAppending) return;
    isAppending = true;
    let waitMs = RETRY_MS_MIN;
    let refusals = 0;
    while (toAppend.size > 0 && !stopping.signal.aborted) {
      // The first, each time anew: meanwhile Redis may have been emptied, or be another once more.
      const { webhook, delivery } = toAppend.values().next().value!;
      try {
        noteAppended(webhook, delivery, await append(webhook, delivery));
      } catch (error) {
        if (!isAway(error)) refusals += 1;
        if (refusals < REFUSALS_MAX) {
          await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => {});
          waitMs = Math.min(2 * waitMs, RETRY_MS_MAX);
          continue;
        }
        log.error({ key: keyOf(webhook), reason: reasonOf(error) }, 'redis refuses a webhook that it may have lost');
      }
      toAppend.delete(delivery);
      waitMs = RETRY_MS_MIN;
      refusals = 0;
    }
    isAppending = false;
  }

  function noteAppended(webhook: Webhook, delivery: string, answer: AppendAnswer): void {
    if (answer.status === 'duplicate') return;
    // It may be lost once more.
    keep(webhook, delivery, answer);
    found += 1;
    const { eventId, idempotencyKey } = answer;
    log.warn({ eventId, key: idempotencyKey }, 'redis had lost a webhook; appended again');
  }
}

function takenIn(answer: AppendAnswer): TakenIn | undefined {
  const id = answer.status === 'duplicate' ? undefined : parseEventId(answer.eventId)?.id;
  return id === undefined ? undefined : { key: answer.idempotencyKey, id };
}

/** Each time that it breaks it may lead elsewhere afterwards. */
function makeConnection(redis: RedisClient): Connection {
  const connection: Connection = {
    identify: loadScript(redis, 'identify'),
    server: undefined,
    seenAt: Number.NEGATIVE_INFINITY,
    awayAt: performance.now(),
    awayFor: NOT_CONNECTED,
  };
  redis.on('error', (error) => noteAway(connection, error));
  redis.on('close', () => {
    connection.awayAt = performance.now();
  });
  return connection;
}

function isAnswering({ seenAt, awayAt }: Connection): boolean {
  return seenAt > awayAt;
}

function noteAway(connection: Connection, error: unknown): void {
  const reason = reasonOf(error);
  // Why there is no connection tells more.
  if (reason !== NOT_CONNECTED) connection.awayFor = reason;
  connection.awayAt = performance.now();
}
