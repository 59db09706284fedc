/**
 * Asks the registry whether a package of the lock file has a known advisory, and fails if one has. Where the registry does
 * not answer such a question, it says so and goes on: tests must run offline as well.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { readAuditReport } from './lib/audit-report.js';

const TIMEOUT_MS = 10_000;

const npm = spawn('npm', ['audit', '--json', '--fetch-retries=0', '--fetch-timeout=8000'], {
  cwd: join(import.meta.dirname, '..'),
  stdio: ['ignore', 'pipe', 'ignore'],
  timeout: TIMEOUT_MS,
});
let report = '';
npm.stdout.on('data', (chunk) => {
  report += chunk;
});
// No npm: then nobody can be asked.
npm.on('error', () => {});
await new Promise((resolve) => npm.once('close', resolve));

const verdict = readAuditReport(report);
switch (verdict.kind) {
  case 'clean':
    console.log('✓ advisories: none is known');
    break;
  case 'unknown':
    console.log(`– advisories: the registry could not be asked (${verdict.why})`);
    break;
  case 'advisories':
    console.log(`✗ advisories:\n${verdict.lines.map((line) => `    ${line}`).join('\n')}`);
    process.exitCode = 1;
}
