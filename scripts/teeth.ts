/**
 * Proves that the tests have teeth: takes away one defence at a time in a copy of the project and expects at least one test to
 * fail. `npm run teeth`, or `npm run teeth -- fence trim` for those whose name holds a word; with `--faults` it is the fault
 * suite that must notice. Exits 1 when a defence can go unnoticed, or when a test fails with nothing taken away.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEFENCES, type Defence } from './lib/teeth/defences.js';
import { makeBundle } from './lib/test-runner/bundle.js';
import { makeTestEnvironment } from './lib/test-runner/environment.js';
import { killRunningTests, runTestFile } from './lib/test-runner/run-file.js';

const FILE_TIMEOUT_MS = 300_000;
const COPIED = ['src', 'test', 'scripts', 'bench', 'docs', 'package.json', 'tsconfig.json', '.env.example'];
const FAILED_TEST = /^\s*FAIL\s+(.*?)\s+"(.*)"$/gm;

const root = join(import.meta.dirname, '..');
const copy = mkdtempSync(join(tmpdir(), 'gvi-teeth-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    killRunningTests();
    process.exit(130);
  });
}

for (const name of COPIED) cpSync(join(root, name), join(copy, name), { recursive: true });
symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));

const { values, positionals: words } = parseArgs({ options: { faults: { type: 'boolean' } }, allowPositionals: true });
const chosen = DEFENCES.filter(
  ({ name, faults }) =>
    (words.length === 0 || words.some((word) => name.includes(word))) && (!values.faults || faults !== undefined),
);
const baseline = new Map<string, boolean>();
let noticed = 0;
for (const defence of chosen) if (await isNoticed(defence)) noticed += 1;
console.log(`${noticed} of ${chosen.length} defences are noticed when they are gone`);
process.exitCode = noticed === chosen.length && chosen.length > 0 ? 0 : 1;

async function isNoticed({ name, against, changes, ...files }: Defence): Promise<boolean> {
  const tests = values.faults ? (files.faults ?? []) : files.tests;
  for (const file of tests) {
    if (!baseline.has(file)) baseline.set(file, (await run(file)).length === 0);
    if (baseline.get(file) === false) {
      console.log(`✗ ${name}: ${file} fails with everything in place`);
      return false;
    }
  }
  const failed: string[] = [];
  try {
    for (const change of changes) replaceOnce(name, change);
    for (const file of tests) failed.push(...(await run(file)));
  } finally {
    for (const { file } of changes) cpSync(join(root, file), join(copy, file));
  }
  console.log(
    failed.length === 0 ? `✗ nobody noticed that this was gone: ${name}` : `✓ without the ${name}: ${against}`,
  );
  for (const test of failed) console.log(`    ${test}`);
  return failed.length > 0;
}

/** The names of the tests that fail. */
async function run(file: string): Promise<string[]> {
  const bundle = await makeBundle(copy, [file]);
  const { failed, output, reason } = await runTestFile(file, {
    cwd: copy,
    env: makeTestEnvironment(root),
    timeoutMs: FILE_TIMEOUT_MS,
    bundle,
  }).finally(bundle.remove);
  if (failed === 0) return [];
  const names = [...output.matchAll(FAILED_TEST)].map(([, suite, test]) => `${suite}: ${test}`);
  return names.length > 0 ? names : [`${file}: ${reason ?? 'failed'}`];
}

function replaceOnce(name: string, { file, from, to }: Defence['changes'][number]): void {
  const path = join(copy, file);
  const parts = readFileSync(path, 'utf8').split(from);
  if (parts.length !== 2)
    throw new Error(`${name}: what is to be taken away stands ${parts.length - 1} times in ${file}`);
  writeFileSync(path, parts.join(to));
}
