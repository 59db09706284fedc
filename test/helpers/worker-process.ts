/** Workers as processes of their own (`worker-script.ts`), for what a test can't do to its own process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { findBundled } from './bundle.js';
import { shortTimes } from './worker.js';

export type WorkerProcess = {
  /** Of the process that runs now. */
  pid: () => number;
  kill: (signal: NodeJS.Signals) => void;
  /** How often it ended by itself or was killed, and the last code or signal. */
  exits: () => readonly (number | NodeJS.Signals | null)[];
  stop: () => Promise<void>;
};

/** With `isSupervised` what dies is started again. */
export function startWorkerProcess(options: {
  redisUrl: string;
  keyPrefix: string;
  env?: Record<string, string>;
  isSupervised?: boolean;
}): WorkerProcess {
  const exits: (number | NodeJS.Signals | null)[] = [];
  let isStopping = false;
  let child: ChildProcess;
  let gone: Promise<void>;
  const start = () => {
    child = spawn(process.execPath, [findBundled('test/helpers/worker-script.cjs')], {
      cwd: join(import.meta.dirname, '..', '..'),
      env: {
        ...{ PATH: process.env.PATH, REDIS_URL: options.redisUrl, KEY_PREFIX: options.keyPrefix },
        ...{ ...shortTimes, LOG_LEVEL: process.env.TEST_LOG ?? 'silent', ...options.env },
      },
      stdio: ['ignore', process.env.TEST_LOG === undefined ? 'ignore' : 'inherit', 'inherit'],
    });
    gone = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        exits.push(signal ?? code);
        resolve();
        if (options.isSupervised && !isStopping) start();
      });
    });
  };
  start();
  const dieWithTest = () => child.kill('SIGKILL');
  process.once('exit', dieWithTest);

  return {
    pid: () => child.pid!,
    kill: (signal) => void child.kill(signal),
    exits: () => exits,
    async stop() {
      isStopping = true;
      child.kill('SIGKILL');
      await gone;
      process.off('exit', dieWithTest);
    },
  };
}
