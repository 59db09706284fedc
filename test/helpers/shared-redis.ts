/** One Redis for all tests of a suite, empty at the start of each. */
import type { Test } from 'uvu';
import type { RedisClient } from '../../src/lib/redis.js';
import { startRedis, type TestRedis } from './redis-server.js';

export type SharedRedis = { server: TestRedis; redis: RedisClient };

/** Starts it before the first test and stops it after the last. To be called before the suite's own hooks, which may use it. */
export function shareRedis(test: Test, onStart: (shared: SharedRedis) => void): void {
  let shared: SharedRedis;
  test.before(async () => {
    const server = await startRedis();
    shared = { server, redis: server.connect() as unknown as RedisClient };
    onStart(shared);
  });
  test.before.each(async () => {
    await shared.redis.flushall();
  });
  test.after(() => shared.server.stop());
}
