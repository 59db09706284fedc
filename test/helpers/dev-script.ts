/** Runs `./scripts/dev` in a copy of the project, so that one that a developer has running is left alone. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import type { DevState } from '../../scripts/lib/dev/state.js';
import { findFreePort, untilExit } from '../../scripts/lib/redis-server.js';
import { removeDir } from './remove-dir.js';
import { waitFor } from './wait-for.js';

export type DevRun = {
  port: number;
  process: ChildProcess;
  /** What it printed so far. */
  output: () => string;
  /** Resolves once it has printed its box. */
  untilReady: () => Promise<void>;
  /** Resolves with its exit code. */
  ended: () => Promise<number | null>;
  /** Runs the command it printed that holds the text, as a person would who pastes it. */
  paste: (part: string) => Promise<unknown>;
};

export type DevCopy = {
  start: (options?: { args?: string[]; env?: Record<string, string>; port?: number }) => Promise<DevRun>;
  /** `.gvi/dev.json`, while there is one. */
  state: () => DevState | undefined;
  /** Ends what is left, and removes the copy. */
  remove: () => Promise<void>;
};

const COPIED = ['src', 'scripts', 'test', 'package.json', 'tsconfig.json'];

export function copyProject(): DevCopy {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-dev-'));
  for (const name of COPIED) cpSync(name, join(dir, name), { recursive: true });
  symlinkSync(join(process.cwd(), 'node_modules'), join(dir, 'node_modules'));
  const runs: DevRun[] = [];

  function state(): DevState | undefined {
    try {
      return JSON.parse(readFileSync(join(dir, '.gvi/dev.json'), 'utf8')) as DevState;
    } catch {
      return undefined;
    }
  }

  return {
    state,
    async start({ args = [], env = {}, port = undefined } = {}) {
      const run = startRun(dir, args, { ...env, PORT: String(port ?? (await findFreePort())) });
      runs.push(run);
      return run;
    },
    async remove() {
      for (const { pid } of state()?.started ?? []) kill(pid);
      for (const run of runs) run.process.kill('SIGKILL');
      await Promise.all(runs.map((run) => untilExit(run.process)));
      removeDir(dir);
    },
  };
}

function startRun(dir: string, args: readonly string[], env: Record<string, string>): DevRun {
  const child = spawn(join(dir, 'scripts/dev'), args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
  }
  // What it printed last may be read only after its end.
  const closed = new Promise((resolve) => child.once('close', resolve));
  const output = () => stripVTControlCharacters(printed);
  return {
    port: Number(env.PORT),
    process: child,
    output,
    async untilReady() {
      await waitFor('the box', () => output().includes('Ctrl-C stops') || hasEnded(child), 60_000);
      if (hasEnded(child)) throw new Error(`./scripts/dev ended:\n${output()}`);
    },
    async ended() {
      await closed;
      return child.exitCode;
    },
    async paste(part) {
      const command = output()
        .split('\n')
        .find((line) => line.startsWith('  curl') && line.includes(part));
      const { stdout } = await promisify(execFile)('sh', ['-c', command ?? 'false'], { cwd: '/' });
      return JSON.parse(stdout);
    },
  };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}
