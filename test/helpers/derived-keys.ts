/** What follows from the streams, as it stands in Redis. */
import * as assert from 'uvu/assert';
import { scanKeys } from '../../src/lib/maintenance.js';
import type { History } from './history.js';

const DERIVED = ['lead:', 'projector:', 'progress:', 'idem:'];

export type Snapshot = { values: Map<string, unknown>; expiries: Map<string, number> };

/** Every derived key with its value; a hash in the order of its fields; when it expires apart. */
export async function snapshot(history: History): Promise<Snapshot> {
  const { redis, keys } = history;
  const values = new Map<string, unknown>();
  const expiries = new Map<string, number>();
  for (const start of DERIVED) {
    for await (const found of scanKeys(redis, `${keys.prefix}${start}`)) {
      for (const key of found) {
        const isHash = (await redis.type(key)) === 'hash';
        values.set(
          key,
          isHash ? Object.fromEntries(Object.entries(await redis.hgetall(key)).sort()) : await redis.get(key),
        );
        expiries.set(key, await redis.pexpiretime(key));
      }
    }
  }
  return { values: new Map([...values].sort()), expiries };
}

export async function deleteDerived(history: History, starts: readonly string[] = DERIVED): Promise<void> {
  for (const start of starts) {
    for await (const found of scanKeys(history.redis, `${history.keys.prefix}${start}`))
      await history.redis.unlink(found);
  }
}

/** Keys, values, and when they expire, to the second. */
export async function assertUnchanged(history: History, before: Snapshot): Promise<void> {
  const after = await snapshot(history);
  assert.equal([...after.values], [...before.values]);
  for (const [key, at] of before.expiries) assert.ok(Math.abs(at - after.expiries.get(key)!) < 1_000, key);
}
