/** What the alerts must remember between two tries and between workers: working keys, each with an end. */
import type { Provider } from './errors.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';

export type AlertState = ReturnType<typeof makeAlertState>;

const MARK_KEPT_S = 7 * 86_400;
const MINUTE_S = 60;
const SINGLES_PER_MINUTE = 5;

export function makeAlertState({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  return {
    /** Whether an earlier try may have posted the alert: its answer never came. */
    wasSent: async (eventId: string): Promise<boolean> => (await redis.exists(keys.alertMark(eventId))) === 1,
    markSending: async (eventId: string): Promise<void> => {
      await redis.set(keys.alertMark(eventId), '1', 'EX', MARK_KEPT_S);
    },
    /** Whether one more single message may be posted in this minute; beyond that alerts gather into a digest. */
    budget: async (): Promise<boolean> => {
      const key = `${keys.lease('alerts')}:${Math.floor(Date.now() / (MINUTE_S * 1000))}`;
      const posted = await redis.incr(key);
      if (posted === 1) await redis.expire(key, 2 * MINUTE_S);
      return posted <= SINGLES_PER_MINUTE;
    },
    isStillPaused: async (provider: Provider, since: string): Promise<boolean> =>
      (await redis.hget(keys.pause(provider), 'since')) === since,
    wasAlerted: async (provider: Provider, since: string): Promise<boolean> =>
      (await redis.exists(keys.alertMark(`${provider}:${since}`))) === 1,
    markAlerted: async (provider: Provider, since: string): Promise<void> => {
      await redis.set(keys.alertMark(`${provider}:${since}`), '1', 'EX', MARK_KEPT_S);
    },
  };
}
