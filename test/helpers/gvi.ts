/** The operators' tool as a person runs it: a process of its own, with these settings alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findBundled } from './bundle.js';
import { type AtTerminal, startAtTerminal } from './terminal.js';

export type GviProcess = {
  child: ChildProcess;
  stdout: () => string;
  stderr: () => string;
  /** The exit code; null after a signal that killed it. */
  exited: Promise<number | null>;
};

/** Runs elsewhere than in the project, so that no `.env` of a developer's leaks in. Kill `child` when the test ends. */
export function startGvi(args: readonly string[], settings: Record<string, string>): GviProcess {
  return start(commandLine(args), settings, tmpdir());
}

/** As the documentation says to. */
export function startGviByNpm(args: readonly string[], settings: Record<string, string>): GviProcess {
  return start(['npm', 'run', '-s', 'gvi', '--', ...args], settings, join(import.meta.dirname, '..', '..'));
}

function start([file, ...args]: readonly string[], settings: Record<string, string>, cwd: string): GviProcess {
  const child = spawn(file!, args, { cwd, env: environment(settings), stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, stdout: () => stdout, stderr: () => stderr, exited };
}

/** Resolves when it has ended by itself. */
export async function runGvi(
  args: readonly string[],
  settings: Record<string, string>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const { stdout, stderr, exited } = startGvi(args, settings);
  const code = await exited;
  return { code, stdout: stdout(), stderr: stderr() };
}

/** What it said, but for the word that Redis keeps it waiting: that is no fault, and as true of a machine that is busy. */
export function withoutWait(said: string): string {
  return said.replace(/^Redis does not answer yet\.\r?\n/, '');
}

/** With a person before it, who may answer. Kill `child` when the test ends. */
export function startGviAtTerminal(args: readonly string[], settings: Record<string, string>): AtTerminal {
  return startAtTerminal(commandLine(args), environment(settings));
}

function commandLine(args: readonly string[]): string[] {
  return [process.execPath, findBundled('scripts/gvi.cjs'), ...args];
}

function environment(settings: Record<string, string>): Record<string, string | undefined> {
  return { PATH: process.env.PATH, ...settings };
}
