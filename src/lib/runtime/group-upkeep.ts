/** What keeps a consumer group itself in order: that it is there, and that nobody stands in it who has gone. */
import type { StreamName } from '../event-id.js';
import { type GroupName, streamsOf } from '../events.js';
import type { Keys } from '../keys.js';
import type { RedisClient } from '../redis.js';
import { loadScript } from '../scripts.js';

/** `from`: the entry after which the group begins. */
export type MadeGroup = { stream: StreamName; from: string; wasThere: boolean };

export type GroupUpkeep = ReturnType<typeof makeGroupUpkeep>;

export function makeGroupUpkeep(options: { redis: RedisClient; keys: Keys; group: GroupName; consumer: string }) {
  const { redis, keys, group, consumer } = options;
  const names = streamsOf(group);
  const streams = names.map((name) => keys.stream(name));
  const ensure = loadScript(redis, 'ensure-groups');
  const save = loadScript(redis, 'save-cursors');
  const remove = loadScript(redis, 'remove-consumer');
  const removeDead = loadScript(redis, 'remove-dead-consumers');

  return {
    /** Makes the group where it is missing. Returns where it had to be made. */
    async ensureGroups(): Promise<MadeGroup[]> {
      const made = (await ensure([keys.cursors(group), ...streams], [group, ...names])) as [
        StreamName,
        string,
        number,
      ][];
      return made.map(([stream, from, wasThere]) => ({ stream, from, wasThere: wasThere === 1 }));
    },

    /** Remembers how far the group is; one worker does it in each `everyMs`. Returns the consumers that somebody has removed by hand. */
    async saveCursors(everyMs: number): Promise<string[]> {
      return (await save([keys.cursors(group), ...streams], [group, everyMs, ...names])) as string[];
    },

    /** True for one worker in each span of time. */
    async leaseTick(ms: number): Promise<boolean> {
      return (await redis.set(keys.lease(`tick:${group}`), consumer, 'PX', ms, 'NX')) === 'OK';
    },

    /** Takes this consumer out of the group, and hands back what it still holds. */
    async leave(): Promise<void> {
      await save([keys.cursors(group), ...streams], [group, 0, ...names]);
      await remove([keys.alive(group), ...streams], [group, consumer]);
    },

    /** Removes consumers of dead workers that have held nothing for so long. Returns how many. */
    async removeDeadConsumers(idleMs: number): Promise<number> {
      return (await removeDead([keys.alive(group), ...streams], [group, consumer, idleMs])) as number;
    },
  };
}
