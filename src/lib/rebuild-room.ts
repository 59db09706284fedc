/** Whether Redis has memory for a second copy of a projection's states, below its limit and what is left to those who do the work. */
import { type Keys, keysOfCopy } from './keys.js';
import { scanKeys } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { readSpareBytes } from './redis-facts.js';

/** Redis has no memory for a second copy of the states. */
export class NoRoomError extends Error {
  override readonly name = 'NoRoomError';
}

export type RebuildRoom = {
  /** Throws `NoRoomError` where so many bytes are not free. */
  assertFree: (bytes: number) => Promise<void>;
  /** What the copy will take, as the live projection does, or the checkpoint where the live one is lost. */
  estimateBytes: () => Promise<number>;
};

/** What a state takes in Redis beside its text: keys, and its place among those that are to be swapped. */
const STATE_BYTES = 300;
/** Of so many batches of states one is measured. */
const MEASURED_EACH = 16;
const MB = 1_048_576;

/** `name` is the projection's. */
export function makeRebuildRoom({ redis, keys, name }: { redis: RedisClient; keys: Keys; name: string }): RebuildRoom {
  return {
    async assertFree(bytes) {
      const free = await readSpareBytes(redis, keys);
      if (bytes <= free) return;
      const needs = bytes === 0 ? 'more than that' : `about ${Math.ceil(bytes / MB)} MB`;
      throw new NoRoomError(
        `Redis has ${Math.max(0, Math.floor(free / MB))} MB to spare below its memory limit, and a second copy of ${name} needs ${needs}: raise maxmemory, or drop what is old first (gvi trim)`,
      );
    },

    async estimateBytes() {
      const places = [keys, keysOfCopy(keys, 'checkpoint')];
      return Math.max(...(await Promise.all(places.map((of) => measure(of.projection(name, ''))))));
    },
  };

  async function measure(start: string): Promise<number> {
    let [batches, states, measured, bytes] = [0, 0, 0, 0];
    for await (const found of scanKeys(redis, start)) {
      states += found.length;
      if (batches % MEASURED_EACH === 0) {
        const texts = await redis.mget(found);
        measured += texts.length;
        bytes += texts.reduce((total, text) => total + (text?.length ?? 0), 0);
      }
      batches += 1;
    }
    return states === 0 ? 0 : states * (STATE_BYTES + bytes / measured);
  }
}
