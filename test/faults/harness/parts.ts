/** A part of the system under test: a worker or an ingest that may be killed, frozen, ended and started again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUPS, type GroupName } from '../../../src/lib/events.js';
import type { FaultLog, InjectedFault } from './fault-log.js';
import { type ServiceProcess, startProcess } from './processes.js';

export type Part = {
  name: string;
  role: 'ingest' | 'worker';
  /** Of an ingest: where it listens, also after a restart. */
  url: string;
  groups: readonly GroupName[];
  readonly pid: number;
  isRunning: () => boolean;
  isReady: () => boolean;
  /** How often the supervisor started it again. */
  restarts: () => number;
  /** SIGKILL at once; with a supervisor it comes back unless `staysDown`. Resolves when it is gone. */
  kill: (options?: { staysDown?: boolean; note?: string }) => Promise<InjectedFault>;
  /** SIGSTOP and SIGCONT. */
  freeze: () => void;
  thaw: () => void;
  /** SIGTERM; resolves with the exit code. It stays down until `start`. */
  terminate: () => Promise<number | null>;
  /** Starts it where it is down. Resolves once it is ready. */
  start: () => Promise<void>;
  untilReady: () => Promise<void>;
  /** Of all processes that it ever was, the last ones of each; with a line that says how one ended. */
  lines: () => readonly string[];
  /** Of all processes that it ever was. */
  complaints: () => string[];
  /** For the end of the world: no supervisor, no fault log. */
  destroy: () => Promise<void>;
};

export type PartOptions = {
  name: string;
  role: Part['role'];
  url: string;
  groups?: readonly GroupName[];
  launch: { script: string; args: readonly string[]; env: Record<string, string>; cwd: string };
  /** Starts it again when it dies, as `restart: always` does. */
  isSupervised: boolean;
  faultLog: FaultLog;
  /** What the process with this id holds. */
  findHeld: (pid: number) => Promise<InjectedFault['affected']>;
};

const RESTART_MS = 100;
const STARTS_MAX = 15;
const LINES_OF_FORMER = 300;

/** Started already, not ready yet. */
export function makePart(options: PartOptions): Part {
  const { name, role, launch, faultLog, findHeld } = options;
  const readyLine = role === 'ingest' ? 'ingest listens' : 'worker runs';
  const former: ServiceProcess[] = [];
  let isWanted = true;
  let restarts = 0;
  let current = run();

  function run(): ServiceProcess {
    const started = startProcess({ name, readyLine, ...launch });
    void started.exited.then(async () => {
      await sleep(RESTART_MS);
      if (!isWanted || !options.isSupervised || current !== started) return;
      restarts += 1;
      startAgain();
    });
    return started;
  }

  function startAgain(): void {
    former.push(current);
    current = run();
  }

  async function untilReady(): Promise<void> {
    let starts = 0;
    for (let asked: ServiceProcess | undefined; asked !== current; ) {
      asked = current;
      starts += 1;
      await asked.untilReady().catch(async (error) => {
        // Killed while it started: the next one counts.
        if (!isWanted || !options.isSupervised || starts > STARTS_MAX) throw error;
        await sleep(2 * RESTART_MS);
      });
    }
  }

  async function noteDeath(process: ServiceProcess, kind: string, note: string | undefined): Promise<InjectedFault> {
    const fault = faultLog.add(`${kind} ${role}`, `${name} (${process.pid})`, note === undefined ? {} : { note });
    await process.exited;
    fault.affected = await findHeld(process.pid).catch(() => []);
    return fault;
  }

  return {
    ...{ name, role, url: options.url, groups: options.groups ?? GROUPS },
    get pid() {
      return current.pid;
    },
    isRunning: () => current.isRunning(),
    isReady: () => current.isRunning() && current.isReady(),
    restarts: () => restarts,
    kill({ staysDown = false, note } = {}) {
      const victim = current;
      if (staysDown) isWanted = false;
      victim.signal('SIGKILL');
      return noteDeath(victim, 'SIGKILL', note);
    },
    freeze: () => current.signal('SIGSTOP'),
    thaw: () => current.signal('SIGCONT'),
    async terminate() {
      isWanted = false;
      const victim = current;
      victim.signal('SIGTERM');
      await victim.exited;
      return victim.exitCode();
    },
    async start() {
      isWanted = true;
      if (!current.isRunning()) startAgain();
      await untilReady();
    },
    untilReady,
    lines: () => [
      ...former.flatMap((one) => [...one.lines().slice(-LINES_OF_FORMER), one.describeEnd()]),
      ...current.lines(),
    ],
    complaints: () => [...former, current].flatMap((one) => one.complaints()),
    async destroy() {
      isWanted = false;
      current.signal('SIGCONT');
      current.signal('SIGKILL');
      await current.exited;
    },
  };
}
