/** A worker process: some consumer groups and the projector, on three kinds of connection, started and stopped together. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Counter } from 'prom-client';
import type { Config } from '../config.js';
import type { Consumer } from '../consumer.js';
import type { Keys } from '../keys.js';
import { makeWorkerMetrics, type WorkerMetrics } from '../metrics.js';
import { type Projection, startProjector } from '../projector.js';
import { connectRedis, type RedisClient, replaceLinks } from '../redis.js';
import { judgeRedisError } from '../redis-errors.js';
import { type Bell, makeBell } from './bell.js';
import type { WorkPolicy } from './deliverer.js';
import { type GroupRunner, type Reaping, runGroup } from './group-runner.js';
import { makeGroupStore } from './group-store.js';
import { type GroupUpkeep, makeGroupUpkeep } from './group-upkeep.js';
import { makeIsolation } from './isolation.js';
import { type LoopBounds, watchLoops } from './loop-watchdog.js';
import { makeProviderHealth } from './provider-health.js';
import { makeSettler } from './settler.js';
import { within } from './within.js';

export type Worker = {
  name: string;
  metrics: WorkerMetrics;
  /** False once a read loop has not come round for long although Redis answers: ready but dead. */
  isAlive: () => boolean;
  /** Resolves when everything is settled or handed back and the connections are closed; within a second of the grace. */
  stop: () => Promise<void>;
  /** Hands back all that is held, if Redis takes it in a moment, and settles nothing more. */
  stopNow: () => Promise<void>;
};

export type WorkerOptions = {
  config: Config;
  redis: RedisClient;
  keys: Keys;
  consumers: readonly Consumer[];
  projections: readonly Projection[];
  /** Overrides how many calls run at once in each group. */
  concurrency: number | undefined;
  log: Logger;
  /** The read loop is dead and nothing has helped: the process is to end. */
  onDead?: () => void;
  /** For tests. */
  bounds?: Partial<LoopBounds & { reaping: Reaping }>;
};

/** Calls at once for a consumer that takes one event at a time, and for one that takes batches. */
const PARALLEL_SINGLE = 32;
const PARALLEL_BATCH = 2;
const LOOP_BOUNDS: LoopBounds = { reconnectMs: 8_000, deadMs: 15_000, endMs: 20_000 };
/** A dead worker's consumer goes when it holds nothing, after so many visibility timeouts. */
const REAP_AFTER_TIMEOUTS = 5;
const REAP_MS_MIN = 5_000;
const PROJECTOR_END_MS = 700;
/** After the grace: to abort, to hand back and to leave the groups. */
const END_MS = 1_000;
const LEAVE_MS_MIN = 200;
const START_RETRY_MS = 250;

