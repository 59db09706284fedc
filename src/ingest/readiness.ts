/** Whether a webhook would be taken in now: Redis answers, and lets us write; or the spool does. */
import type { Keys } from '../lib/keys.js';
import type { RedisClient } from '../lib/redis.js';
import { loadScript } from '../lib/scripts.js';
import type { Readiness } from './app.js';
import type { Spool } from './spool/spool.js';

const TIMEOUT_MS = 800;

export type ReadinessDeps = {
  redis: RedisClient;
  keys: Keys;
  /** Where there is one. */
  spool?: Pick<Spool, 'health'> | undefined;
  /** A Redis that says nothing for so long is down. */
  timeoutMs?: number;
};

/**
 * A write is the only proof, and by a script, as webhooks are: a replica, a full memory and a full disk all answer PING, and a
 * user may be allowed one command and not another.
 */
export function makeReadiness({ redis, keys, spool, timeoutMs = TIMEOUT_MS }: ReadinessDeps) {
  const run = loadScript(redis, 'ready');
  let asking: Promise<Readiness> | undefined;

  // Anyone may ask, so those who ask at once share one write.
  return () => {
    asking ??= ask().finally(() => {
      asking = undefined;
    });
    return asking;
  };

  async function ask(): Promise<Readiness> {
    const write = run([keys.readiness(), keys.stream('events:calendly')], []);
    const reply = await Promise.race([write.then(() => 'up', refusalOf), silence(timeoutMs)]);
    const health = spool?.health();
    return {
      ok: reply === 'up' || health === 'accepting',
      checks: { redis: reply, ...(health && { spool: health }) },
    };
  }
}

/** Redis' own refusals begin with a word in capitals, as in `OOM command not allowed`. */
function refusalOf(error: Error): string {
  return /^[A-Z]{3,}\b/.test(error.message) ? 'not_writable' : 'down';
}

function silence(ms: number): Promise<string> {
  return new Promise((resolve) => setTimeout(resolve, ms, 'down').unref());
}
