/**
 * One process owns a spool's directory: `lock` says which, and one that its owner left behind is taken over. It is a symbolic
 * link whose target is the owner's name: it appears whole or not at all, and takes no room on a full disk, where ingest must
 * start all the same, to drain what lies there.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { lstat, lutimes, readlink, rename, rm, symlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { ConfigError } from '../../lib/config.js';
import { unwritableError } from './directory.js';

export type Lock = {
  /** Throws where the directory is another's by now, as after a freeze that outlived the heartbeat. It stays so. */
  confirm: () => Promise<void>;
  isLost: () => boolean;
  release: () => Promise<void>;
};

type Owner = { pid: number; startedAt: string; host: string };

const HEARTBEAT_MS = 2_000;
/** A process on another host, or in another container, cannot be asked whether it lives: its heartbeat tells. */
const STALE_MS = 10_000;

/** Throws `ConfigError` where another process owns the directory. */
export async function takeLock(dir: string, log: Logger): Promise<Lock> {
  const path = join(dir, 'lock');
  const own = nameOf({ pid: process.pid, startedAt: startOf(process.pid), host: hostname() });
  await claim(path, own);
  let isLost = false;

  async function confirm(): Promise<void> {
    const owner = await readTarget(path);
    // Only now: a heartbeat that asked at the same time may have found it out meanwhile.
    if (!isLost && owner !== own) {
      isLost = true;
      log.error('another process has taken SPOOL_DIR over: nothing is spooled here any more');
    }
    if (isLost) throw new Error('it belongs to another process now');
  }

  async function beat(): Promise<void> {
    await confirm();
    const now = new Date();
    await lutimes(path, now, now);
  }

  const heartbeat = setInterval(() => void beat().catch(() => {}), HEARTBEAT_MS);
  heartbeat.unref();
  return {
    confirm,
    isLost: () => isLost,
    async release() {
      clearInterval(heartbeat);
      const isOwn = await confirm().then(
        () => true,
        () => false,
      );
      if (isOwn) await rm(path, { force: true });
    },
  };
}

/** Undefined where there is none; nobody's name where it is a file, as the first release wrote. */
async function readTarget(path: string): Promise<string | undefined> {
  return readlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    if (error.code === 'EINVAL') return '';
    throw error;
  });
}

async function claim(path: string, own: string): Promise<void> {
  for (;;) {
    try {
      return await symlink(own, path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EEXIST') throw unwritableError(code);
    }
    const found = await readTarget(path);
    if (found === undefined) continue;
    const owner = parseOwner(found);
    if (await isAlive(owner, path)) throw takenError(owner);
    await removeStale(path, found);
  }
}

/** Short, as a link of up to some sixty bytes needs no block of its own. */
function nameOf({ pid, startedAt, host }: Owner): string {
  return `${pid}.${startedAt}@${host}`;
}

function parseOwner(target: string): Owner | undefined {
  const [, pid, startedAt, host] = /^(\d+)\.(\d*)@(.+)$/.exec(target) ?? [];
  return host === undefined ? undefined : { pid: Number(pid), startedAt: startedAt!, host };
}

async function isAlive(owner: Owner | undefined, path: string): Promise<boolean> {
  if (owner === undefined) return false;
  if (owner.host === hostname()) return isRunning(owner.pid) && startOf(owner.pid) === owner.startedAt;
  const beatAtMs = await lstat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
  return Date.now() - beatAtMs < STALE_MS;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Tells a process from a later one with the same pid; a container's first one always has the same. Nothing of one that has ended
 * and was not waited for by its parent: it keeps its pid, it may be for ever. Linux only.
 */
function startOf(pid: number): string {
  try {
    const [state = '', ...more] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return /[ZX]/.test(state) ? '' : (more[18] ?? '');
  } catch {
    return '';
  }
}

/** Of several that find the same stale lock, one may have put its own in its place already: that one stays. */
async function removeStale(path: string, staleTarget: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw unwritableError(code);
  }
  const target = await readTarget(aside);
  if (target && target !== staleTarget) await symlink(target, path).catch(() => {});
  await rm(aside, { force: true });
}

function takenError(owner: Owner | undefined): ConfigError {
  const who = owner === undefined ? 'another process' : `process ${owner.pid} on ${owner.host}`;
  return new ConfigError(
    `The settings cannot be used:\n  SPOOL_DIR: should be a directory of this process alone; ${who} uses it`,
  );
}
