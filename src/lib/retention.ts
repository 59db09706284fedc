/**
 * Lets RETENTION_DAYS hold by itself: once an hour one of the workers trims what is old and done, in slices that give way
 * to the work, and looks for groups that nobody serves; about once a minute it is looked whether entries were deleted by hand. Where there
 * is nothing to trim it says nothing.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import { tellAbandonedGroups } from './abandoned-groups.js';
import type { StreamName } from './event-id.js';
import { STREAMS } from './events.js';
import type { Keys } from './keys.js';
import { BusyError, makeSkim, readRedisTime } from './maintenance.js';
import { recordOperation } from './operations.js';
import type { Projection } from './projector.js';
import type { RedisClient } from './redis.js';
import { type TrimCursor, type TrimReport, trim } from './trim.js';
import { reportVanished } from './vanished.js';

export type RetentionOptions = {
  redis: RedisClient;
  keys: Keys;
  projections: readonly Projection[];
  retentionMs: number;
  log: Logger;
  /** [3600000] How often it is looked, over all workers together. */
  everyMs?: number;
  /** [60000] How often this worker asks whether it is time; also the pause before the next slice, or while another command is at it. */
  askMs?: number;
  /** [20000] Entries that one slice looks at. */
  sliceEntries?: number;
};

export type Retention = { stop: () => Promise<void> };

const EVERY_MS = 3_600_000;
const ASK_MS = 60_000;
const SLICE_ENTRIES = 20_000;
const PAUSE_MS = 10;
const STOP_MS = 1_000;

export function startRetention(options: RetentionOptions): Retention {
  const { redis, keys, log, everyMs = EVERY_MS, askMs = ASK_MS } = options;
  const stopping = new AbortController();
  const lease = keys.lease('retention');
  let owner = '';
  const loop = run();
  return {
    async stop() {
      stopping.abort();
      // What waits for a Redis that is away must not hold up the end.
      await Promise.race([loop, sleep(STOP_MS)]);
    },
  };

  async function run(): Promise<void> {
    let isFailing = false;
    while (!stopping.signal.aborted) {
      try {
        await reportVanished(options);
        if (await takeLease()) await look();
        isFailing = false;
      } catch (error) {
        if (!isFailing) log.warn({ err: error }, 'trimming failed; trying again');
        isFailing = true;
        await askAgainSoon().catch(() => {});
      }
      // Jitter, so that workers that were started together do not ask together.
      await sleep(askMs * (0.8 + Math.random() * 0.4), undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  /** Each time by another name: where the reply was lost and this was sent again, it tells that it is ours and new. */
  async function takeLease(): Promise<boolean> {
    owner = randomBytes(8).toString('hex');
    if ((await redis.set(lease, owner, 'PX', everyMs, 'NX')) === 'OK') return true;
    return (await redis.get(lease)) === owner;
  }

  async function look(): Promise<void> {
    await tellAbandonedGroups(options);
    if (!(await isAnythingOld(options))) return;
    const isAtEnd = await trimSlice(options, stopping.signal);
    if (!isAtEnd) await askAgainSoon();
  }

  /** By any worker. */
  async function askAgainSoon(): Promise<void> {
    if ((await redis.get(lease)) === owner) await redis.pexpire(lease, askMs);
  }
}

async function isAnythingOld({ redis, keys, retentionMs }: RetentionOptions): Promise<boolean> {
  const skim = makeSkim({ redis, keys });
  const to = String((await readRedisTime(redis)) - retentionMs - 1);
  for (const stream of STREAMS) {
    for await (const entries of skim(stream, { to, count: 1 })) return entries.length > 0;
  }
  return false;
}

/** True when it came to the end. A slice goes on where the one before has left off, whichever worker that was. */
async function trimSlice(options: RetentionOptions, signal: AbortSignal): Promise<boolean> {
  const { redis, keys, log, sliceEntries = SLICE_ENTRIES } = options;
  const from = readCursor(await redis.get(keys.trimCursor()));
  const budget = { entriesMax: sliceEntries, pauseMs: PAUSE_MS, from, signal };
  let report: TrimReport;
  try {
    report = await trim(options, { isDryRun: false, budget });
  } catch (error) {
    if (error instanceof BusyError) return false;
    throw error;
  }
  const { dropped, kept, before, next } = report;
  if (next === undefined) await redis.del(keys.trimCursor());
  else await redis.set(keys.trimCursor(), JSON.stringify(next));
  if (kept.unended !== undefined) {
    log.warn({ entries: kept.unended, before }, 'old events that came to no end stay; gvi replay runs them');
  }
  if (dropped > 0) {
    log.info({ dropped, kept, before }, 'trimmed');
    await recordOperation(options, { operation: 'trim', by: 'retention', count: dropped, details: { before } });
  }
  return next === undefined;
}

const cursorSchema = z.object({
  stream: z.string().refine((stream): stream is StreamName => (STREAMS as string[]).includes(stream)),
  id: z.string(),
});

function readCursor(json: string | null): TrimCursor | undefined {
  const parsed = json === null ? undefined : cursorSchema.safeParse(JSON.parse(json));
  return parsed?.data as TrimCursor | undefined;
}
