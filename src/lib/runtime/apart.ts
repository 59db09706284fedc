/**
 * Trying apart what has failed together: one event of a batch may be what the whole of it fails of. Those that share an error
 * come back in smaller batches, and in the end alone (`failure.ts` says in how small ones).
 */
import type { Outcome } from '../consumer.js';
import type { AttemptRecord } from './entry.js';

type Held = { entry: { record: Pick<AttemptRecord, 'batchMax'> | undefined } };

/** How many of the first ones go into the next call, `batchMax` at the most: as many as each of them allows. */
export function countForCall(queue: Iterable<Held>, batchMax: number): number {
  let most = batchMax;
  let count = 0;
  for (const { entry } of queue) {
    most = Math.min(most, entry.record?.batchMax ?? batchMax);
    if (count > 0 && count >= most) break;
    count += 1;
  }
  return count;
}

/** How many have failed with the very error of this one; 1 for one that has not failed. */
export function countAlike(outcomes: readonly Outcome[], index: number): number {
  const own = outcomes[index]!;
  if (!('error' in own)) return 1;
  return outcomes.filter((outcome) => 'error' in outcome && outcome.error === own.error).length;
}
