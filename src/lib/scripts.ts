/**
 * The Lua scripts in `scripts/`, each one atomic step. They are sent as EVALSHA and loaded again by the client where
 * Redis has lost them. Every script is safe to send twice, as a lost reply makes ioredis send it again.
 */
import { readFileSync } from 'node:fs';
import type { RedisClient } from './redis.js';

export type Script = (keys: readonly string[], args: readonly (string | number | Buffer)[]) => Promise<unknown>;

/** `name` is the file's name without `.lua`; what `common.lua` defines is known to all of them. */
export function loadScript(redis: RedisClient, name: string): Script {
  const command = `gvi_${name.replaceAll('-', '_')}`;
  redis.defineCommand(command, { lua: readScript(name) });
  const run = (redis as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[command]!.bind(redis);
  return (keys, args) => run(keys.length, ...keys, ...args);
}

/** The shebang must stay the first line, so the shared functions go in after it. */
function readScript(name: string): string {
  const script = readFile(name);
  const common = readFile('common');
  if (!script.startsWith('#!')) return `${common}\n${script}`;
  const end = script.indexOf('\n') + 1;
  return `${script.slice(0, end)}${common}\n${script.slice(end)}`;
}

function readFile(name: string): string {
  return readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
}
