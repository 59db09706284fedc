/** What a command of `gvi` is. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { UsageError } from '../../src/lib/command-line.js';
import type { Config } from '../../src/lib/config.js';
import type { Keys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';

export type CommandContext = { config: Config; redis: RedisClient; keys: Keys; print: (text: string) => void };

export type Command = {
  name: string;
  usage: string;
  summary: string;
  /** Resolves to the exit code. Throws `UsageError` on wrong usage. */
  run: (argv: readonly string[], context: CommandContext) => Promise<number>;
};

/** The options of a command, `--json` and `--yes` always among them. */
export function parseCommandLine<const T extends NonNullable<ParseArgsConfig['options']>>(
  { usage }: Pick<Command, 'usage'>,
  argv: readonly string[],
  options: T,
) {
  try {
    return parseArgs({
      args: [...argv],
      options: { ...options, json: { type: 'boolean', default: false }, yes: { type: 'boolean', default: false } },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\nUsage: gvi ${usage}`);
  }
}
