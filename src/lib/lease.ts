/** A lease in Redis: one owner at a time, for as long as it says so again and again. */
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type OwnLease = {
  /** Takes it, or keeps it; false where it is another's. */
  hold: () => Promise<boolean>;
  release: () => Promise<void>;
};

export function makeLease(
  redis: RedisClient,
  { key, owner, ms }: { key: string; owner: string; ms: number },
): OwnLease {
  const hold = loadScript(redis, 'hold-lease');
  const release = loadScript(redis, 'release-lease');
  return {
    hold: async () => (await hold([key], [owner, ms])) === 1,
    async release() {
      await release([key], [owner]);
    },
  };
}
