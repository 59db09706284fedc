/** Processes that are not our children: what they are, and how they end. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StartedProcess } from './state.js';

const END_WITHIN_MS = 10_000;

/** The command line of a process; `undefined` when there is none of this id. */
export function commandOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim() || undefined;
  } catch {
    return spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout?.trim() || undefined;
  }
}

/** Ends what a killed `./scripts/dev` left running; two Redis servers must never share a directory. */
export async function endLeftovers(leftovers: readonly StartedProcess[]): Promise<void> {
  const isRunning = ({ pid, mark }: StartedProcess) => commandOf(pid)?.includes(mark) === true;
  const signalAll = (signal: NodeJS.Signals) => {
    for (const { pid } of leftovers.filter(isRunning)) process.kill(pid, signal);
  };
  signalAll('SIGTERM');
  for (const deadline = Date.now() + END_WITHIN_MS; leftovers.some(isRunning); await sleep(50)) {
    if (Date.now() > deadline) signalAll('SIGKILL');
  }
}
