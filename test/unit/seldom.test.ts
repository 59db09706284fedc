import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeSeldom } from '../../src/lib/seldom.js';

const test = suite('asking seldom');

/** What is asked takes `takesMs` on a clock that the test moves. */
function start(takesMs: number) {
  let now = 0;
  let asked = 0;
  const seldom = makeSeldom(
    async () => {
      asked += 1;
      now += takesMs;
      return asked;
    },
    () => now,
  );
  return { seldom, asked: () => asked, pass: (ms: number) => (now += ms) };
}

test('the longer an answer takes the longer it stands: a hundred times as long', async () => {
  const { seldom, pass } = start(50);
  assert.is(await seldom(), 1);
  pass(4_999);
  assert.is(await seldom(), 1);
  pass(1);
  assert.is(await seldom(), 2);
});

test('who asks at once gets one answer', async () => {
  const { seldom, asked } = start(50);
  assert.equal(await Promise.all([seldom(), seldom(), seldom()]), [1, 1, 1]);
  assert.is(asked(), 1);
});

test('what failed is asked again', async () => {
  let isAway = true;
  const seldom = makeSeldom(async () => {
    if (isAway) throw new Error('away');
    return 'there';
  });
  for (let i = 0; i < 2; i += 1) assert.match(String(await seldom().catch(String)), 'away');
  isAway = false;
  assert.is(await seldom(), 'there');
});

test.run();
