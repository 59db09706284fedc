import type { RedisClient } from '../../src/lib/redis.js';

type Command = (...args: unknown[]) => Promise<unknown>;

/** The client, and what `around` does around one of its commands. */
export function withCommand(
  redis: RedisClient,
  name: string,
  around: (command: Command, args: unknown[]) => Promise<unknown>,
): RedisClient {
  return new Proxy(redis, {
    get(target, property) {
      const value = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      const command = value.bind(target) as Command;
      return property === name ? (...args: unknown[]) => around(command, args) : command;
    },
  });
}
