/** Whether a webhook would be taken in now: Redis answers, and lets us write. */
import type { Keys } from '../lib/keys.js';
import type { RedisClient } from '../lib/redis.js';
import type { Readiness } from './app.js';

const TIMEOUT_MS = 800;

/** A write is the only proof: a replica, a full memory and a full disk all answer PING. */
export function makeReadiness({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  return async (): Promise<Readiness> => {
    const write = redis.set(keys.readiness(), '1', 'PX', 10_000);
    const reply = await Promise.race([write.then(() => 'up', refusalOf), silence()]);
    return { ok: reply === 'up', checks: { redis: reply } };
  };
}

/** Redis' own refusals begin with a word in capitals, as in `OOM command not allowed`. */
function refusalOf(error: Error): string {
  return /^[A-Z]{3,}\b/.test(error.message) ? 'not_writable' : 'down';
}

function silence(): Promise<string> {
  return new Promise((resolve) => setTimeout(resolve, TIMEOUT_MS, 'down').unref());
}
