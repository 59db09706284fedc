/**
 * What waits for a call of the consumer. One event of a batch may be what the whole of it fails of: those that shared an error
 * come back in smaller batches, and in the end alone (`failure.ts` says in how small ones). They leave a call to the others.
 */
import type { Outcome } from '../consumer.js';
import type { AttemptRecord } from './entry.js';

type Waiting = { entry: { record: Pick<AttemptRecord, 'batchMax'> | undefined } };

export type CallQueue<T> = {
  push: (item: T) => void;
  /** What the next call takes, and what is to be called at its end; `undefined` where none may begin. */
  next: () => { items: T[]; end: () => void } | undefined;
  /** How many are in the way of others that are read. */
  waiting: () => number;
  remove: (item: T) => void;
  /** Takes out all. */
  clear: () => T[];
};

export function makeCallQueue<T extends Waiting>(options: {
  /** How many calls run at once. */
  parallelMax: number;
  /** How many events a call takes. */
  batchMax: number;
  retriesApart: boolean;
}): CallQueue<T> {
  const { parallelMax, batchMax, retriesApart } = options;
  const apartCallsMax = Math.max(1, parallelMax - 1);
  const usual: T[] = [];
  const apart: T[] = [];
  let apartCalls = 0;
  let isTurnOfUsual = false;

  return {
    push(item) {
      (retriesApart && (item.entry.record?.batchMax ?? batchMax) < batchMax ? apart : usual).push(item);
    },

    next() {
      const mayBeApart = apart.length > 0 && apartCalls < apartCallsMax;
      if (mayBeApart && !(isTurnOfUsual && usual.length > 0)) {
        isTurnOfUsual = true;
        apartCalls += 1;
        return { items: apart.splice(0, countForCall(apart, batchMax)), end: () => (apartCalls -= 1) };
      }
      isTurnOfUsual = false;
      return usual.length === 0 ? undefined : { items: usual.splice(0, batchMax), end: () => {} };
    },

    // As many as all calls take at once may stand aside.
    waiting: () => usual.length + Math.max(0, apart.length - parallelMax * batchMax),

    remove(item) {
      for (const list of [usual, apart]) if (list.includes(item)) list.splice(list.indexOf(item), 1);
    },

    clear: () => [...usual.splice(0), ...apart.splice(0)],
  };
}

/** How many of the first ones go into one call: as many as each of them allows. */
function countForCall(waiting: Iterable<Waiting>, batchMax: number): number {
  let most = batchMax;
  let count = 0;
  for (const { entry } of waiting) {
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
