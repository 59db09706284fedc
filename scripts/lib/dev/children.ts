/** The processes that `./scripts/dev` starts: their output with a name before each line, their end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { styleText } from 'node:util';
import { prettyFactory } from 'pino-pretty';
import { untilExit } from '../redis-server.js';

export type Child = {
  name: string;
  pid: number;
  mark: string;
  /** Resolves when it has ended. */
  ended: Promise<void>;
  /** How it ended, and its last lines; for the person in front of the terminal. */
  describeEnd: () => string;
  /** SIGTERM, and SIGKILL when it takes longer than `graceMs`. */
  stop: (graceMs: number) => Promise<void>;
  kill: () => void;
};

const LINES_KEPT = 15;
const NAME_WIDTH = 8;
const STYLES = { ingest: 'cyan', worker: 'magenta' } as const;

const hasColours = process.stdout.isTTY || Boolean(process.env.FORCE_COLOR);
const prettify = prettyFactory({
  colorize: hasColours,
  ignore: 'pid,hostname,name',
  translateTime: 'SYS:HH:MM:ss.l',
  singleLine: true,
});

/** Runs a TypeScript file of the project. In a process group of its own: a Ctrl-C in the terminal reaches us alone. */
export function startChild(name: keyof typeof STYLES, script: string, env: NodeJS.ProcessEnv): Child {
  const child = spawn(process.execPath, ['--import', 'tsx', script], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const label = `${name.padEnd(NAME_WIDTH)}│ `;
  const prefix = hasColours ? styleText(STYLES[name], label) : label;
  const lastLines: string[] = [];
  const show = (line: string) => {
    const text = readable(line);
    if (text === '') return;
    lastLines.push(text);
    if (lastLines.length > LINES_KEPT) lastLines.shift();
    process.stdout.write(`${prefix}${text}\n`);
  };
  const read = [child.stdout, child.stderr].map((stream) => forEachLine(stream, show));

  return {
    ...asChild(child, name, script),
    ended: Promise.all([untilExit(child), ...read]).then(() => {}),
    describeEnd: () => [describeExit(child, name), ...lastLines.map((line) => `  ${line}`)].join('\n'),
  };
}

/** What all children have, the embedded Redis too. */
export function asChild(child: ChildProcess, name: string, mark: string): Child {
  const ended = untilExit(child);
  return {
    ...{ name, mark, ended },
    pid: child.pid ?? 0,
    describeEnd: () => describeExit(child, name),
    async stop(graceMs) {
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(timer);
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

function describeExit({ exitCode, signalCode }: ChildProcess, name: string): string {
  return `${name} ended (${signalCode ?? `exit code ${exitCode ?? 'unknown'}`})`;
}

/** JSON log lines as pino-pretty shows them, everything else as it is. */
function readable(line: string): string {
  return line.startsWith('{"') ? prettify(line).trimEnd() : line;
}

function forEachLine(stream: Readable, use: (line: string) => void): Promise<void> {
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  lines.on('line', use);
  return new Promise((resolve) => lines.once('close', resolve));
}
