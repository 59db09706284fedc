/** What `gvi replay` is asked for, and how it talks to the person at the terminal. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readCommandLine } from '../../scripts/gvi/replay/command-line.js';
import { UsageError } from '../../src/lib/command-line.js';
import { parseConfig } from '../../src/lib/config.js';
import { readUnfinishedReplays, rememberReplay } from '../../src/lib/unfinished-replays.js';
import { runGvi, startGviAtTerminal, withoutWait } from '../helpers/gvi.js';
import { type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import type { AtTerminal } from '../helpers/terminal.js';
import { waitFor } from '../helpers/wait-for.js';
import { readStream } from '../helpers/worker.js';

const test = suite('gvi replay, asked');

let server: TestRedis;
let history: History;
let prefixes = 0;
let terminal: AtTerminal | undefined;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `{a${prefixes}}:` });
});
test.after.each(async () => {
  terminal?.child.kill('SIGKILL');
  terminal = undefined;
  await history.stop();
});
test.after(() => server.stop());

const settings = () => ({ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix });

async function read(...args: string[]) {
  const config = parseConfig(settings());
  const { redis, keys } = history;
  return (await readCommandLine(['--group', 'enrich', ...args], { config, redis, keys, print: () => {} })).options;
}

async function refusalOf(...args: string[]): Promise<string> {
  try {
    const { from, to } = await read(...args);
    return `taken as ${from} to ${to}`;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message;
  }
}

test('a range is told by Redis ids, or by times that say where on earth', async () => {
  assert.is((await read('--from', '0')).from, '0');
  assert.is((await read('--from', '1763900000000')).from, '1763900000000');
  assert.is((await read('--from', '1763900000000-3')).from, '1763900000000-3');
  assert.is((await read('--from', '2025-11-23')).from, String(Date.UTC(2025, 10, 23)));
  assert.is((await read('--from', '2024-02-29')).from, String(Date.UTC(2024, 1, 29)));
  assert.is((await read('--from', '2025-11-23T12:00Z')).from, String(Date.UTC(2025, 10, 23, 12)));
  assert.is((await read('--from', '2025-11-23T12:00:01.5+01:00')).from, String(Date.UTC(2025, 10, 23, 11, 0, 1, 500)));
  const [from, to] = ['1763900000000-3', '1763900000000'];
  assert.equal(
    [await read('--from', from, '--to', to)].map((range) => [range.from, range.to]),
    [[from, to]],
  );
  assert.is((await read('--from', '0', '--to', '+')).to, '+');
});

test('what is no time, or a doubtful one, is refused by the name of its option', async () => {
  const wrong = [
    '2026-11-23T12:00:00',
    '2025-02-30',
    '2025-02-29T00:00:00Z',
    '2025-13-01',
    '2025-11-23T25:00:00Z',
    '2025-11-23T12:00:00+99:00',
    '1969-12-31',
    '1763900000',
    '99999999999999999999',
    '99999999999999999999-0',
    '1763900000000-99999999999999999999',
    'yesterday',
    '',
  ];
  for (const text of wrong) assert.match(await refusalOf('--from', text), /^--from: /, text);
  for (const text of wrong) assert.match(await refusalOf('--from', '0', '--to', text), /^--to: /, text);
  assert.match(await refusalOf('--from', '1763900000'), 'seconds');
});

test('a range that holds nothing is refused', async () => {
  const empty = [
    ['--from', '2025-11-23', '--to', '2025-11-22'],
    ['--from', '1763900000000-4', '--to', '1763900000000-3'],
    ['--from', '2999-01-01'],
    ['--from', '+'],
  ];
  for (const range of empty) assert.match(await refusalOf(...range), /^--from: .*--to/, range.join(' '));
  const { code, stderr } = await runGvi(['replay', '--group', 'enrich', ...empty[0]!, '--yes'], settings());
  assert.equal([code, withoutWait(stderr).split('\n').length], [2, 2]);
});

test('an id that no replay has is refused', async () => {
  assert.match(await refusalOf('--from', '0', '--resume', 'a b'), /^--resume: /);
  assert.match(await refusalOf('--from', '0', '--resume', 'a'.repeat(100)), /^--resume: /);
});

test('one that is not remembered any more is gone on with as it is asked for: forced only where that is said', async () => {
  await history.ended(await history.book('a'));
  const again = ['replay', '--group', 'enrich', '--from', '0', '--yes', '--json', '--resume'];
  const { stdout, stderr } = await runGvi([...again, '20260101T000000-abcdef'], settings());
  assert.equal(JSON.parse(stdout).counts, { processed: 1 });
  assert.not.match(stderr, '--force');
  const forced = await runGvi([...again, '20260101T000000-fedcba', '--force'], settings());
  assert.equal(JSON.parse(forced.stdout).counts, { again: 1 });
  assert.match(forced.stderr, 'replay --resume 20260101T000000-fedcba --force\n');
});

test('one that was killed can be given up, after which nothing keeps its range; who did it is recorded', async () => {
  const replayId = '20260101T000000-abcdef';
  const { redis, keys } = history;
  await rememberReplay({ redis, keys }, { replayId, group: 'enrich', from: '1-0', to: '2-0', isForced: true });
  const told = (await runGvi(['status'], settings())).stdout;
  for (const option of ['--resume', '--abandon']) assert.match(told, `-- replay ${option} ${replayId}\n`);
  const abandon = ['replay', '--abandon', replayId];
  assert.match((await runGvi(abandon, settings())).stderr, `Give up the replay ${replayId} of enrich?`);
  for (const other of ['--force', '--dry-run', '--from=0', '--group=enrich', `--resume=${replayId}`]) {
    const { stderr } = await runGvi([...abandon, other, '--yes'], settings());
    assert.match(withoutWait(stderr), /^--abandon: /, other);
  }
  assert.is((await readUnfinishedReplays({ redis, keys })).length, 1);
  const done = await runGvi([...abandon, '--yes', '--json', '--by', 'Ada'], settings());
  assert.equal([done.code, JSON.parse(done.stdout)], [0, { abandoned: replayId }]);
  assert.equal(await readUnfinishedReplays({ redis, keys }), []);
  const details = { phase: 'abandoned', group: 'enrich', from: '1-0', to: '2-0', replayId, force: 'true' };
  assert.equal(
    (await readStream(history, 'events:operations')).map(({ data }) => data),
    [{ operation: 'replay', by: 'Ada', count: 0, details }],
  );
  const again = await runGvi([...abandon, '--yes'], settings());
  assert.equal(
    [again.code, withoutWait(again.stderr)],
    [1, `No replay ${replayId} is unfinished here: nothing to give up\n`],
  );
});

test('one that is not known is no wrong usage, and is told as JSON where that is asked for', async () => {
  const replayId = '20260101T000000-abcdef';
  for (const asked of [['--abandon'], ['--resume'], ['--dry-run', '--resume']]) {
    const { code, stdout } = await runGvi(['replay', '--json', '--yes', ...asked, replayId], settings());
    assert.is(code, 1);
    const { error } = JSON.parse(stdout);
    assert.is(error.code, 'not_found');
    assert.match(error.message, `No replay ${replayId} is unfinished here`);
  }
  assert.equal(await readStream(history, 'events:operations'), []);
});

test('what is done already is not done again where Redis has no memory to spare, but what failed is run', async () => {
  await history.ended(await history.book('a'));
  const failed = await history.book('b', 'refused');
  await history.ended(failed, 'failed');
  history.stage.isMended = true;
  const all = ['replay', '--group', 'enrich', '--from', '0', '--yes', '--json'];
  const { redis } = history;
  try {
    const [, used] = /used_memory:(\d+)/.exec(await redis.info('memory'))!;
    await redis.config('SET', 'maxmemory', used!);
    const stopped = await runGvi([...all, '--force'], settings());
    const { replayId, error } = JSON.parse(stopped.stdout);
    assert.equal([stopped.code, error.code], [1, 'stalled']);
    assert.match(error.message, 'raise maxmemory');
    assert.match(error.message, `--resume ${replayId} --force`);
    assert.is(await history.statusOf(failed), 'failed');
    assert.equal(JSON.parse((await runGvi(all, settings())).stdout).counts, { processed: 1, failed: 1 });
    await history.ended(failed);
    await redis.config('SET', 'maxmemory', '0');
    const resumed = await runGvi(['replay', '--resume', replayId, '--yes', '--json'], settings());
    assert.equal(JSON.parse(resumed.stdout).counts, { again: 1, replayed: 1 });
  } finally {
    await redis.config('SET', 'maxmemory', '0');
  }
});

async function atTerminal(...args: string[]): Promise<AtTerminal> {
  terminal = startGviAtTerminal(['replay', '--group', 'enrich', '--from', '0', '--force', ...args], settings());
  return terminal;
}

test('the end of the input is no answer: nothing is done', async () => {
  await history.ended(await history.book('a'));
  for (const keys of ['\x04', '\x03', 'n\r']) {
    const asked = await atTerminal();
    await waitFor('the question', () => asked.output().includes('[y/N]'));
    asked.type(keys);
    assert.is(await asked.exited, 1, asked.output());
    assert.not.match(asked.output(), 'Error');
  }
  assert.is((await readStream(history, 'events:operations')).length, 0);
});

test('at a terminal a bar tells how far through the range it is, unless JSON is asked for', async () => {
  for (const id of ['a', 'b', 'c', 'd']) await history.ended(await history.book(id));
  const second = (await readStream(history, 'events:calendly'))[1]!.id;
  const shown = await atTerminal('--to', second, '--yes');
  assert.is(await shown.exited, 0);
  assert.match(shown.output(), /Replaying \[#+\] 100 % 2 entries/);
  const json = await atTerminal('--to', second, '--json', '--yes');
  assert.is(await json.exited, 0);
  assert.not.match(json.output(), 'Replaying');
});

test.run();
