/**
 * Takes webhooks in while Redis is away: to disk, and from there to Redis once it is back, in order. While there is
 * anything on disk, what arrives goes there too, as it would overtake the rest otherwise. An append whose answer was late, and
 * one that a crash keeps from being taken out, is repeated under the same name of its delivery, and so makes no second entry.
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
  const held = new Set<() => void>();
  const letAllGo = () => {
    for (const letGo of held) letGo();
  };
  const drain = startDrain({ store, append: drainAppend, onStall: letAllGo, log });
  const isDraining = () => !store.isEmpty() && drain.isFlowing();
  const isNearlyEmpty = () => isDraining() && store.figures().records <= HOLD_RECORDS_MAX;

  store.onChange(() => {
    drain.wake();
    if (store.isEmpty()) letAllGo();
  });

  /**
   * A steady load would never find the spool empty, as there is always a webhook on its way to it, and a heavy one could
   * outrun the drain. So while that works, webhooks wait a little; at its end long enough to see the last few out.
   */
  function hold(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(letGo, HOLD_MS);
      function letGo(): void {
        clearTimeout(timer);
        held.delete(letGo);
        resolve();
      }
      held.add(letGo);
    });
  }

  async function takeIn(webhook: SpooledWebhook): Promise<AppendAnswer | SpooledAnswer> {
    const delivery = nameDelivery();
    if (isDraining()) await hold();
    if (isNearlyEmpty()) await hold();
    if (store.isEmpty()) {
      try {
        return await append(webhook, delivery);
      } catch (error) {
        if (!isAway(error)) throw error;
        drain.noteOutage();
      }
    }
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
