import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  context,
  fallbackText,
  fitBlocks,
  header,
  plainSection,
  section,
} from '../../src/lib/providers/slack/blocks.js';
import { command, cutEscaped, cutPlain, escapeMrkdwn, link, mrkdwn } from '../../src/lib/providers/slack/mrkdwn.js';
import { findBlocksFault } from '../standins/slack-blocks.js';

const HOSTILE = [
  '<!channel>',
  '<!here|all>',
  '<@U012AB3CD>',
  '<#C012AB3CD|general>',
  '<!subteam^S012>',
  '<https://evil.example|Your invoice>',
  'a & b < c > d',
  '&lt;!channel&gt;',
  '&amp;lt;',
  '\ud800',
  '𝒳\udc00',
  '\u202egnp.exe',
  'line\nbreak\r\n*What to do:* pay',
  '`code`',
  '|',
  'https://evil.example',
  '',
];
const hostile = fc
  .array(fc.oneof(fc.constantFrom(...HOSTILE), fc.string({ unit: 'binary' })), { maxLength: 8 })
  .map((parts) => parts.join(''));

const test = suite('mrkdwn');

test('three characters are escaped, ampersands first, and nothing else', () => {
  assert.is(escapeMrkdwn('<!channel> & "Söns" &lt; é'), '&lt;!channel&gt; &amp; "Söns" &amp;lt; é');
});

test('every string put into a template is escaped, and markup is not escaped twice', () => {
  const bold = mrkdwn`*${'a < b'}*`;
  assert.is(mrkdwn`${bold} by ${'<!here>'} (${3})`.mrkdwn, '*a &lt; b* by &lt;!here&gt; (3)');
});

test('a cut splits neither an entity nor a surrogate pair', () => {
  assert.is(cutEscaped('ab&amp;cd', 20), 'ab&amp;cd');
  for (let length = 0; length <= 9; length += 1) {
    assert.match(cutEscaped('ab&amp;cd&lt;', length), /^(ab?)?(b?&amp;)?c?d?…?$/);
  }
  assert.is(cutEscaped('a😀bcd', 3), 'a…');
  assert.is(cutPlain('a😀bcd', 4), 'a😀…');
});

test('cut text is never longer than asked, whatever it is', () => {
  fc.assert(
    fc.property(hostile, fc.integer({ min: 0, max: 60 }), (text, lengthMax) => {
      const cut = cutEscaped(escapeMrkdwn(text), lengthMax);
      assert.ok(cut.length <= lengthMax);
      assert.not.match(cut.replace(/&(amp|lt|gt);/g, ''), /[&<>]/);
    }),
  );
});

test('a link goes to http or https only, and its parts cannot break out of it', () => {
  assert.is(
    link('https://gvi.example/dashboard#crm-1-0', 'Open').mrkdwn,
    '<https://gvi.example/dashboard#crm-1-0|Open>',
  );
  assert.is(link('javascript:alert(1)', 'Open').mrkdwn, 'Open');
  assert.is(link('not a url', '<!channel>').mrkdwn, '&lt;!channel&gt;');
  assert.is(
    link('https://x.example/a|b>c?d=1&e=<', 'a|b>').mrkdwn,
    '<https://x.example/a%7Cb%3Ec?d=1&amp;e=%3C|a¦b&gt;>',
  );
});

test('a command cannot close its own box', () => {
  assert.is(command('gvi redrive `x` <y>').mrkdwn, "`gvi redrive 'x' &lt;y&gt;`");
});

test('hostile text is never live in any kind of block, nor in the fallback, and always fits', () => {
  fc.assert(
    fc.property(hostile, fc.integer({ min: 1, max: 60 }), (text, times) => {
      const long = text.repeat(times * 20);
      const blocks = fitBlocks([
        header(long),
        plainSection([long, text]),
        section([mrkdwn`*Name:* ${text}`, mrkdwn`${long}`]),
        ...Array.from({ length: times }, () => context([mrkdwn`${text}`, link('https://gvi.example', text)])),
      ]);
      assert.is(findBlocksFault(blocks), undefined);
      const fallback = fallbackText(mrkdwn`${long} ${text}`);
      assert.ok(fallback.length <= 3_000);
      const written = textsOf(blocks).map((shown) => shown.replaceAll(/<https:\/\/gvi\.example\/\|[^<>|]*>/g, ''));
      for (const shown of [...written, fallback]) {
        assert.not.match(shown, /[<>]/);
        assert.not.match(shown, /:\/\//);
        assert.not.match(shown, /\p{Surrogate}/u);
        assert.not.match(shown, /[\u202a-\u202e]/);
      }
    }),
  );
});

test('what does not fit is left out from the end, and the message says so', () => {
  const blocks = fitBlocks(Array.from({ length: 60 }, (_, index) => plainSection([`block ${index}`])));
  assert.is(blocks.length, 50);
  assert.equal(textsOf(blocks).slice(-2), ['block 48', '… shortened']);
});

test('lines of markup that do not fit are left out whole', () => {
  const lines = Array.from({ length: 200 }, () => link('https://gvi.example/dashboard', 'x'.repeat(50)));
  const [text = ''] = textsOf([section(lines)]);
  assert.ok(text.length <= 3_000);
  assert.ok(text.split('\n').every((line) => line.startsWith('<') && line.endsWith('>')));
});

test.run();

function textsOf(blocks: ReturnType<typeof fitBlocks>): string[] {
  return blocks.flatMap((block) =>
    block.type === 'context' ? block.elements.map(({ text }) => text) : [block.text.text],
  );
}
