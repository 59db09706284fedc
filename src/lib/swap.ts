/**
 * Puts a rebuilt projection in the place of the live one, a thousand states at a time: Redis answers nobody else while a
 * script runs. Until the last of them the live projection stands still; when the one who swaps dies, any projector goes on.
 */
import { type Keys, keysOfCopy } from './keys.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

/** Odd while a swap is under way. */
export function isSwapping(swaps: string): boolean {
  return Number(swaps) % 2 === 1;
}

/** The sorted set of the ids in which the rebuilt projection differs from the live one. */
export function changesOf(keys: Keys, name: string): string {
  return keysOfCopy(keys, 'rebuild').projection('changes', name);
}

/** Makes the step that goes on with a swap to its end; where none is under way it does nothing. */
export function makeFinishSwap({ redis, keys }: { redis: RedisClient; keys: Keys }): (name: string) => Promise<void> {
  const script = loadScript(redis, 'swap-projection');
  const rebuilt = keysOfCopy(keys, 'rebuild');
  return async (name) => {
    const names = [keys.swaps(), keys.projector(name), rebuilt.projector(name), changesOf(keys, name)];
    while ((await script(names, [keys.prefix, name])) !== -1);
  };
}
