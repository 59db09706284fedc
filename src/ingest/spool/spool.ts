/**
 * Takes webhooks in while Redis is away: to disk, and from there to Redis once it is back, in order. While there is
 * anything on disk, what arrives goes there too, as it would overtake the rest otherwise; and so does, once Redis is found
 * away, all that it has not answered yet. An append whose answer was late, and one that a crash keeps from being taken out, is
 * repeated under the same name of its delivery, and so makes no second entry.
 */
import { open } from 'node:fs/promises';
import type { Logger } from 'pino';
import { type Append, type AppendAnswer, keyOf, nameDelivery, StoreUnavailableError } from '../../lib/append.js';
import { prepareDirectory } from './directory.js';
import { spoolIdOf, startDrain } from './drain.js';
import type { SpooledWebhook } from './format.js';
import { takeLock } from './lock.js';
import { isAway } from './refusal.js';
import type { OpenFile } from './segment.js';
import { openStore, type StoreFigures } from './store.js';

/** On disk; `idempotencyKey` is that of a meeting's first revision, as only Redis knows the others. */
export type SpooledAnswer = { status: 'spooled'; spoolId: string; idempotencyKey: string };

/** Rejects with `StoreUnavailableError` where neither Redis nor the disk takes the webhook. */
export type TakeIn = (webhook: SpooledWebhook) => Promise<AppendAnswer | SpooledAnswer>;

export type Spool = {
  takeIn: TakeIn;
  health: () => 'accepting' | 'full' | 'failing';
  figures: () => StoreFigures;
  /** Finishes what is on its way, and gives the directory free. Nothing may be taken in any more. */
  stop: () => Promise<void>;
};

export type SpoolOptions = {
  /** Made where it is missing; readable by its owner alone. */
  dir: string;
  /** Of the whole directory. */
  bytesMax: number;
  append: Append;
  /** For what is drained, where it may take longer than a request may [as `append`]. */
  drainAppend?: Append | undefined;
  log: Logger;
  /** How long a webhook waits for the disk. */
  deadlineMs?: number;
  segmentBytesMax?: number;
  openFile?: OpenFile;
};

/** With the append's own time before it, an answer comes within two seconds. */
const DEADLINE_MS = 700;
const SEGMENT_BYTES_MAX = 16 * 1024 * 1024;
const HOLD_MS = 200;
const HOLD_RECORDS_MAX = 50;

/** Owns the directory and drains it from now on. Throws `ConfigError` where it cannot, or another process owns it. */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const { dir, bytesMax, append, drainAppend = append, log, deadlineMs = DEADLINE_MS, openFile = open } = options;
  await prepareDirectory(dir, openFile, log);
  const lock = await takeLock(dir, log);
  const segmentBytesMax = Math.min(options.segmentBytesMax ?? SEGMENT_BYTES_MAX, Math.ceil(bytesMax / 8));
  const { confirm: confirmOwner } = lock;
  const storeOptions = { dir, bytesMax, deadlineMs, segmentBytesMax, openFile, confirmOwner, log };
  const store = await openStore(storeOptions).catch(async (error) => {
    await lock.release();
    throw error;
  });
  const { records, bytes, unreadable } = store.figures();
  if (records + unreadable > 0) log.info({ records, bytes, unreadable }, 'the spool holds records');
  /** What waits for the end of the drain, by arrival: none is let go before one that came earlier. */
  const held = new Set<() => void>();
  /** What Redis was asked to take, by arrival: each goes to disk when called. */
  const asked = new Set<() => void>();
  const drain = startDrain({ store, append: drainAppend, onStall: letGo, log });
  const isDraining = () => !store.isEmpty() && drain.isFlowing();
  const isNearlyEmpty = () => isDraining() && store.figures().records <= HOLD_RECORDS_MAX;

  store.onChange(() => {
    drain.wake();
    if (store.isEmpty()) letGo();
  });

  /**
   * A steady load would never find the spool empty, as there is always a webhook on its way to it, and a heavy one could
   * outrun the drain. So while that works, webhooks wait a little; at its end long enough to see the last few out.
   */
  function hold<Answer>(send: () => Promise<Answer>): Promise<Answer> {
    return new Promise((resolve) => {
      let timer = setTimeout(() => {
        if (isNearlyEmpty()) timer = setTimeout(letGo, HOLD_MS, go);
        else letGo(go);
      }, HOLD_MS);
      function go(): void {
        clearTimeout(timer);
        held.delete(go);
        resolve(send());
      }
      held.add(go);
    });
  }

  /** All; or, as long as there is a drain to wait for, those up to `last`. */
  function letGo(last?: () => void): void {
    for (const go of held) {
      go();
      if (go === last && isDraining()) return;
    }
  }

  async function takeIn(webhook: SpooledWebhook): Promise<AppendAnswer | SpooledAnswer> {
    const delivery = nameDelivery();
    const send = () => (store.isEmpty() ? toRedis(webhook, delivery) : toDisk(webhook, delivery));
    return isDraining() || held.size > 0 ? hold(send) : send();
  }

  function toRedis(webhook: SpooledWebhook, delivery: string): Promise<AppendAnswer | SpooledAnswer> {
    return new Promise((resolve, reject) => {
      const appended = append(webhook, delivery);
      const leave = () => {
        asked.delete(leave);
        // Where the disk refuses it, Redis may take it after all.
        toDisk(webhook, delivery).then(resolve, (refusal) => appended.then(resolve, () => reject(refusal)));
      };
      asked.add(leave);
      appended.then(
        (answer) => {
          asked.delete(leave);
          resolve(answer);
        },
        (error) => {
          if (!asked.has(leave)) return;
          if (isAway(error)) return noteOutage();
          asked.delete(leave);
          reject(error);
        },
      );
    });
  }

  /** What Redis was asked to take goes to disk at once, and in order: what comes from now on would overtake it otherwise. */
  function noteOutage(): void {
    drain.noteOutage();
    for (const leave of asked) leave();
  }

  async function toDisk(webhook: SpooledWebhook, delivery: string): Promise<SpooledAnswer> {
    try {
      const seq = await store.put(webhook, delivery);
      return { status: 'spooled', spoolId: spoolIdOf(seq), idempotencyKey: keyOf(webhook) };
    } catch (cause) {
      throw new StoreUnavailableError('Neither Redis nor the spool took the webhook', { cause });
    }
  }

  return {
    takeIn,
    health: () => (lock.isLost() ? 'failing' : store.health()),
    figures: store.figures,
    async stop() {
      await drain.stop();
      await store.close();
      await lock.release();
    },
  };
}
