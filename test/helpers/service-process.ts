/** Ingest and workers as processes of their own, with these settings alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { findBundled } from './bundle.js';
import { waitFor } from './wait-for.js';

export type ServiceProcess = {
  child: ChildProcess;
  /** All that it printed. */
  output: () => string;
  /** The lines of its log, as far as they are JSON. */
  lines: () => { level: number; msg: string; port?: number }[];
  /** Its exit code; fails when it goes on. */
  exitCode: () => Promise<number | null>;
};

export type Services = {
  start: (which: 'ingest' | 'worker', settings: Record<string, string>, args?: readonly string[]) => ServiceProcess;
  /** Kills what is left. */
  stop: () => Promise<void>;
};

const SCRIPTS = { ingest: 'src/ingest/main.cjs', worker: 'src/consumers/main.cjs' } as const;

export function makeServices(): Services {
  const running = new Map<ChildProcess, Promise<unknown>>();
  return {
    start(which, settings, args = []) {
      // Runs elsewhere than in the project, so that no `.env` of a developer's leaks in.
      const child = spawn(process.execPath, [findBundled(SCRIPTS[which]), ...args], {
        cwd: tmpdir(),
        env: { PATH: process.env.PATH, PORT: '0', ...settings },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const closed = new Promise((resolve) => child.once('close', resolve));
      running.set(child, closed);
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk) => {
          output += chunk;
        });
      }
      return {
        child,
        output: () => output,
        // What comes after the last line break may be half a line.
        lines: () =>
          output
            .split('\n')
            .slice(0, -1)
            .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : [])),
        async exitCode() {
          await waitFor(`${which} to exit`, () => child.exitCode !== null || child.signalCode !== null, 30_000);
          await closed;
          return child.exitCode;
        },
      };
    },
    async stop() {
      for (const child of running.keys()) child.kill('SIGKILL');
      await Promise.all(running.values());
      running.clear();
    },
  };
}
