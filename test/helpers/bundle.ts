/** Where the scripts of the processes are that tests start: ingest, workers and `gvi`, each bundled into one file. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..', '..');
let dir = process.env.TEST_BUNDLE;

/** As in `src/ingest/main.cjs`. Whoever runs the tests has bundled them; for a file run by hand they are bundled now. */
export function findBundled(script: string): string {
  dir ??= bundleNow();
  return join(dir, script);
}

function bundleNow(): string {
  const made = execFileSync(process.execPath, ['--import', 'tsx', 'scripts/bundle.ts'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  process.once('exit', () => rmSync(made.trim(), { recursive: true, force: true }));
  return made.trim();
}
