/** A spool in a directory of the test's own, before a Redis of the test's own. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { type Logger, pino } from 'pino';
import { openSpool, type Spool, type SpoolOptions } from '../../src/ingest/spool/spool.js';
import { type Append, makeAppend } from '../../src/lib/append.js';
import { connectRedis } from '../../src/lib/redis.js';
import { startRedis, type TestRedis } from './redis-server.js';
import { waitFor } from './wait-for.js';

export type SpoolBench = {
  server: TestRedis;
  /** For looking on. */
  redis: Redis;
  /** The client that webhooks go over. */
  ingest: Redis;
  append: Append;
  /** The spool's directory; another one after each `reset`. */
  dir: string;
  log: Logger;
  open: (options?: Partial<SpoolOptions>) => Promise<Spool>;
  /** Ends Redis, and waits until ingest's client knows. */
  down: () => Promise<void>;
  /** Redis takes nothing in any more, but answers. */
  fill: () => Promise<unknown>;
  /** It does again. */
  empty: () => Promise<unknown>;
  segments: () => string[];
  unreadable: () => string[];
  /** Keys of a stream's entries, in order. */
  keysOf: (stream: string) => Promise<string[]>;
  logLines: () => Record<string, unknown>[];
  reset: () => Promise<void>;
  stop: () => Promise<void>;
};

const MB = 1024 * 1024;

/** What a webhook may wait for the disk in tests of anything else: a busy machine's may take longer than a sender waits. */
export const PATIENT_MS = 60_000;

export async function startSpoolBench(): Promise<SpoolBench> {
  const server = await startRedis();
  const redis = server.connect();
  // Of a client that waits for longer: one append too late is a repeat, which tests of anything else do not count on.
  const ingest = connectRedis({ url: server.url, role: 'drain' });
  const append = makeAppend({ redis: ingest, keyPrefix: '', idempotencyTtlS: 3_600, timeoutMs: PATIENT_MS });
  const lines: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  const root = mkdtempSync(join(tmpdir(), 'gvi-spool-'));
  const spools = new Set<Spool>();
  let run = 0;
  const stopSpools = () => Promise.all([...spools].map((spool) => spool.stop()));
  const dirOf = () => join(root, `spool-${run}`);
  const list = (dir: string) => readdirSync(dir).filter((name) => /\.(spool|damaged)$/.test(name));

  return {
    server,
    redis,
    ingest,
    append,
    get dir() {
      return dirOf();
    },
    log,
    async open(options = {}) {
      const spool = await openSpool({
        dir: dirOf(),
        bytesMax: 64 * MB,
        append,
        log,
        deadlineMs: PATIENT_MS,
        ...options,
      });
      const once: Spool = {
        ...spool,
        async stop() {
          if (spools.delete(once)) await spool.stop();
        },
      };
      spools.add(once);
      return once;
    },
    async down() {
      server.kill('SIGKILL');
      await waitFor('the connection to break', () => ingest.status !== 'ready');
    },
    fill: () => redis.config('SET', 'maxmemory', '1'),
    empty: () => redis.config('SET', 'maxmemory', '0'),
    segments: () => list(dirOf()),
    unreadable: () => list(join(dirOf(), 'unreadable')),
    async keysOf(stream) {
      const entries = await redis.xrange(`events:${stream}`, '-', '+');
      return entries.map(([, fields]) => fields[fields.indexOf('key') + 1]!);
    },
    logLines: () => lines.map((line) => JSON.parse(line)),
    async reset() {
      await stopSpools();
      lines.length = 0;
      run += 1;
      await waitFor('Redis', () => ingest.status === 'ready');
      await redis.config('SET', 'maxmemory', '0');
      await redis.flushall();
    },
    async stop() {
      await stopSpools();
      ingest.disconnect();
      await server.stop();
      rmSync(root, { recursive: true, force: true });
    },
  };
}
