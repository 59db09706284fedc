/**
 * Runs the tests, each file in a process of its own: `npm test`, or `npm test -- test/unit settle` for the files whose
 * path holds one of the words. The last line is `N passed, N failed`, and the exit code 1 when any failed.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBundle } from './lib/test-runner/bundle.js';
import { makeTestEnvironment } from './lib/test-runner/environment.js';
import { type FileResult, killRunningTests } from './lib/test-runner/run-file.js';
import { FAULT_FILES_AT_ONCE, FILES_AT_ONCE, runTestFiles } from './lib/test-runner/run-files.js';
import { findSilentTests, findTestFiles, matchFilter, TEST_FOLDERS } from './lib/test-runner/test-files.js';

/** For one that hangs: some start hundreds of processes, which a slow machine takes its time for. */
const FILE_TIMEOUT_MS = 300_000;

const root = join(import.meta.dirname, '..');

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    killRunningTests();
    process.exit(130);
  });
}

const { files, unmatched } = chooseFiles(process.argv.slice(2));
const bundle = await makeBundle(root, files);
process.once('exit', bundle.remove);
const results: Count[] = [...unmatched.map(reportUnmatched), reportSilentTests()];
const isFault = (file: string) => file.startsWith('test/faults/');
await runAll(
  files.filter((file) => !isFault(file)),
  FILES_AT_ONCE,
);
const faultsBegunAt = performance.now();
const faults = files.filter(isFault);
await runAll(faults, FAULT_FILES_AT_ONCE);
if (faults.length > 1) console.log(`the fault suite took ${Math.round((performance.now() - faultsBegunAt) / 1_000)} s`);

const count = (what: 'passed' | 'failed' | 'skipped') => results.reduce((sum, result) => sum + result[what], 0);
if (count('skipped') > 0) console.log(`${count('skipped')} skipped`);
process.exitCode = count('failed') > 0 ? 1 : 0;
console.log(`${count('passed')} passed, ${count('failed')} failed`);

type Count = Pick<FileResult, 'passed' | 'failed' | 'skipped'>;

async function runAll(some: readonly string[], atOnce: number): Promise<void> {
  const options = { cwd: root, env: makeTestEnvironment(root), bundle, atOnce, timeoutMs: FILE_TIMEOUT_MS };
  await runTestFiles(some, options, (result) => {
    printResult(result);
    results.push(result);
  });
}

/** Unit tests first: they are quick, and what they find explains what the others would. */
function chooseFiles(filters: readonly string[]): { files: string[]; unmatched: string[] } {
  const all = TEST_FOLDERS.flatMap((folder) => findTestFiles(root, folder));
  const wanted = filters.length > 0 ? filters : TEST_FOLDERS;
  const matches = wanted.map((filter) => ({ filter, files: matchFilter(all, filter) }));
  const chosen = new Set(matches.flatMap((match) => match.files));
  return {
    files: all.filter((file) => chosen.has(file)),
    unmatched: matches.filter((match) => match.files.length === 0).map((match) => match.filter),
  };
}

function reportUnmatched(filter: string): Count {
  console.log(`✗ no test file matches ${filter}`);
  return { passed: 0, failed: 1, skipped: 0 };
}

/** The first test: every test file stands where it is run, and runs each suite that it declares. */
function reportSilentTests(): Count {
  const problems = findTestFiles(root, 'test').flatMap((file) => {
    const isRun = TEST_FOLDERS.some((folder) => file.startsWith(`${folder}/`));
    const found = findSilentTests(readFileSync(join(root, file), 'utf8'));
    return (isRun ? found : [...found, `stands outside ${TEST_FOLDERS.join(' and ')}`]).map(
      (problem) => `${file} ${problem}`,
    );
  });
  const isWell = problems.length === 0;
  console.log(`${isWell ? '✓' : '✗'} every test file runs all it declares`);
  for (const problem of problems) console.log(`    ${problem}`);
  return { passed: isWell ? 1 : 0, failed: isWell ? 0 : 1, skipped: 0 };
}

function printResult({ file, passed, failed, skipped, durationMs, reason, output }: FileResult): void {
  const skips = skipped > 0 ? `, ${skipped} skipped` : '';
  if (failed === 0) {
    console.log(`✓ ${file} ${passed} passed${skips}, ${durationMs} ms`);
    return;
  }
  console.log(`✗ ${file} ${passed} passed, ${failed} failed${skips}, ${durationMs} ms${reason ? `: ${reason}` : ''}`);
  console.log(output.replace(/^(?=.)/gm, '    '));
}
