/** What the alerts must remember between two tries and between workers: working keys, each with an end. */
import type { Provider } from './errors.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';

export type Storm = { since: string; failures: number };

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
    budget: async (now = new Date()): Promise<boolean> => {
      const key = `${keys.lease('alerts')}:${Math.floor(now.getTime() / (MINUTE_S * 1000))}`;
      const posted = await redis.incr(key);
      if (posted === 1) await redis.expire(key, 2 * MINUTE_S);
      return posted <= SINGLES_PER_MINUTE;
    },
    /** A storm is told in digests; it goes on with every failure, and is over after a time without any. */
    storm: {
      add: async (failures: number, now: Date): Promise<void> => {
        await redis.hsetnx(keys.storm(), 'since', now.toISOString());
        await redis.hincrby(keys.storm(), 'count', failures);
        await redis.hset(keys.storm(), 'last', now.getTime());
      },
      isOn: async (): Promise<boolean> => (await redis.exists(keys.storm())) === 1,
      /** The storm that has ended, to be told once; `undefined` while there is none or it goes on. */
      takeEnded: async (quietMs: number, now: Date): Promise<Storm | undefined> => {
        const { since, count, last } = await redis.hgetall(keys.storm());
        if (since === undefined || now.getTime() - Number(last) < quietMs) return undefined;
        return (await redis.del(keys.storm())) === 1 ? { since, failures: Number(count) } : undefined;
      },
    },
    isStillPaused: async (provider: Provider, since: string) =>
      (await redis.hget(keys.pause(provider), 'since')) === since,
    wasAlerted: (provider: Provider, since: string) => isMarked(pauseMark(provider, since)),
    markAlerted: (provider: Provider, since: string) => mark(pauseMark(provider, since)),
  };
}
