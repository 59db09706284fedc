/**
 * What the alerts must remember between two tries and between workers: working keys, each with an end. Whatever is written
 * may be written twice, as a lost reply makes the client do.
 */
import { randomBytes } from 'node:crypto';
import type { Provider } from './errors.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type Storm = { since: string; failures: number };

const MARK_KEPT_S = 7 * 86_400;
const REASON_KEPT_S = 3_600;
const STORM_KEPT_S = 7 * 86_400;
const ENDED_KEPT_S = 60;
const MINUTE_S = 60;
const SINGLES_PER_MINUTE = 5;

export function makeAlertState({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  const pauseMark = (provider: Provider, since: string) => keys.alertMark(`${provider}:${since}`);
  const reasonMark = (provider: Provider, reason: string) => keys.alertMark(`${provider}:reason:${reason}`);
  const takeSingle = loadScript(redis, 'take-single');
  const noteStorm = loadScript(redis, 'note-storm');
  const endStorm = loadScript(redis, 'end-storm');
  const stormKeys = [keys.storm(), `${keys.storm()}:failures`];

  const note = async (failureIds: readonly string[], now: Date, mayBegin: boolean): Promise<void> => {
    const args = [now.toISOString(), now.getTime(), STORM_KEPT_S, mayBegin ? 1 : 0, ...failureIds];
    await noteStorm(stormKeys, args);
  };

  return {
    /** How many earlier tries may have posted the alert: what came of them is not known. */
    triesOf: async (eventId: string) => Number(await redis.get(keys.alertMark(eventId))),
    setTries: async (eventId: string, tries: number): Promise<void> => {
      const key = keys.alertMark(eventId);
      await (tries === 0 ? redis.unlink(key) : redis.set(key, tries, 'EX', MARK_KEPT_S));
    },
    /** Whether a failure may have a message of its own in this minute; beyond a few alerts gather into a digest. */
    budget: async (failureId: string, now: Date): Promise<boolean> => {
      const key = `${keys.lease('alerts')}:singles:${Math.floor(now.getTime() / (MINUTE_S * 1000))}`;
      return (await takeSingle([key], [failureId, SINGLES_PER_MINUTE, 2 * MINUTE_S])) === 1;
    },
    /** A storm is told in digests; it goes on with every failure, and is over after a time without any. */
    storm: {
      begin: (failureIds: readonly string[], now: Date) => note(failureIds, now, true),
      /** Nothing where there is none. */
      goOn: (failureIds: readonly string[], now: Date) => note(failureIds, now, false),
      /** The storm that has ended, to be told once; `undefined` while there is none or it goes on. */
      takeEnded: async (quietMs: number, now: Date): Promise<Storm | undefined> => {
        const asker = randomBytes(8).toString('hex');
        const ended = await endStorm(
          [...stormKeys, `${keys.storm()}:ended`],
          [now.getTime() - quietMs, asker, ENDED_KEPT_S],
        );
        if (ended === null) return undefined;
        const [since, failures] = ended as [string, number];
        return { since, failures };
      },
    },
    isStillPaused: async (provider: Provider, since: string) =>
      (await redis.hget(keys.pause(provider), 'since')) === since,
    wasAlerted: async (provider: Provider, since: string) => (await redis.exists(pauseMark(provider, since))) === 1,
    markAlerted: async (provider: Provider, since: string, reason: string): Promise<void> => {
      await redis.set(pauseMark(provider, since), '1', 'EX', MARK_KEPT_S);
      await redis.set(reasonMark(provider, reason), since, 'EX', REASON_KEPT_S);
    },
    lastAlerted: async (provider: Provider, reason: string) =>
      (await redis.get(reasonMark(provider, reason))) ?? undefined,
  };
}
