/**
 * `./scripts/dev`: Redis, ingest and all four groups in one terminal. Dry by default; `--sandbox` writes to stand-ins of
 * Zoho, Gemini and Slack instead. Ctrl-C stops all of it, a second one at once.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError, parseConfig } from '../src/lib/config.js';
import { onEndSignals } from '../src/lib/end-signals.js';
import { makeBanner } from './lib/dev/banner.js';
import { type Child, startChild } from './lib/dev/children.js';
import { DevError } from './lib/dev/dev-error.js';
import { endLeftovers } from './lib/dev/process-table.js';
import { REDIS_FOLDER, SANDBOX_REDIS_FOLDER, startEmbeddedRedis } from './lib/dev/redis.js';
import type { Sandbox } from './lib/dev/sandbox.js';
import { claimCheckout, type DevState, removeState, saveState } from './lib/dev/state.js';
import { findFreePort } from './lib/redis-server.js';

const USAGE = `Usage: ./scripts/dev [--sandbox]

  --sandbox   write to stand-ins of Zoho, Gemini and Slack on this machine, instead of a dry run
`;
const READY_WITHIN_MS = 60_000;
/** Beyond SHUTDOWN_GRACE_MS, for what is then handed back. */
const HAND_BACK_MS = 5_000;
const REDIS_STOP_MS = 10_000;

process.chdir(join(import.meta.dirname, '..'));

const workers: Child[] = [];
const ending = new AbortController();
let redis: Child | undefined;
let sandbox: Sandbox | undefined;
let graceMs = 0;
let isClaimed = false;
let exitCode = 0;

onEndSignals(() => {
  if (ending.signal.aborted) return killAll();
  process.stdout.write('\nStopping …\n');
  ending.abort();
}, ['SIGINT', 'SIGTERM', 'SIGHUP']);

try {
  await start(parseArguments(process.argv.slice(2)));
  if (!ending.signal.aborted) await once(ending.signal, 'abort');
} catch (error) {
  if (!ending.signal.aborted) fail(describe(error));
}
await stopAll();
process.exit(exitCode);

async function start({ isSandbox }: { isSandbox: boolean }): Promise<void> {
  if (existsSync('.env')) process.loadEnvFile('.env');
  const settings = parseConfig({ ...process.env, REDIS_URL: process.env.REDIS_URL?.trim() || 'redis://127.0.0.1' });
  if (settings.isProduction) throw new DevError('NODE_ENV is production: ./scripts/dev is for development.');
  graceMs = settings.work.shutdownGraceMs;
  const port = settings.port || (await findFreePort());

  const { state, leftovers } = claimCheckout(port);
  isClaimed = true;
  await endLeftovers(leftovers);
  await assertPortIsFree(port);
  // Only then, as it would slow down every other start.
  if (isSandbox) sandbox = await (await import('./lib/dev/sandbox.js')).startSandbox();

  const redisUrl = process.env.REDIS_URL?.trim() || (await embedRedis(state, isSandbox));
  const workerPort = settings.workerPort || (await findFreePort());
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ...defaults({ port, isSandbox }),
    ...sandbox?.env,
    ...{ REDIS_URL: redisUrl, PORT: String(port), WORKER_PORT: String(workerPort) },
  };
  ending.signal.throwIfAborted();
  startWorkers(state, env);

  await untilOk(`http://127.0.0.1:${port}/readyz`);
  // Its figures are there once it runs.
  await untilOk(`http://127.0.0.1:${workerPort}/metrics`);
  const redisPlace = isSandbox ? `${SANDBOX_REDIS_FOLDER}, empty at each start` : REDIS_FOLDER;
  process.stdout.write(
    makeBanner({
      ...{ port, workerPort },
      mode: describeMode(isSandbox, env.DRY_RUN),
      redis: redis ? `${redisUrl} (data in ${redisPlace})` : 'the one that REDIS_URL names',
      places: sandbox?.places ?? [],
      isSigned: settings.calendly.signingKeys.length > 0,
    }),
  );
}

