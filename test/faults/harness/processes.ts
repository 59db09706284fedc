/** A process of the service as the suite runs it: started, signalled, watched, its last lines kept. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { untilExit } from '../../../scripts/lib/redis-server.js';
import { waitFor } from '../../helpers/wait-for.js';

export type ProcessOptions = {
  name: string;
  /** JavaScript; see `test/helpers/bundle.ts`. */
  script: string;
  args?: readonly string[];
  env: Record<string, string>;
  /** Runs elsewhere than in the project, so that no `.env` of a developer's leaks in. */
  cwd: string;
  /** It is ready once it logs this. */
  readyLine: string;
};

export type ServiceProcess = {
  name: string;
  readonly pid: number;
  isRunning: () => boolean;
  signal: (signal: NodeJS.Signals) => void;
  untilReady: () => Promise<void>;
  isReady: () => boolean;
  exited: Promise<void>;
  exitCode: () => number | null;
  /** `SIGKILL`, or as in `exit code 1`. */
  howItEnded: () => string;
  /** The last lines that it wrote, the oldest first. */
  lines: () => readonly string[];
  /** How many lines ever held these words as their message, or in it. */
  said: (words: string) => number;
  /**
   * What no process may do: log in a flood, leave a rejection unhandled, die of an exception, take a consumer that went in good
   * order for one that somebody removed.
   */
  complaints: () => string[];
};

const LINES_KEPT = 2_000;
const READY_MS = 30_000;
/** Warnings and errors of so many seconds together; what is told of each event at `info` is no flood. */
const FLOOD_S = 5;
const FLOOD_LINES_PER_S = 100;
/** Told once for each attempt that failed, of which there may be thousands. */
const ONE_EACH = /"msg":"(parked|failed for good)"/;
const WARN = 40;
/** No scenario does that. */
const REMOVED_BY_HAND = 'a consumer was removed by hand';
const CRASH_LINE = /unhandled|ERR_UNHANDLED|triggerUncaughtException|MaxListenersExceeded|Node\.js v\d/i;

export function startProcess(options: ProcessOptions): ServiceProcess {
  const child = spawn(process.execPath, [options.script, ...(options.args ?? [])], {
    cwd: options.cwd,
    env: { PATH: process.env.PATH, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const dieWithTest = () => child.kill('SIGKILL');
  process.once('exit', dieWithTest);
  const exited = untilExit(child).then(() => void process.off('exit', dieWithTest));
  const log = makeLog(options.readyLine);
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', log.add);
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  return {
    name: options.name,
    pid: child.pid ?? 0,
    isRunning,
    signal: (signal) => void child.kill(signal),
    isReady: log.isReady,
    async untilReady() {
      await waitFor(`${options.name} to be ready`, () => log.isReady() || !isRunning(), READY_MS);
      if (!log.isReady()) throw new Error(`${options.name} ended (${describeEnd(child)})\n${log.lines().join('\n')}`);
    },
    exited,
    exitCode: () => child.exitCode,
    howItEnded: () => describeEnd(child),
    lines: log.lines,
    said: log.said,
    complaints: () => log.complaints().map((complaint) => `${options.name}: ${complaint}`),
  };
}

function makeLog(readyLine: string) {
  const kept: string[] = [];
  // Counted as they come, since old lines are dropped.
  const messages = new Map<string, number>();
  const found: string[] = [];
  let isReady = false;
  let window = { startS: 0, lines: 0 };

  function add(line: string): void {
    kept.push(line);
    if (kept.length > LINES_KEPT) kept.splice(0, LINES_KEPT / 4);
    if (line.includes(readyLine)) isReady = true;
    const message = /"msg":"((?:[^"\\]|\\.)*)"/.exec(line)?.[1];
    if (message !== undefined) messages.set(message, (messages.get(message) ?? 0) + 1);
    const level = levelOf(line);
    if ((level === undefined && CRASH_LINE.test(line)) || line.includes(REMOVED_BY_HAND)) found.push(line.trim());
    if ((level === undefined || level >= WARN) && !ONE_EACH.test(line)) countForFlood(line);
  }

  function countForFlood(line: string): void {
    const nowS = Date.now() / 1_000;
    if (nowS - window.startS > FLOOD_S) window = { startS: nowS, lines: 0 };
    window.lines += 1;
    if (window.lines === FLOOD_S * FLOOD_LINES_PER_S) {
      found.push(`more than ${FLOOD_LINES_PER_S} warnings a second, as in: ${line.slice(0, 300)}`);
    }
  }

  function said(words: string): number {
    return [...messages].reduce((sum, [message, count]) => (message.includes(words) ? sum + count : sum), 0);
  }

  return { add, isReady: () => isReady, lines: () => kept, said, complaints: () => found };
}

/** Of a JSON log line; `undefined` for anything else. */
function levelOf(line: string): number | undefined {
  if (!line.startsWith('{')) return undefined;
  const level = /"level":(\d+)/.exec(line)?.[1];
  return level === undefined ? undefined : Number(level);
}

function describeEnd({ signalCode, exitCode }: ChildProcess): string {
  return signalCode ?? `exit code ${exitCode}`;
}
