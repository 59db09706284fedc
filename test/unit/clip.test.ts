import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { clipLine, clipText } from '../../src/lib/clip.js';

const test = suite('clipping outside text');

const lines: [string, string, number, string][] = [
  ['short text stays', 'Ada', 10, 'Ada'],
  ['white space of any kind becomes one space', ' a\n\t b\u00a0\u2028c ', 10, 'a b c'],
  ['control characters go', 'a\u0000\u0007b', 10, 'a b'],
  ['half a surrogate pair goes', 'a\ud83db', 10, 'a b'],
  ['a text of just the length stays', 'abcde', 5, 'abcde'],
  ['a longer one ends in an ellipsis that counts', 'abcdef', 5, 'abcd…'],
  ['length is counted in code points', '🚀🚀🚀', 3, '🚀🚀🚀'],
  ['no code point is cut', '🚀🚀🚀🚀', 3, '🚀🚀…'],
  ['no space is left before the ellipsis', 'abc def', 5, 'abc…'],
];

for (const [name, text, max, want] of lines) test(`${name}`, () => assert.is(clipLine(text, max), want));

test('text of several lines keeps them, blank ones only once', () => {
  assert.is(clipText(' a \r\n\r\n\n\nb\t\tc\n', 20), 'a\n\nb c');
});

test.run();