export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { config, redis, keys, log, bounds = {} } = options;
  const name = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  const metrics = makeWorkerMetrics();
  const repairs = countRepairs(metrics);
  const ending = new AbortController();
  const isolation = makeIsolation();
  const { visibilityTimeoutMs, attemptsMax, retryBaseMs } = config.work;
  const policy: WorkPolicy = { ...config.work, idempotencyTtlS: config.idempotencyTtlS };
  const health = makeProviderHealth({ redis, keys, probeBaseMs: Math.max(200, Math.min(retryBaseMs, 2_000)), log });
  const reapMs = Math.max(REAP_AFTER_TIMEOUTS * visibilityTimeoutMs, REAP_MS_MIN);
  // The host's clock may be set at any time: it is asked once, until Redis' time is known.
  let redisAheadMs = Date.now() - performance.now();
  const now = () => Math.round(performance.now() + redisAheadMs);
  const onTime = (redisNow: number) => {
    redisAheadMs = redisNow - performance.now();
  };

  const groups = options.consumers.map((consumer) => {
    const common = { redis, keys, group: consumer.name, consumer: name };
    const upkeep = makeGroupUpkeep(common);
    const repair = () => makeGroup(upkeep, consumer.name, { wasHere: true });
    return { consumer, common, upkeep, repair };
  });
  for (const { upkeep, consumer } of groups) await untilTaken(() => makeGroup(upkeep, consumer.name));
  await untilTaken(() => health.refresh(0));

  const bells: Bell[] = [];
  const runners = groups.map(({ consumer, common, upkeep, repair }): GroupRunner => {
    const bell = makeBell({ connect: () => connectRedis({ url: config.redisUrl, role: 'blocking' }), keys });
    bells.push(bell);
    const store = makeGroupStore({ ...common, now, visibilityTimeoutMs, crashesMax: attemptsMax });
    const settler = makeSettler({ ...common, log, repair, signal: ending.signal });
    const parallelMax = options.concurrency ?? ('handleBatch' in consumer ? PARALLEL_BATCH : PARALLEL_SINGLE);
    return runGroup({
      ...{ store, upkeep, bell, health, policy, log, repair, onTime },
      deliverer: { consumer, settler, isolation, keys, metrics, now, parallelMax },
      reaping: bounds.reaping ?? { everyMs: reapMs, idleMs: reapMs },
    });
  });
  for (const runner of runners) await untilTaken(() => runner.start());
  const projector = startProjector({ redis, keys, projections: options.projections, owner: name, log });

  // What had no answer is sent again, so what its first reply handed out is not known here.
  const onReady = () => {
    for (const runner of runners) runner.reconnected();
  };
  for (const event of ['ready', '+node']) redis.on(event, onReady);
  const watchdog = watchLoops({
    lastLoopAt: () => runners.map((runner) => runner.lastLoopAt()),
    probe: () => askRedis(config.redisUrl, keys),
    reconnect() {
      for (const bell of bells) bell.replace();
      replaceLinks(redis);
    },
    onDead: options.onDead ?? (() => {}),
    bounds: { ...LOOP_BOUNDS, ...bounds },
    log,
  });

  return {
    name,
    metrics,
    isAlive: watchdog.isAlive,
    async stop() {
      const endAt = performance.now() + policy.shutdownGraceMs + END_MS;
      watchdog.stop();
      const projected = within(PROJECTOR_END_MS, projector.stop());
      await Promise.all([...runners.map((runner) => runner.stop()), projected]);
      await leave(endAt - performance.now());
    },
    async stopNow() {
      watchdog.stop();
      ending.abort();
      await Promise.all(runners.map((runner) => runner.stopNow()));
      await leave(LEAVE_MS_MIN);
    },
  };

  async function leave(ms: number): Promise<void> {
    ending.abort();
    // Not before: who is still at work in one group must be taken for dead in none.
    for (const runner of runners) runner.beNoMore();
    for (const event of ['ready', '+node']) redis.off(event, onReady);
    await within(Math.max(LEAVE_MS_MIN, ms), Promise.all(groups.map(({ upkeep }) => upkeep.leave().catch(() => {}))));
  }

  /** What Redis cannot take for now, as its disk is full or a replica is missing, is waited for as later on, too. */
  async function untilTaken(work: () => Promise<void>): Promise<void> {
    for (let isTold = false; ; isTold = true) {
      try {
        return await work();
      } catch (error) {
        const fault = judgeRedisError(error);
        if (fault === undefined || fault.kind === 'ours' || fault.kind === 'configuration') throw error;
        if (!isTold) log.error({ code: fault.code }, 'redis takes no writes; waiting until it does');
        await sleep(START_RETRY_MS);
      }
    }
  }

  async function makeGroup(upkeep: GroupUpkeep, group: string, { wasHere = false } = {}): Promise<void> {
    for (const { stream, from, wasThere } of await upkeep.ensureGroups()) {
      if (!wasThere && !wasHere) continue;
      repairs.inc({ group });
      log.error({ group, stream, from }, 'group was gone; created again from there');
    }
  }
}

function countRepairs({ registry }: WorkerMetrics): Counter<'group'> {
  return new Counter({
    name: 'gvi_worker_group_repairs_total',
    help: 'How often this worker found a consumer group gone and made it again',
    labelNames: ['group'],
    registers: [registry],
  });
}

/** Throws where Redis does not answer. By a script, as the loops do: while writes are paused, as for a failover, PING is answered. */
async function askRedis(url: string, keys: Keys): Promise<void> {
  const client = connectRedis({ url, role: 'tool' });
  try {
    await client.eval('return 1', 1, keys.readiness());
  } finally {
    client.disconnect();
  }
}
