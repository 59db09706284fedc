/** A worker process: some consumer groups and the projector, on three kinds of connection, started and stopped together. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Config } from '../config.js';
import type { Consumer } from '../consumer.js';
import type { Keys } from '../keys.js';
import { makeWorkerMetrics, type WorkerMetrics } from '../metrics.js';
import { type Projection, startProjector } from '../projector.js';
import { connectRedis, type RedisClient } from '../redis.js';
import type { DelivererOptions, WorkPolicy } from './deliverer.js';
import { type GroupRunner, runGroup } from './group-runner.js';
import { makeGroupStore } from './group-store.js';
import { makeProviderHealth } from './provider-health.js';
import { makeSettler } from './settler.js';

export type Worker = {
  name: string;
  metrics: WorkerMetrics;
  /** False once a read loop has not come round for long: ready but dead. */
  isAlive: () => boolean;
  /** Resolves when everything is settled or handed back and the connections are closed. */
  stop: () => Promise<void>;
};

/** Calls at once for a consumer that takes one event at a time, and for one that takes batches. */
const PARALLEL_SINGLE = 32;
const PARALLEL_BATCH = 2;
const LOOP_DEAD_MS = 15_000;

export async function startWorker(options: {
  config: Config;
  redis: RedisClient;
  keys: Keys;
  consumers: readonly Consumer[];
  projections: readonly Projection[];
  /** Overrides how many calls run at once in each group. */
  concurrency: number | undefined;
  log: Logger;
}): Promise<Worker> {
  const { config, redis, keys, log } = options;
  const name = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  const metrics = makeWorkerMetrics();
  const ending = new AbortController();
  const policy: WorkPolicy = { ...config.work, idempotencyTtlS: config.idempotencyTtlS };
  const health = makeProviderHealth({
    redis,
    keys,
    probeBaseMs: Math.max(200, Math.min(config.work.retryBaseMs, 2_000)),
    log,
  });
  let clockOffsetMs = 0;
  const now = () => Date.now() + clockOffsetMs;

  const blockingConnections: RedisClient[] = [];
  const runners: GroupRunner[] = [];
  const stores = options.consumers.map((consumer) => {
    const blocking = connectRedis({ url: config.redisUrl, role: 'blocking' });
    blockingConnections.push(blocking);
    return makeGroupStore({ redis, blocking, keys, group: consumer.name, consumer: name, now });
  });
  for (const store of stores) await store.ensureGroups();
  await health.refresh();

  for (const [index, consumer] of options.consumers.entries()) {
    const store = stores[index]!;
    const settler = makeSettler({ redis, keys, group: consumer.name, consumer: name, log, signal: ending.signal });
    const deliverer: Omit<DelivererOptions, 'onFree' | 'store' | 'health' | 'policy' | 'log'> = {
      ...{ consumer, settler, keys, metrics, now },
      parallelMax: options.concurrency ?? ('handleBatch' in consumer ? PARALLEL_BATCH : PARALLEL_SINGLE),
    };
    const onTime = (redisNow: number) => {
      clockOffsetMs = redisNow - Date.now();
    };
    runners.push(runGroup({ store, deliverer, health, policy, log, onTime }));
  }
  const projector = startProjector({ redis, keys, projections: options.projections, owner: name, log });

  return {
    name,
    metrics,
    isAlive: () => runners.every((runner) => Date.now() - runner.lastLoopAt() < LOOP_DEAD_MS),
    async stop() {
      await Promise.all([...runners.map((runner) => runner.stop()), projector.stop()]);
      ending.abort();
      await Promise.all(stores.map((store) => store.leave().catch(() => {})));
      for (const connection of blockingConnections) connection.disconnect();
    },
  };
}
