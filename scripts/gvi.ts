/**
 * The operators' tool: `npm run -s gvi -- <command>`. Exits 0 when it did what was asked, 1 when it could not, 2 on wrong
 * usage; every command takes `--json`.
 */
import { StoreUnavailableError } from '../src/lib/append.js';
import { UsageError } from '../src/lib/command-line.js';
import { ConfigError, loadConfig } from '../src/lib/config.js';
import { endOnCrash } from '../src/lib/crash.js';
import { makeKeys } from '../src/lib/keys.js';
import { describeError } from '../src/lib/logger.js';
import { connectRedis } from '../src/lib/redis.js';
import { judgeRedisError } from '../src/lib/redis-errors.js';
import { describeRefusal, sayRefusal } from '../src/lib/redis-refusal.js';
import { calendly } from './gvi/calendly.js';
import type { Command } from './gvi/command.js';
import { doctor } from './gvi/doctor.js';
import { dropGroup } from './gvi/drop-group.js';
import { failed } from './gvi/failed.js';
import { printError, showControls } from './gvi/format.js';
import { rebuild } from './gvi/rebuild.js';
import { redrive } from './gvi/redrive.js';
import { replay } from './gvi/replay.js';
import { send } from './gvi/send.js';
import { show } from './gvi/show.js';
import { status } from './gvi/status.js';
import { tail } from './gvi/tail.js';
import { trim } from './gvi/trim.js';

const COMMANDS: readonly Command[] = [
  status,
  show,
  failed,
  redrive,
  replay,
  send,
  tail,
  rebuild,
  trim,
  dropGroup,
  calendly,
  doctor,
];

/** A person does not wait longer without a word. */
const SLOW_MS = 2_000;

/** Why Redis can't be reached, by the code of the last try. */
let redisFault = '';

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help') {
    process.stdout.write(help());
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) throw new UsageError(`There is no command ${name}.\n\n${help()}`);
  if (rest.includes('--help')) {
    process.stdout.write(`${command.help ?? `Usage: gvi ${command.usage}\n${command.summary}`}\n`);
    return 0;
  }
  const config = loadConfig();
  const redis = connectRedis({ url: config.redisUrl, role: command.redis === 'look' ? 'look' : 'tool' });
  redis.on('error', (error: NodeJS.ErrnoException) => {
    redisFault = error.code ?? judgeRedisError(error)?.code ?? error.name;
  });
  const slow = setTimeout(() => {
    if (command.redis !== 'unused' && redis.status !== 'ready') printError('Redis does not answer yet.');
  }, SLOW_MS);
  try {
    return await command.run(rest, {
      config,
      redis,
      keys: makeKeys(config.keyPrefix),
      print: (text) => void process.stdout.write(`${showControls(text)}\n`),
    });
  } finally {
    clearTimeout(slow);
    redis.disconnect();
  }
}

function help(): string {
  const lines = COMMANDS.map(({ usage, summary }) => `  gvi ${usage.padEnd(44)} ${summary}`);
  return `Usage: npm run -s gvi -- <command> [--json] [--yes] [--by <your name>] [--help]\n\n${lines.join('\n')}\n`;
}

endOnCrash((error) => printError(describeError(error).stack));

// `gvi status | head`: whoever reads has had enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

function sayWhy(error: unknown): string {
  if (error instanceof ConfigError || error instanceof UsageError) return error.message;
  if (error instanceof StoreUnavailableError) return sayWhy(error.cause);
  const fault = judgeRedisError(error);
  if (fault === undefined || fault.kind === 'ours') return describeError(error).stack;
  const refusal = describeRefusal(error);
  if (refusal !== undefined) return `${sayRefusal(refusal)}.`;
  const isAnswered = error instanceof Error && error.name === 'ReplyError';
  return isAnswered
    ? `Redis does not do this now (${fault.code}).`
    : `Redis is not reachable (${redisFault || fault.code}).`;
}

/** At once: a link to a Redis that is frozen would hold the process up until it is taken for dead. */
async function end(code: number): Promise<never> {
  const written = [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((resolve) => stream.write('', () => resolve())),
  );
  await Promise.all(written);
  process.exit(code);
}

main(process.argv.slice(2)).then(end, (error: unknown) => {
  printError(sayWhy(error));
  return end(error instanceof UsageError ? 2 : 1);
});
