/** A Redis, and workers that events may crash: each test on keys of its own. */
import { makeKeys } from '../../src/lib/keys.js';
import { startRedis } from './redis-server.js';
import { appendWebhook, booking, readStream } from './worker.js';
import { startWorkerProcess, type WorkerProcess } from './worker-process.js';

export type CrashBench = Awaited<ReturnType<typeof startCrashBench>>;

export async function startCrashBench() {
  const server = await startRedis({ args: ['--enable-debug-command', 'yes'] });
  const redis = server.connect();
  const running: { stop: () => Promise<void> }[] = [];
  let tests = 0;
  let keys = makeKeys('t0:');
  return {
    server,
    redis,
    keys: () => keys,
    /** Before each test: nothing of the one before is seen any more. */
    startAnew() {
      tests += 1;
      keys = makeKeys(`t${tests}:`);
    },
    /** A process of `worker-script.ts`. */
    run(options: { env?: Record<string, string>; isSupervised?: boolean } = {}): WorkerProcess {
      const started = startWorkerProcess({ redisUrl: server.url, keyPrefix: keys.prefix, ...options });
      running.push(started);
      return started;
    },
    /** Stopped after the test. */
    keep<T extends { stop: () => Promise<void> }>(worker: T): T {
      running.push(worker);
      return worker;
    },
    stopWorkers: async () => {
      await Promise.all(running.splice(0).map((worker) => worker.stop()));
    },
    stop: () => server.stop(),
    add: (name: string) =>
      appendWebhook(
        { redis, keys },
        { type: 'calendly.invitee.created', key: `calendly:invitee.created:${name}`, body: booking(name) },
      ),
    enriched: () => readStream({ redis, keys }, 'events:enriched'),
    failed: () => readStream({ redis, keys }, 'events:failed'),
    /** How often a handler has begun, with this event or with any. */
    countStarts: async (name?: string) =>
      (await redis.lrange(`${keys.prefix}starts`, 0, -1)).filter((started) => name === undefined || started === name)
        .length,
  };
}
