/**
 * What `gvi replay` and `gvi rebuild` hold in memory over a long history, in one run with a tenth of it: bounded means that
 * both peaks are about the same. `npm run bench -- replay 1000000` for a million entries.
 */
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { makeKeys } from '../src/lib/keys.js';
import { startGvi } from '../test/helpers/gvi.js';
import { startRedis } from '../test/helpers/redis-server.js';
import { makeBooking } from './bookings.js';

const ENTRIES = 100_000;
const ENTRIES_PER_EVENT = 3;
const EVENTS_AT_ONCE = 2_000;
const LOOK_EVERY_MS = 20;
const keys = makeKeys('');

const COMMANDS = [
  ['replay', '--group', 'enrich', '--from', '0', '--yes'],
  ['rebuild', '--yes'],
] as const;

export async function benchReplay([entries = String(ENTRIES)]: readonly string[]): Promise<void> {
  const sizes = [Math.round(Number(entries) / 10), Number(entries)];
  const peaks = new Map<string, number[]>();
  for (const size of sizes) {
    const server = await startRedis({ args: ['--appendonly', 'no'] });
    try {
      const events = Math.round(size / ENTRIES_PER_EVENT);
      await fill(server.connect(), events);
      for (const [name, ...args] of COMMANDS) {
        const { peakMb, seconds } = await measure([name, ...args], server.url);
        peaks.set(name, [...(peaks.get(name) ?? []), peakMb]);
        console.log(
          `${name} over ${events * ENTRIES_PER_EVENT} entries: peak ${peakMb.toFixed(0)} MB, ${seconds.toFixed(1)} s`,
        );
      }
    } finally {
      await server.stop();
    }
  }
  for (const [name, [less = 1, more = 0]] of peaks) {
    console.log(`${name}: ten times the entries take ${(more / less).toFixed(2)} times the memory`);
  }
}

/** Bookings that are done, as ingest and the groups leave them. */
async function fill(redis: Redis, events: number): Promise<void> {
  const streams = ['events:calendly', 'events:enriched', 'events:synced'] as const;
  for (const stream of streams)
    for (const group of ['enrich', 'crm-sync']) {
      await redis.xgroup('CREATE', keys.stream(stream), group, '$', 'MKSTREAM');
    }
  for (let from = 0; from < events; from += EVENTS_AT_ONCE) {
    const pipeline = redis.pipeline();
    for (let n = from; n < Math.min(events, from + EVENTS_AT_ONCE); n += 1) addEvent(pipeline, n);
    await pipeline.exec();
  }
  for (const stream of streams)
    for (const group of ['enrich', 'crm-sync']) {
      await redis.xgroup('SETID', keys.stream(stream), group, '$');
    }
}

function addEvent(pipeline: ReturnType<Redis['pipeline']>, n: number): void {
  const { id, key, at, email, body } = makeBooking(n);
  const add = (stream: 'calendly' | 'enriched' | 'synced', type: string, data: object, cause?: string) =>
    pipeline.xadd(
      ...([keys.stream(`events:${stream}`), id, 'type', type, 'key', key, 'at', at, 'v', '1'] as const),
      ...(cause === undefined ? [] : ['cause', cause]),
      ...(['data', JSON.stringify(data)] as const),
    );
  add('calendly', 'calendly.invitee.created', body);
  add('enriched', 'lead.enriched', { kind: 'booked', happenedAt: at, email, facts: {} }, `calendly-${id}`);
  const synced = { outcome: 'written', leads: [{ email, leadId: '1', action: 'update' }], notes: [] };
  add('synced', 'lead.synced', synced, `enriched-${id}`);
  pipeline.set(keys.idemSeen(key), `calendly-${id}`, 'EX', 86_400);
  pipeline.set(keys.idemProcessed(key), '1', 'EX', 86_400);
  const chain = { [`calendly-${id}`]: '', [`enriched-${id}`]: '', [`synced-${id}`]: '' };
  pipeline.hset(keys.progress(key), { id: `calendly-${id}`, state: 'processed', ...chain });
}

async function measure(args: readonly string[], redisUrl: string): Promise<{ peakMb: number; seconds: number }> {
  const startedAt = performance.now();
  const command = startGvi(args, { REDIS_URL: redisUrl });
  let peakKb = 0;
  const looking = setInterval(() => {
    peakKb = Math.max(peakKb, readPeakKb(command.child.pid!));
  }, LOOK_EVERY_MS);
  const code = await command.exited;
  clearInterval(looking);
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}: ${command.stdout()}${command.stderr()}`);
  return { peakMb: peakKb / 1_024, seconds: (performance.now() - startedAt) / 1_000 };
}

/** Linux alone tells it; 0 once the process has gone. */
function readPeakKb(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
