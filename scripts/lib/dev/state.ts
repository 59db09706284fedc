/**
 * `.gvi/dev.json`: which `./scripts/dev` runs in this checkout, and what it started. `src/lib/config.ts` finds the
 * embedded Redis there; a second `./scripts/dev` finds the first.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { EMBEDDED_REDIS_FILE } from '../../../src/lib/config.js';
import { DevError } from './dev-error.js';
import { commandOf } from './process-table.js';

const startedProcess = z.object({
  name: z.string(),
  pid: z.number().int(),
  /** Stands in its command line: a pid alone may belong to another program by now. */
  mark: z.string(),
});
export type StartedProcess = z.infer<typeof startedProcess>;

const devState = z.object({
  pid: z.number().int(),
  startedAt: z.string(),
  port: z.number().int(),
  /** Absent while it starts, and where `REDIS_URL` names another Redis. */
  redisUrl: z.string().optional(),
  started: z.array(startedProcess),
});
export type DevState = z.infer<typeof devState>;

const DEV_MARK = 'scripts/dev.ts';

/** Claims the checkout for this process. Throws when another `./scripts/dev` runs; returns what a dead one left running. */
export function claimCheckout(port: number): { state: DevState; leftovers: StartedProcess[] } {
  const former = readState();
  if (former !== undefined && commandOf(former.pid)?.includes(DEV_MARK)) {
    throw new DevError(
      `./scripts/dev is running already, since ${former.startedAt} (process ${former.pid}): http://localhost:${former.port}`,
    );
  }
  rmSync(EMBEDDED_REDIS_FILE, { force: true });
  const state: DevState = { pid: process.pid, startedAt: new Date().toISOString(), port, started: [] };
  mkdirSync(dirname(EMBEDDED_REDIS_FILE), { recursive: true });
  // 'wx' fails where another one claimed it in this very moment.
  writeFileSync(EMBEDDED_REDIS_FILE, JSON.stringify(state), { flag: 'wx', mode: 0o600 });
  return { state, leftovers: former?.started ?? [] };
}

/** Replaces the file in one step: a reader sees the former or the new state. */
export function saveState(state: DevState): void {
  const draft = `${EMBEDDED_REDIS_FILE}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, EMBEDDED_REDIS_FILE);
}

export function removeState(): void {
  rmSync(EMBEDDED_REDIS_FILE, { force: true });
}

function readState(): DevState | undefined {
  try {
    return devState.parse(JSON.parse(readFileSync(EMBEDDED_REDIS_FILE, 'utf8')));
  } catch {
    return undefined;
  }
}
