/**
 * The fault suite in its long form: `npm run faults`, or `npm run faults -- --seeds 5 redis` for five seeds and the files
 * whose path holds the word; `--seed 42` runs one seed again, `--short` the form that `./scripts/test` runs. Files run one
 * after another (in the short form some at once, whose times then say less), once for each seed. The figures of all of them
 * stand at the end; the exit code is 1 when any test failed.
 */
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeReport, type ReportLine } from './lib/faults-report.js';
import { makeBundle } from './lib/test-runner/bundle.js';
import { makeTestEnvironment } from './lib/test-runner/environment.js';
import { type FileResult, killRunningTests } from './lib/test-runner/run-file.js';
import { FAULT_FILES_AT_ONCE, runTestFiles } from './lib/test-runner/run-files.js';
import { findTestFiles, matchFilter } from './lib/test-runner/test-files.js';

const FILE_TIMEOUT_MS = 120 * 60_000;
const SEEDS = 3;

const root = join(import.meta.dirname, '..');
const { values, positionals } = parseArgs({
  options: { seeds: { type: 'string' }, seed: { type: 'string' }, short: { type: 'boolean' } },
  allowPositionals: true,
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    killRunningTests();
    process.exit(130);
  });
}

const seeds = values.seed === undefined ? drawSeeds(Number(values.seeds ?? SEEDS)) : [values.seed];
const all = findTestFiles(root, 'test/faults');
const files =
  positionals.length === 0
    ? all
    : all.filter((file) => positionals.some((word) => matchFilter([file], word).length > 0));
const bundle = await makeBundle(root, files);
process.once('exit', bundle.remove);
const dir = mkdtempSync(join(tmpdir(), 'gvi-faults-report-'));
const report = join(dir, 'report.jsonl');
writeFileSync(report, '');

let failed = 0;
for (const seed of seeds) await runAll(seed);
console.log(describeReport(readReport()));
console.log(
  `${files.length * seeds.length - failed} files passed, ${failed} failed, with the seeds ${seeds.join(' ')}`,
);
process.exitCode = failed > 0 || files.length === 0 ? 1 : 0;
rmSync(dir, { recursive: true });

async function runAll(seed: string): Promise<void> {
  const form = values.short ? {} : { FAULTS: 'long' };
  const env = { ...makeTestEnvironment(root), ...form, FAULTS_SEED: seed, FAULTS_REPORT: report };
  const atOnce = values.short ? FAULT_FILES_AT_ONCE : 1;
  const options = { cwd: root, env, timeoutMs: FILE_TIMEOUT_MS, bundle, atOnce };
  await runTestFiles(files, options, (result) => printResult(result, seed));
}

function printResult({ file, passed, failed: failures, durationMs, reason, output }: FileResult, seed: string): void {
  const isWell = failures === 0;
  const seconds = Math.round(durationMs / 1_000);
  const why = reason === undefined ? '' : `: ${reason}`;
  console.log(`${isWell ? '✓' : '✗'} ${file} with FAULTS_SEED=${seed}, ${passed} passed, ${seconds} s${why}`);
  if (isWell) return;
  failed += 1;
  console.log(output.replace(/^(?=.)/gm, '    '));
}

function drawSeeds(count: number): string[] {
  return Array.from({ length: count }, () => String(randomInt(1, 1_000_000_000)));
}

function readReport(): ReportLine[] {
  const lines = readFileSync(report, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as ReportLine);
}
