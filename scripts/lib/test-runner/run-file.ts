/** Runs one test file in a process of its own and reads what uvu says at the end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Bundle } from './bundle.js';
import { mapStacks } from './map-stacks.js';

export type FileResult = {
  file: string;
  passed: number;
  failed: number;
  skipped: number;
  durationMs: number;
  /** Why it failed, where no failed test says so. */
  reason?: string;
  /** All that it printed; where it failed with the places of the source in its stacks. */
  output: string;
};

type Totals = { total: number; passed: number; skipped: number };

/** For what it has printed to be read. Only a process that has left its group makes us wait so long. */
const OUTPUT_GRACE_MS = 5_000;
const running = new Set<number>();

export type RunOptions = {
  cwd: string;
  env: NodeJS.ProcessEnv;
  timeoutMs: number;
  /** Holds the file and the processes that it starts. */
  bundle: Pick<Bundle, 'dir'>;
};

/** Its process group is killed when the file is done or takes longer than `timeoutMs`: nothing that it started stays. */
export async function runTestFile(file: string, { cwd, env, timeoutMs, bundle }: RunOptions): Promise<FileResult> {
  const startedAt = performance.now();
  const script = join(bundle.dir, file.replace(/\.ts$/, '.js'));
  const child = spawn(process.execPath, ['--enable-source-maps', script], {
    cwd,
    env: { ...env, TEST_BUNDLE: bundle.dir },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const groupId = child.pid!;
  running.add(groupId);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = once(child, 'close');

  let isTimedOut = false;
  const timer = setTimeout(() => {
    isTimedOut = true;
    killGroup(groupId);
  }, timeoutMs);
  const [exitCode] = (await once(child, 'exit')) as [number | null];
  clearTimeout(timer);
  killGroup(groupId);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE_MS).unref())]);
  running.delete(groupId);
  child.stdout.destroy();
  child.stderr.destroy();

  const output = Buffer.concat(chunks).toString('utf8');
  const end = isTimedOut ? `was still running after ${timeoutMs} ms` : exitCode;
  const durationMs = Math.round(performance.now() - startedAt);
  const judged = judge(parseTotals(output), end);
  return { file, durationMs, output: judged.failed > 0 ? mapStacks(output) : output, ...judged };
}

/** Ends every test file that still runs, and what it started. */
export function killRunningTests(): void {
  for (const groupId of running) killGroup(groupId);
}

/** The last totals that uvu printed; `undefined` when it never came so far. */
export function parseTotals(output: string): Totals | undefined {
  const plain = stripVTControlCharacters(output);
  const read = (word: string) =>
    plain
      .match(new RegExp(`^ {2}${word}:\\s+(\\d+)\\s*$`, 'gm'))
      ?.at(-1)
      ?.match(/\d+/)?.[0];
  const [total, passed, skipped] = [read('Total'), read('Passed'), read('Skipped')];
  if (total === undefined || passed === undefined || skipped === undefined) return undefined;
  return { total: Number(total), passed: Number(passed), skipped: Number(skipped) };
}

/**
 * Counts what passed and failed. `end` is the exit code (null after a signal), or a sentence where we ended the file.
 * A hook that throws makes uvu leave tests out and still exit with 0, so tests that were not run count as failed.
 */
export function judge(
  totals: Totals | undefined,
  end: number | null | string,
): Pick<FileResult, 'passed' | 'failed' | 'skipped' | 'reason'> {
  const { total, passed, skipped } = totals ?? { total: 0, passed: 0, skipped: 0 };
  const failed = total - passed;
  const failure = (reason: string) => ({ passed, failed: Math.max(failed, 1), skipped, reason });
  if (typeof end === 'string') return failure(end);
  if (totals === undefined) return failure(`left no totals (exit code ${end})`);
  if (total === 0) return failure('ran no test');
  if (failed > 0) return end === 0 ? failure('left tests out: a hook threw') : { passed, failed, skipped };
  if (end !== 0) return failure(`exit code ${end} although its tests passed`);
  return { passed, failed, skipped };
}

function killGroup(groupId: number): void {
  try {
    process.kill(-groupId, 'SIGKILL');
  } catch {
    // Nobody of the group is left.
  }
}
