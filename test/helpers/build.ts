/**
 * The project as plain JavaScript in a temporary folder: a process then starts in half the time and CPU that tsx needs,
 * and the tests start hundreds. Made once for each state of the sources, shared by all files of a run.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');
const COPIED = /\.(lua|md|json|mjs)$/;

const FOLDERS = ['src', 'scripts', 'test/helpers', 'test/faults/workers', 'test/fixtures'];

/** The folder that holds `src/…/main.js`, `scripts/gvi.js` and the workers of the tests. */
export function buildProject(): string {
  const files = FOLDERS.flatMap(listFiles);
  const hash = createHash('sha256');
  for (const file of files) hash.update(file).update(readFileSync(join(root, file)));
  const target = join(tmpdir(), `gvi-built-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(target)) return target;
  const draft = mkdtempSync(join(tmpdir(), 'gvi-build-'));
  const flags = ['--noCheck', '--noEmit', 'false', '--outDir', draft, '--rootDir', root];
  execFileSync(process.execPath, [join(root, 'node_modules/.bin/tsc'), '-p', root, ...flags], { stdio: 'inherit' });
  for (const file of files.filter((name) => COPIED.test(name))) {
    mkdirSync(dirname(join(draft, file)), { recursive: true });
    cpSync(join(root, file), join(draft, file));
  }
  cpSync(join(root, 'package.json'), join(draft, 'package.json'));
  // To where they really are: a copy of the project, which has but a link to them, may be gone while the build is still of use.
  symlinkSync(realpathSync(join(root, 'node_modules')), join(draft, 'node_modules'));
  try {
    renameSync(draft, target);
  } catch {
    // Another test file was quicker.
  }
  return target;
}

function listFiles(folder: string): string[] {
  const start = join(root, folder);
  if (!existsSync(start)) return [];
  return readdirSync(start, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}
