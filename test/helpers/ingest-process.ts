/** Ingest as a process of its own, with these settings alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findBundled } from './bundle.js';
import { send } from './ingest-bench.js';
import { waitFor } from './wait-for.js';
import { CALENDLY_KEY, READAI_KEY } from './webhooks.js';

const ROOT = join(import.meta.dirname, '..', '..');
const PATIENCE_MS = 30_000;

export type IngestProcess = {
  base: string;
  child: ChildProcess;
  /** All that it wrote, to either stream. */
  output: () => string;
  /** Memory that it holds now, in bytes; `undefined` where the system does not tell. */
  rss: () => number | undefined;
  stop: () => Promise<void>;
};

/** Resolves once it is ready. `openFiles`: as after `ulimit -n`; `isDiskFull`: no file can grow, as after `ulimit -f 0`. */
export async function startIngest(
  settings: Record<string, string>,
  { openFiles, isDiskFull = false }: { openFiles?: number; isDiskFull?: boolean } = {},
): Promise<IngestProcess> {
  const limits = [...(openFiles === undefined ? [] : [`-n ${openFiles}`]), ...(isDiskFull ? ['-f 0'] : [])];
  const main = findBundled('src/ingest/main.cjs');
  const child = spawn(
    'sh',
    ['-c', [...limits.map((limit) => `ulimit ${limit}`), 'exec "$0" "$1"'].join('; '), process.execPath, main],
    {
      cwd: ROOT,
      env: {
        ...{ PATH: process.env.PATH, PORT: '0', CALENDLY_SIGNING_KEY: CALENDLY_KEY, READAI_SIGNING_KEY: READAI_KEY },
        ...settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const output = () => Buffer.concat(chunks).toString();
  const port = await waitFor('ingest to listen', () => /"port":(\d+)/.exec(output())?.[1], PATIENCE_MS);
  const base = `http://127.0.0.1:${port}`;
  await waitFor('ingest to be ready', async () => (await send(`${base}/readyz`)).status === 200, PATIENCE_MS);
  return {
    base,
    child,
    output,
    rss: () => readRss(child.pid!),
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

function readRss(pid: number): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const kB = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return kB === undefined ? undefined : Number(kB) * 1024;
}
