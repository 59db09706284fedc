import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { judge, parseTotals, runTestFile } from '../../scripts/lib/test-runner/run-file.js';
import { findSilentTests, matchFilter } from '../../scripts/lib/test-runner/test-files.js';
import { waitFor } from '../helpers/wait-for.js';

const judging = suite('judging a test file');

const cases = [
  { name: 'all passed', totals: { total: 3, passed: 3, skipped: 0 }, end: 0, failed: 0 },
  { name: 'one failed', totals: { total: 3, passed: 2, skipped: 0 }, end: 1, failed: 1 },
  {
    name: 'a hook threw, so that uvu left two out and said nothing',
    totals: { total: 2, passed: 0, skipped: 0 },
    end: 0,
    failed: 2,
  },
  { name: 'no test was run', totals: { total: 0, passed: 0, skipped: 0 }, end: 0, failed: 1 },
  { name: 'no totals were printed', totals: undefined, end: 0, failed: 1 },
  { name: 'it crashed after its tests', totals: { total: 3, passed: 3, skipped: 0 }, end: 1, failed: 1 },
  { name: 'a signal ended it', totals: { total: 3, passed: 3, skipped: 0 }, end: null, failed: 1 },
  { name: 'it never ended', totals: { total: 3, passed: 3, skipped: 0 }, end: 'was still running', failed: 1 },
] as const;

for (const { name, totals, end, failed } of cases) {
  judging(`${name}: ${failed} failed`, () => assert.is(judge(totals, end).failed, failed));
}

judging('the totals are read from the end, whatever their colour', () => {
  const output =
    '  Total:     9\n \n  Total:     2\n\u001b[32m  Passed:    1\u001b[39m\n  Skipped:   \u001b[33m1\u001b[39m\n  Duration:  1ms\n';
  assert.equal(parseTotals(output), { total: 2, passed: 1, skipped: 1 });
});

judging.run();

const running = suite('running a test file');
const dir = mkdtempSync(join(tmpdir(), 'gvi-runner-'));
running.after(() => rmSync(dir, { recursive: true }));

async function run(source: string, timeoutMs = 60_000) {
  writeFileSync(join(dir, 'sample.mjs'), source);
  return await runTestFile('sample.mjs', { cwd: process.cwd(), env: process.env, timeoutMs, bundle: { dir } });
}

running('where a file failed the stacks that its processes wrote tell places of the source', async () => {
  writeFileSync(
    join(dir, 'thrower.ts'),
    'type Never = string;\n\nexport const never: Never = "";\n  throw new Error(never);\n',
  );
  await build({
    ...{ entryPoints: [join(dir, 'thrower.ts')], outfile: join(dir, 'thrower.script'), bundle: true, format: 'cjs' },
    ...{ sourcemap: true, minify: true, logLevel: 'error' },
  });
  const place = `at main (${join(dir, 'thrower.script')}`;
  const written = readFileSync(join(dir, 'thrower.script'), 'utf8').split('\n');
  const line = written.findIndex((text) => text.includes('throw'));
  const at = `${place}:${line + 1}:${written[line]!.indexOf('throw') + 1})\\n    at (unmapped.script:1:1)`;
  const { output } = await run(`console.log(${JSON.stringify(at)}); process.exit(1)`);
  assert.match(output, `at main (${join(dir, 'thrower.ts')}:4:3)\\n    at (unmapped.script:1:1)`);
});

running('a file that hangs is ended, and says so', async () => {
  const result = await run('setInterval(() => {}, 1000)', 500);
  assert.is(result.failed, 1);
  assert.match(result.reason ?? '', 'still running');
});

running('what a file leaves behind is ended with it', async () => {
  const { output } = await run(`
    import { spawn } from 'node:child_process';
    const listen = "require('net').createServer().listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })";
    const child = spawn(process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.once('data', (line) => {
      console.log(String(line));
      process.exit(0);
    });
  `);
  const port = Number(/port (\d+)/.exec(output)?.[1]);
  assert.ok(port > 0);
  // What was killed goes when it is next given time.
  await waitFor('nobody to listen', () => isRefused(port));
});

function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
  });
}

running.run();

const silence = suite('finding tests that pass in silence');

// Put together, so that the check of this very file does not take them for its own.
const declare = (name: string) => `const ${name} = suite('a title');\n`;
const runIt = (name: string) => `${name}.run();\n`;

silence('a suite that is run is fine, also in a loop', () => {
  assert.equal(findSilentTests(declare('test') + runIt('test')), []);
  assert.equal(findSilentTests(`for (;;) {\n  ${declare('test')}  ${runIt('test')}}\n`), []);
});

silence('a suite that is never run is found', () => {
  const source = declare('one') + declare('two') + runIt('one');
  assert.equal(findSilentTests(source), ['declares the suite two 1 times and runs it 0 times']);
});

silence('a test that hides the others is found', () => {
  const source = `${declare('test')}test.only('x');\n${runIt('test')}`;
  assert.equal(findSilentTests(source), ['hides the other tests of test by only']);
});

silence('a file without a suite is found', () => {
  assert.equal(findSilentTests('console.log(1)'), ['declares no suite']);
});

silence('a filter names a file, a folder, or part of a path', () => {
  const files = ['test/unit/a.test.ts', 'test/integration/b.test.ts'];
  assert.equal(matchFilter(files, './test/unit'), ['test/unit/a.test.ts']);
  assert.equal(matchFilter(files, 'b.test'), ['test/integration/b.test.ts']);
  assert.equal(matchFilter(files, 'nothing'), []);
});

silence.run();
