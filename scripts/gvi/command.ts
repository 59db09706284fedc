/** What a command of `gvi` is. */
import { userInfo } from 'node:os';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { UsageError } from '../../src/lib/command-line.js';
import type { Config } from '../../src/lib/config.js';
import type { Keys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { printError } from './format.js';

export type CommandContext = { config: Config; redis: RedisClient; keys: Keys; print: (text: string) => void };

export type Command = {
  name: string;
  usage: string;
  summary: string;
  /** What `--help` says where usage and summary are not all of it. */
  help?: string;
  /** What it does with Redis, where it changes nothing there. */
  redis?: 'unused' | 'look';
  /** Resolves to the exit code. Throws `UsageError` on wrong usage. */
  run: (argv: readonly string[], context: CommandContext) => Promise<number>;
};

const COMMON = {
  json: { type: 'boolean', default: false },
  yes: { type: 'boolean', default: false },
  by: { type: 'string' },
} as const;

/** The options of a command; `--json`, `--yes` and `--by` are always among them. `isBare`: it takes nothing beside them. */
export function parseCommandLine<const T extends NonNullable<ParseArgsConfig['options']>>(
  { usage }: Pick<Command, 'usage'>,
  argv: readonly string[],
  options: T,
  { isBare = false } = {},
) {
  try {
    return parseArgs({
      args: [...argv],
      options: { ...options, ...COMMON },
      allowPositionals: !isBare,
    });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\nUsage: gvi ${usage}`);
  }
}

/** What was asked rightly and can't be done: told as JSON where that was asked for. The exit code is returned. */
export function refuse({ print }: CommandContext, isJson: boolean, code: string, message: string): number {
  if (isJson) print(JSON.stringify({ error: { code, message } }));
  else printError(message);
  return 1;
}

/** Whose name stands in `events:operations`: that of `--by`, else of the login. */
export function operatorName(by: string | undefined): string {
  if (by !== undefined && by.trim() !== '') return by.trim();
  try {
    return userInfo().username;
  } catch {
    // A container may run as a user whom its system does not know.
    return 'operator';
  }
}
