/** Brings what is in the spool to Redis: one after the other, each taken out once its append was answered. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Append } from '../../lib/append.js';
import type { SpoolRecord } from './format.js';
import { isAway, reasonOf } from './refusal.js';
import type { SpoolStore } from './store.js';

export type Drain = {
  /** There may be something to do. */
  wake: () => void;
  /** The last append was answered, and nothing has failed since. */
  isFlowing: () => boolean;
  /** An append elsewhere has failed. */
  noteOutage: () => void;
  /** Finishes the append in hand. */
  stop: () => Promise<void>;
};

export type DrainDeps = {
  store: SpoolStore;
  append: Append;
  /** Called when an append, or the disk, has failed. */
  onStall: () => void;
  log: Logger;
};

const TRIES_MAX = 5;
const WAIT_MS_MIN = 50;
const WAIT_MS_MAX = 500;

export function startDrain({ store, append, onStall, log }: DrainDeps): Drain {
  const stopping = new AbortController();
  let awaken = () => {};
  let isFlowing = false;
  let drained = 0;
  let failures = 0;
  let refusals = 0;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const change = new Promise<void>((resolve) => {
        awaken = resolve;
      });
      try {
        const record = await store.head();
        if (record) await deliver(record);
        else {
          reportDrained();
          await change;
        }
      } catch (error) {
        await pause(error);
      }
    }
  }

  async function deliver(record: SpoolRecord): Promise<void> {
    const spoolId = spoolIdOf(record.seq);
    try {
      const { status, eventId, idempotencyKey, ...more } = await append(record.webhook, record.delivery);
      const answered = { spoolId, status, eventId, key: idempotencyKey, source: record.webhook.source };
      log.info({ ...answered, ...more }, 'spooled webhook');
    } catch (error) {
      if (isAway(error)) throw error;
      refusals += 1;
      if (refusals < TRIES_MAX) throw error;
      const file = await store.setHeadAside();
      log.error({ spoolId, file, reason: reasonOf(error) }, 'a spooled webhook was refused for good and set aside');
      refusals = 0;
      failures = 0;
      return;
    }
    isFlowing = true;
    failures = 0;
    refusals = 0;
    drained += 1;
    store.removeHead();
  }

  async function pause(error: unknown): Promise<void> {
    if (failures === 0) {
      const { records, bytes } = store.figures();
      log.warn({ reason: reasonOf(error), records, bytes }, 'the spool waits');
    }
    failures += 1;
    isFlowing = false;
    onStall();
    const waitMs = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** failures);
    await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => {});
  }

  function reportDrained(): void {
    if (drained > 0) log.info({ records: drained }, 'the spool is drained');
    drained = 0;
  }

  const running = run();
  return {
    wake: () => awaken(),
    isFlowing: () => isFlowing,
    noteOutage() {
      isFlowing = false;
    },
    async stop() {
      stopping.abort();
      awaken();
      await running;
    },
  };
}

/** What a spooled webhook is called in answers and log lines. */
export function spoolIdOf(seq: number): string {
  return `spool-${seq}`;
}
