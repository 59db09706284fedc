/**
 * At its memory limit Redis refuses every command that may need memory, also a lease, a token or a mark of a few bytes. But
 * those are what the pipeline drains and trims by. So what is refused for this reason alone is sent once more by a script
 * that may go over the limit; while there is room nothing is any different.
 */
import type { RedisClient } from './redis.js';
import { judgeRedisError } from './redis-errors.js';

type Send = (...args: (string | number | Buffer)[]) => Promise<unknown>;

/** What workers and tools send outside of scripts, with the place of the key among the arguments. */
const SMALL_WRITES = { set: 0, hset: 0, sadd: 0, xgroup: 1 } as const;

const SEND_ANYWAY = '#!lua flags=allow-oom\nreturn redis.call(unpack(ARGV))';

/** Changes the client: not for ingest, whose writes are what must stop at the limit. */
export function allowSmallWritesAtLimit(client: RedisClient): void {
  const commands = client as unknown as Record<string, Send>;
  for (const [name, place] of Object.entries(SMALL_WRITES)) {
    const send = commands[name]!.bind(client);
    commands[name] = (...args) =>
      send(...args).catch((error: unknown) => {
        if (judgeRedisError(error)?.code !== 'OOM') throw error;
        return client.eval(SEND_ANYWAY, 1, args[place]!, name, ...args);
      });
  }
}