function parseArguments(args: readonly string[]): { isSandbox: boolean } {
  const unknown = args.find((arg) => !['--sandbox', '--help', '-h'].includes(arg));
  if (args.length > 0 && (unknown !== undefined || !args.includes('--sandbox'))) {
    process.stdout.write(unknown === undefined ? USAGE : `Unknown argument ${unknown}\n\n${USAGE}`);
    process.exit(unknown === undefined ? 0 : 2);
  }
  return { isSandbox: args.includes('--sandbox') };
}

/** What holds where neither the environment nor `.env` says otherwise. */
function defaults({ port, isSandbox }: { port: number; isSandbox: boolean }): Record<string, string> {
  const wanted = {
    ...(isSandbox && { INTERNAL_DOMAINS: 'vendor.example' }),
    NODE_ENV: 'development',
    DRY_RUN: 'true',
    ALLOW_DEBUG_ENDPOINTS: 'true',
    BASE_URL: `http://localhost:${port}`,
  };
  return Object.fromEntries(Object.entries(wanted).filter(([name]) => !process.env[name]?.trim()));
}

async function embedRedis(state: DevState, isSandbox: boolean): Promise<string> {
  const url = await startEmbeddedRedis({
    isSandbox,
    // Not later: whoever ends us while it loads its data would leave it behind, and the next one would share its directory.
    onSpawn(child) {
      redis = child;
      rememberStarted(state);
    },
  });
  stopWhenEnds(redis!);
  state.redisUrl = url;
  saveState(state);
  return url;
}

function startWorkers(state: DevState, env: NodeJS.ProcessEnv): void {
  workers.push(startChild('ingest', 'src/ingest/main.ts', env), startChild('worker', 'src/consumers/main.ts', env));
  for (const worker of workers) stopWhenEnds(worker);
  rememberStarted(state);
}

function rememberStarted(state: DevState): void {
  const started = [...workers, ...(redis ? [redis] : [])];
  state.started = started.map(({ name, pid, mark }) => ({ name, pid, mark }));
  saveState(state);
}

function stopWhenEnds(child: Child): void {
  child.ended.then(() => {
    if (!ending.signal.aborted) fail(child.describeEnd());
  });
}

function assertPortIsFree(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new DevError(
              `Port ${port} is taken by another process: stop it, or choose another with PORT=8001 ./scripts/dev`,
            )
          : new DevError(`Port ${port} cannot be used: ${error.code}`),
      ),
    );
    probe.listen(port, () => probe.close(() => resolve()));
  });
}

async function untilOk(url: string): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return;
    if (Date.now() > deadline) throw new DevError(`${url} was not ready within ${READY_WITHIN_MS / 1000} seconds.`);
    await sleep(50, undefined, { signal: ending.signal });
  }
}

function describeMode(isSandbox: boolean, dryRun: string | undefined): string {
  if (isSandbox) return 'Sandbox: leads, answers and alerts go to stand-ins on this machine';
  return ['true', '1', 'yes', 'on'].includes(dryRun ?? '')
    ? 'Dry run: nothing is written to Zoho (DRY_RUN=false writes)'
    : 'LIVE: leads and notes are written to Zoho';
}

function describe(error: unknown): string {
  const isForPeople = error instanceof DevError || error instanceof ConfigError;
  return isForPeople ? error.message : String((error as Error).stack ?? error);
}

function fail(message: string): void {
  process.stderr.write(`\n${message}\n`);
  exitCode = 1;
  ending.abort();
}

async function stopAll(): Promise<void> {
  await Promise.all(workers.map((worker) => worker.stop(graceMs + HAND_BACK_MS)));
  await sandbox?.stop();
  await redis?.stop(REDIS_STOP_MS);
  if (isClaimed) removeState();
}

function killAll(): void {
  for (const child of [...workers, ...(redis ? [redis] : [])]) child.kill();
  if (isClaimed) removeState();
  process.exit(130);
}
