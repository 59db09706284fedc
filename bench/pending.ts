/**
 * What the longest commands of Redis take where a dead worker has left very many entries pending, with live workers and
 * the operators' commands at work; in one run with a tenth of them: no command may grow with what is pending.
 * `npm run bench -- pending 1000000` for a million entries.
 */
import type { Redis } from 'ioredis';
import { makeKeys } from '../src/lib/keys.js';
import { describeCommand } from '../test/faults/harness/wire.js';
import { startGvi } from '../test/helpers/gvi.js';
import { startPipeline } from '../test/helpers/pipeline.js';
import { startRedis } from '../test/helpers/redis-server.js';
import { makeBooking } from './bookings.js';

const ENTRIES = 100_000;
const AT_ONCE = 2_000;
const RUN_MS = 20_000;
/** Microseconds. */
const SLOW_US = 1_000;
const keys = makeKeys('');
const stream = keys.stream('events:calendly');

const COMMANDS = [['status'], ['status', '--json'], ['trim', '--dry-run'], ['doctor'], ['failed']];

export async function benchPending([entries = String(ENTRIES)]: readonly string[]): Promise<void> {
  const longest: number[] = [];
  for (const size of [Math.round(Number(entries) / 10), Number(entries)]) {
    const server = await startRedis({
      args: ['--appendonly', 'no', '--slowlog-log-slower-than', String(SLOW_US), '--slowlog-max-len', '100000'],
    });
    try {
      const redis = server.connect();
      await fill(redis, size);
      await redis.call('SLOWLOG', 'RESET');
      const env = { DRY_RUN: 'true', VISIBILITY_TIMEOUT_MS: '10000' };
      const pipeline = await startPipeline({ redisUrl: server.url, keyPrefix: '', env });
      const endsAt = performance.now() + RUN_MS;
      while (performance.now() < endsAt)
        for (const args of COMMANDS) await startGvi(args, { REDIS_URL: server.url }).exited;
      const done = await redis.xlen(keys.stream('events:enriched'));
      const slow = await readSlowLog(redis);
      await pipeline.stop();
      longest.push(Math.max(0, ...slow.values()));
      console.log(
        `${size} entries pending, ${done} of them done in ${RUN_MS / 1_000} s; the longest of each command, ms:`,
      );
      for (const [name, us] of [...slow].sort((a, b) => b[1] - a[1]))
        console.log(`  ${(us / 1_000).toFixed(1)} ${name}`);
    } finally {
      await server.stop();
    }
  }
  const [less = 1, more = 0] = longest;
  console.log(`ten times the entries take ${(more / less).toFixed(2)} times the longest command`);
}

/** Bookings that were handed to a worker which was never heard of again. */
async function fill(redis: Redis, entries: number): Promise<void> {
  await redis.xgroup('CREATE', stream, 'enrich', '0', 'MKSTREAM');
  for (let from = 0; from < entries; from += AT_ONCE) {
    const pipeline = redis.pipeline();
    const count = Math.min(AT_ONCE, entries - from);
    for (let n = from; n < from + count; n += 1) addBooking(pipeline, n);
    pipeline.xreadgroup('GROUP', 'enrich', 'dead', 'COUNT', count, 'STREAMS', stream, '>');
    await pipeline.exec();
  }
}

function addBooking(pipeline: ReturnType<Redis['pipeline']>, n: number): void {
  const { id, key, at, body } = makeBooking(n);
  const data = JSON.stringify(body);
  pipeline.xadd(stream, id, 'type', 'calendly.invitee.created', 'key', key, 'at', at, 'v', '1', 'data', data);
  pipeline.set(keys.idemSeen(key), `calendly-${id}`, 'EX', 86_400);
  pipeline.hset(keys.progress(key), { id: `calendly-${id}`, [`calendly-${id}`]: '' });
}

/** By command or script, the longest, in microseconds. */
async function readSlowLog(redis: Redis): Promise<Map<string, number>> {
  const entries = (await redis.call('SLOWLOG', 'GET', '-1')) as [number, number, number, string[]][];
  const found = new Map<string, number>();
  for (const [, , us, args] of entries) {
    const { name } = describeCommand(args.map((arg) => Buffer.from(arg)));
    found.set(name, Math.max(found.get(name) ?? 0, us));
  }
  return found;
}
