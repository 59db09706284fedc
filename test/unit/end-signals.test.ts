import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onEndSignals } from '../../src/lib/end-signals.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('signals to end');
const heard: [string, number][] = [];
const send = (signal: NodeJS.Signals) => process.emit(signal, signal);

test.before.each(() => {
  heard.length = 0;
  onEndSignals((signal, count) => heard.push([signal, count]));
});
test.after.each(() => {
  for (const signal of ['SIGTERM', 'SIGINT']) process.removeAllListeners(signal);
});

test('a Ctrl-C that npm hands on as well is one; a later one is another', async () => {
  for (let i = 0; i < 3; i += 1) send('SIGINT');
  assert.equal(heard, [['SIGINT', 1]]);
  await waitFor('another to count', () => send('SIGINT') && heard.length === 2);
});

test('of SIGTERM each counts, also beside a Ctrl-C', () => {
  for (const signal of ['SIGTERM', 'SIGTERM', 'SIGINT', 'SIGTERM'] as const) send(signal);
  assert.equal(heard, [
    ['SIGTERM', 1],
    ['SIGTERM', 2],
    ['SIGINT', 3],
    ['SIGTERM', 4],
  ]);
});

test.run();
