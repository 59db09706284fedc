/**
 * Finds a worker that is ready and dead: its read loops do not come round although Redis answers. Its connections are made
 * anew; if that does not help, it must end, so that whatever supervises it starts another.
 */
import type { Logger } from 'pino';
import { within } from './within.js';

export type LoopWatchdog = {
  /** How long the slowest read loop has not come round. */
  stalledMs: () => number;
  /** False once a read loop has stood still for long while Redis answered others: an outage of Redis is no death. */
  isAlive: () => boolean;
  stop: () => void;
};

export type LoopBounds = {
  /** After so long without a round the connections are made anew. */
  reconnectMs: number;
  /** After so long it does not count as alive any more. */
  deadMs: number;
  /** After so long, and as long again with a Redis that answers others, it ends. */
  endMs: number;
};

const TICK_MS = 500;
const PROBE_WAIT_MS = 2_000;
/** A loop takes so long to come round again where Redis has come back; until then that is no fault of it. */
const ANSWERS_MS = 2_000;

export function watchLoops(options: {
  /** When each loop last came round, by a clock that nobody sets (`performance.now()`). */
  lastLoopAt: () => readonly number[];
  /** Asks Redis over a connection of its own. */
  probe: () => Promise<unknown>;
  reconnect: () => void;
  onDead: () => void;
  bounds: LoopBounds;
  log: Logger;
}): LoopWatchdog {
  const { lastLoopAt, probe, reconnect, onDead, bounds, log } = options;
  const answersMs = Math.min(ANSWERS_MS, bounds.reconnectMs / 2);
  let seen = '';
  let stalledMs = 0;
  let answeredMs = 0;
  let tickedAt = performance.now();
  let isProbing = false;
  let isReconnected = false;
  const timer = setInterval(() => void tick(), TICK_MS);
  timer.unref();

  return {
    stalledMs: () => stalledMs,
    isAlive: () => stalledMs < bounds.deadMs || answeredMs < bounds.deadMs - bounds.reconnectMs,
    stop: () => clearInterval(timer),
  };

  async function tick(): Promise<void> {
    const now = performance.now();
    // A process that was stopped itself has not stalled for that long.
    const passedMs = Math.min(now - tickedAt, 2 * TICK_MS);
    tickedAt = now;
    const rounds = String(Math.min(...lastLoopAt()));
    if (rounds !== seen) {
      seen = rounds;
      if (isReconnected) log.info('the read loop goes on');
      stalledMs = 0;
      answeredMs = 0;
      isReconnected = false;
      return;
    }
    stalledMs += passedMs;
    if (stalledMs < bounds.reconnectMs - answersMs || isProbing) return;
    isProbing = true;
    const doesAnswer = await within(PROBE_WAIT_MS, probe()).catch(() => false);
    isProbing = false;
    answeredMs = doesAnswer ? answeredMs + passedMs : 0;
    if (stalledMs < bounds.reconnectMs || answeredMs < answersMs) return;
    if (!isReconnected) {
      log.error(
        { stalledMs: Math.round(stalledMs) },
        'the read loop stands still although Redis answers; reconnecting',
      );
      isReconnected = true;
      reconnect();
    } else if (stalledMs >= bounds.endMs && answeredMs >= bounds.reconnectMs) {
      log.fatal({ stalledMs: Math.round(stalledMs) }, 'the read loop is dead although Redis answers');
      onDead();
    }
  }
}
