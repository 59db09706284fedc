import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { countAlike, makeCallQueue } from '../../src/lib/runtime/call-queue.js';

const test = suite('what waits for a call');

type Item = { name: string; entry: { record: { batchMax: number } | undefined } };

function setUp({ parallelMax = 2, retriesApart = true } = {}) {
  const queue = makeCallQueue<Item>({ parallelMax, batchMax: 4, retriesApart });
  const push = (names: string, batchMax?: number) => {
    for (const name of names)
      queue.push({ name, entry: { record: batchMax === undefined ? undefined : { batchMax } } });
  };
  const next = () => {
    const call = queue.next();
    return call && { names: call.items.map(({ name }) => name).join(''), end: call.end };
  };
  const nextNames = () => next()?.names;
  return { queue, push, next, nextNames };
}

test('what has not failed goes together, up to the batch', () => {
  const { push, nextNames } = setUp();
  push('abcde');
  assert.equal([nextNames(), nextNames(), nextNames()], ['abcd', 'e', undefined]);
});

test('what has failed together goes in calls as small as each of it allows', () => {
  const { push, next } = setUp();
  push('ab', 2);
  push('c', 1);
  push('de', 2);
  const calls = [0, 1, 2].map(() => {
    const call = next()!;
    call.end();
    return call.names;
  });
  assert.equal(calls, ['ab', 'c', 'de']);
});

test('it leaves a call to the others, whatever comes first', () => {
  const { push, next, nextNames, queue } = setUp();
  push('ab', 1);
  push('xy');
  const first = next()!;
  assert.is(first.names, 'a');
  assert.equal([nextNames(), nextNames()], ['xy', undefined]);
  first.end();
  assert.is(nextNames(), 'b');
  assert.is(queue.waiting(), 0);
});

test('where there is one call they take turns', () => {
  const { push, next } = setUp({ parallelMax: 1 });
  push('ab', 1);
  push('uvwxyz');
  const calls = [0, 1, 2, 3].map(() => {
    const call = next()!;
    call.end();
    return call.names;
  });
  assert.equal(calls, ['a', 'uvwx', 'b', 'yz']);
});

test('so many stand aside, more are in the way of others', () => {
  const { push, queue } = setUp();
  push('abcdefgh', 1);
  assert.is(queue.waiting(), 0);
  push('ij', 1);
  push('x');
  assert.is(queue.waiting(), 3);
  assert.is(queue.clear().length, 11);
});

test('who is taken out is in no call', () => {
  const { push, queue, nextNames } = setUp();
  const lost: Item = { name: 'lost', entry: { record: { batchMax: 2 } } };
  push('a', 2);
  queue.push(lost);
  push('b', 2);
  queue.remove(lost);
  assert.is(nextNames(), 'ab');
});

test('of a consumer that tries nothing apart all goes by the batch', () => {
  const { push, nextNames } = setUp({ retriesApart: false });
  push('abcd', 1);
  assert.is(nextNames(), 'abcd');
});

test('those are counted that share one error, and not what only reads the same', () => {
  const [one, other] = [new Error('refused'), new Error('refused')];
  const outcomes = [{ error: one }, { events: [] }, { error: one }, { error: other }];
  assert.equal(
    outcomes.map((_, index) => countAlike(outcomes, index)),
    [2, 1, 2, 1],
  );
});

test.run();
