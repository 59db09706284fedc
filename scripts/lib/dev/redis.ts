/** The embedded Redis of `./scripts/dev`: a real server whose data survives a restart. */
import { mkdirSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { findFreePort, launchRedis } from '../redis-server.js';
import { asChild, type Child } from './children.js';

export const REDIS_FOLDER = '.gvi/redis';
/** The sandbox has its own, new each time: the stand-ins start empty too, and real records must not meet made-up ones. */
export const SANDBOX_REDIS_FOLDER = '.gvi/redis-sandbox';

export type EmbeddedRedisOptions = {
  isSandbox: boolean;
  /** Called before it answers. */
  onSpawn: (child: Child) => void;
};

/** Answers its URL, once it answers. */
export async function startEmbeddedRedis({ isSandbox, onSpawn }: EmbeddedRedisOptions): Promise<string> {
  const dir = resolve(isSandbox ? SANDBOX_REDIS_FOLDER : REDIS_FOLDER);
  if (isSandbox) rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const port = await findFreePort();
  const args = ['--appendfsync', 'always', '--maxmemory-policy', 'noeviction'];
  await launchRedis({
    ...{ dir, port, args, detached: true },
    onSpawn: (server) => onSpawn(asChild(server, 'redis', `127.0.0.1:${port}`)),
  });
  return `redis://127.0.0.1:${port}`;
}
