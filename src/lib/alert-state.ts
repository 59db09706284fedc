/** What the alerts must remember between two tries and between workers: working keys, each with an end. */
import type { Provider } from './errors.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';

export type AlertState = ReturnType<typeof makeAlertState>;

const MARK_KEPT_S = 7 * 86_400;
const MINUTE_S = 60;
const SINGLES_PER_MINUTE = 5;

export function makeAlertState({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  const pauseMark = (provider: Provider, since: string) => keys.alertMark(`${provider}:${since}`);
  const mark = async (key: string) => {
    await redis.set(key, '1', 'EX', MARK_KEPT_S);
  };
  const isMarked = async (key: string) => (await redis.exists(key)) === 1;

  return {
    /** Whether an earlier try may have posted the alert: its answer never came. */
    wasSent: (eventId: string) => isMarked(keys.alertMark(eventId)),
    markSending: (eventId: string) => mark(keys.alertMark(eventId)),
    clearSent: async (eventId: string): Promise<void> => {
      await redis.unlink(keys.alertMark(eventId));
    },
    /** Whether one more single message may be posted in this minute; beyond that alerts gather into a digest. */
    budget: async (): Promise<boolean> => {
      const key = `${keys.lease('alerts')}:${Math.floor(Date.now() / (MINUTE_S * 1000))}`;
      const posted = await redis.incr(key);
      if (posted === 1) await redis.expire(key, 2 * MINUTE_S);
      return posted <= SINGLES_PER_MINUTE;
    },
    isStillPaused: async (provider: Provider, since: string) =>
      (await redis.hget(keys.pause(provider), 'since')) === since,
    wasAlerted: (provider: Provider, since: string) => isMarked(pauseMark(provider, since)),
    markAlerted: (provider: Provider, since: string) => mark(pauseMark(provider, since)),
  };
}
