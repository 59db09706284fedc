/** One process owns a spool's directory: a lock file says which, and one that its owner left behind is taken over. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { ConfigError } from '../../lib/config.js';

export type Lock = {
  /** Throws where the directory is another's by now, as after a freeze that outlived the heartbeat. It stays so. */
  confirm: () => Promise<void>;
  isLost: () => boolean;
  release: () => Promise<void>;
};

type Owner = { pid: number; host: string; startedAt: string };

const HEARTBEAT_MS = 2_000;
/** A process on another host, or in another container, cannot be asked whether it lives: its heartbeat tells. */
const STALE_MS = 10_000;

/** Throws `ConfigError` where another process owns the directory. */
export async function takeLock(dir: string, log: Logger): Promise<Lock> {
  const path = join(dir, 'lock');
  const own = JSON.stringify({ pid: process.pid, host: hostname(), startedAt: startOf(process.pid) } satisfies Owner);
  const draft = `${path}.${randomUUID()}`;
  try {
    await writeFile(draft, own, { mode: 0o600, flag: 'wx' });
    await linkOver(draft, path);
  } finally {
    await rm(draft, { force: true });
  }
  let isLost = false;

  async function confirm(): Promise<void> {
    if (!isLost && (await readText(path)) !== own) {
      isLost = true;
      log.error('another process has taken SPOOL_DIR over: nothing is spooled here any more');
    }
    if (isLost) throw new Error('it belongs to another process now');
  }

  async function beat(): Promise<void> {
    await confirm();
    const now = new Date();
    await utimes(path, now, now);
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

/** Undefined where there is no such file. */
async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** A link appears with its content, or not at all: nobody reads a lock that is half written. */
async function linkOver(draft: string, path: string): Promise<void> {
  for (;;) {
    try {
      return await link(draft, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const found = await readOwner(path);
    if (found === undefined) continue;
    if (await isAlive(found.owner, path)) throw takenError(found.owner);
    await removeStale(path, found.text);
  }
}

async function readOwner(path: string): Promise<{ text: string; owner: Owner | undefined } | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return { text, owner: JSON.parse(text) as Owner };
  } catch {
    return { text, owner: undefined };
  }
}

async function isAlive(owner: Owner | undefined, path: string): Promise<boolean> {
  if (owner === undefined) return false;
  if (owner.host === hostname()) return isRunning(owner.pid) && startOf(owner.pid) === owner.startedAt;
  const beatAtMs = await stat(path).then(
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

/** Tells a process from a later one with the same pid; a container's first one always has the same. Linux only. */
function startOf(pid: number): string {
  try {
    return (
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[19] ?? ''
    );
  } catch {
    return '';
  }
}

/** Of several that find the same stale lock, one may have put its own in its place already: that one stays. */
async function removeStale(path: string, staleText: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const text = await readFile(aside, 'utf8');
  if (text !== staleText) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

function takenError(owner: Owner | undefined): ConfigError {
  const who = owner === undefined ? 'another process' : `process ${owner.pid} on ${owner.host}`;
  return new ConfigError(
    `The settings cannot be used:\n  SPOOL_DIR: should be a directory of this process alone; ${who} uses it`,
  );
}
