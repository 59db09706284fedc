/** A part of the system under test: a worker or an ingest that may be killed, frozen, ended and started again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUPS, type GroupName } from '../../../src/lib/events.js';
import type { FaultLog, InjectedFault } from './fault-log.js';
import { type ServiceProcess, startProcess } from './processes.js';

/** How a process of a part ended. */
export type PartEnd = {
  part: string;
  pid: number;
  /** ms since 1970. */
  at: number;
  /** `SIGKILL`, or as in `exit code 1`. */
  how: string;
  /** The suite did it. What ends by itself is held against the service unless a scenario says that it may. */
  isByUs: boolean;
  /** It was told to end, and left in good order: where it took all of its time, Redis may not have heard that it left. */
  isOrderly: boolean;
};

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
  /** Whether it was kept down then (ms since 1970), so that nothing could be expected of it. */
  wasDown: (at: number) => boolean;
  /** Of all processes that it ever was. */
  ends: () => readonly PartEnd[];
  /** Of all processes that it ever was, the last ones of each; with a line that says how one ended. */
  lines: () => readonly string[];
  /** How many lines of all processes that it ever was held these words as their message, or in it. */
  said: (words: string) => number;
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
/** After its grace a worker takes so long at the most: to abort, to hand back and to leave the groups. */
const END_MS = 1_000;
const STARTS_MAX = 15;
const LINES_OF_FORMER = 300;

/** Started already, not ready yet. */
export function makePart(options: PartOptions): Part {
  const { name, role, launch, faultLog, findHeld } = options;
  const readyLine = role === 'ingest' ? 'ingest listens' : 'worker runs';
  const former: ServiceProcess[] = [];
  const ends: PartEnd[] = [];
  const endedByUs = new Set<ServiceProcess>();
  /** When it was told to end (`performance.now()`). */
  const toldAt = new Map<ServiceProcess, number>();
  const timeToLeaveMs = Number(launch.env.SHUTDOWN_GRACE_MS) + END_MS;
  /** Kept down from when until when. */
  const rests: { from: number; to: number }[] = [];
  let isWanted = true;
  let isOver = false;
  let restarts = 0;
  let current = run();

  function run(): ServiceProcess {
    const started = startProcess({ name, readyLine, ...launch });
    void started.exited.then(async () => {
      noteEnd(started);
      await sleep(RESTART_MS);
      if (!isWanted || !options.isSupervised || current !== started) return;
      restarts += 1;
      startAgain();
    });
    return started;
  }

  function noteEnd(ended: ServiceProcess): void {
    const how = ended.howItEnded();
    const isByUs = endedByUs.has(ended);
    const isInTime = performance.now() - (toldAt.get(ended) ?? Number.NEGATIVE_INFINITY) < timeToLeaveMs;
    const isOrderly = isByUs && how === 'exit code 0' && isInTime;
    ends.push({ part: name, pid: ended.pid, at: Date.now(), how, isByUs, isOrderly });
    if (!isByUs) void noteDeath(ended, `${role} ended by itself`, how);
  }

  function keepDown(): void {
    isWanted = false;
    rests.push({ from: Date.now(), to: Number.POSITIVE_INFINITY });
  }

  function startAgain(): void {
    former.push(current);
    current = run();
  }

  async function untilReady(): Promise<void> {
    for (let starts = 1; ; starts += 1) {
      const asked = current;
      const isStartedAgain = () => isWanted && options.isSupervised;
      await asked.untilReady().catch(async (error) => {
        // Killed while it started: the next one counts.
        if (!isStartedAgain() || starts > STARTS_MAX) throw error;
      });
      if (asked === current && (asked.isRunning() || !isStartedAgain())) return;
      if (asked === current) await sleep(RESTART_MS);
    }
  }

  async function noteDeath(process: ServiceProcess, kind: string, note: string | undefined): Promise<InjectedFault> {
    const fault = faultLog.add(kind, `${name} (${process.pid})`, note === undefined ? {} : { note });
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
      if (staysDown) keepDown();
      endedByUs.add(victim);
      victim.signal('SIGKILL');
      return noteDeath(victim, `SIGKILL ${role}`, note);
    },
    freeze: () => current.signal('SIGSTOP'),
    thaw: () => current.signal('SIGCONT'),
    async terminate() {
      keepDown();
      const victim = current;
      endedByUs.add(victim);
      toldAt.set(victim, performance.now());
      victim.signal('SIGTERM');
      await victim.exited;
      return victim.exitCode();
    },
    async start() {
      // A scenario that has failed may still be about to.
      if (isOver) return;
      isWanted = true;
      const rest = rests.at(-1);
      if (rest !== undefined) rest.to = Math.min(rest.to, Date.now());
      if (!current.isRunning()) startAgain();
      await untilReady();
    },
    untilReady,
    wasDown: (at) => rests.some(({ from, to }) => from <= at && at < to),
    ends: () => ends,
    lines: () => [
      ...former.flatMap((one) => [
        ...one.lines().slice(-LINES_OF_FORMER),
        `process ${one.pid} ended: ${one.howItEnded()}`,
      ]),
      ...current.lines(),
    ],
    said: (words) => [...former, current].reduce((sum, one) => sum + one.said(words), 0),
    complaints: () => [...former, current].flatMap((one) => one.complaints()),
    async destroy() {
      isOver = true;
      isWanted = false;
      endedByUs.add(current);
      current.signal('SIGCONT');
      current.signal('SIGKILL');
      await current.exited;
    },
  };
}
