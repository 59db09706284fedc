import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { countAlike, countForCall } from '../../src/lib/runtime/apart.js';

const test = suite('what is tried apart');

const entries = (...most: (number | undefined)[]) =>
  most.map((batchMax) => ({ entry: { record: batchMax === undefined ? undefined : { batchMax } } }));

const calls: [what: string, most: (number | undefined)[], count: number][] = [
  ['what has not failed goes together, up to the batch', [undefined, undefined, undefined, undefined, undefined], 4],
  ['what has failed together goes in smaller ones', [2, 2, 2], 2],
  ['what must be alone is', [1, undefined, undefined], 1],
  ['and nothing goes with it that stands before it', [undefined, undefined, 1, undefined], 2],
  ['nothing makes no call', [], 0],
];
for (const [what, most, count] of calls) test(what, () => assert.is(countForCall(entries(...most), 4), count));

test('those are counted that share one error, and not what only reads the same', () => {
  const [one, other] = [new Error('refused'), new Error('refused')];
  const outcomes = [{ error: one }, { events: [] }, { error: one }, { error: other }];
  assert.equal(
    outcomes.map((_, index) => countAlike(outcomes, index)),
    [2, 1, 2, 1],
  );
});

test.run();
