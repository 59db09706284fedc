/** Looks at the Redis that a process is given: once before it works, and every minute while it does. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Gauge, type Registry } from 'prom-client';
import { type Config, ConfigError } from './config.js';
import type { Keys } from './keys.js';
import type { RedisClient } from './redis.js';
import {
  describeMemory,
  findDangers,
  inspectRedis,
  judgeMemory,
  type MemoryLevel,
  type RedisFinding,
} from './redis-checks.js';
import { judgeRedisError } from './redis-errors.js';
import { type RedisFacts, type RedisHealth, readFacts, readHealth } from './redis-facts.js';
import { describeRefusal, type RedisRefusal, sayRefusal } from './redis-refusal.js';

export type RedisWatch = {
  /** `gvi_redis_unsafe` and `gvi_redis_memory_used_ratio`. */
  addMetrics: (registry: Registry) => void;
  stop: () => void;
};

export type WatchOptions = {
  redis: RedisClient;
  keys: Keys;
  config: Pick<Config, 'isProduction' | 'redisUrl' | 'keyPrefix' | 'calendly'>;
  log: Logger;
  /** A process that can do something without Redis starts after this. Otherwise it waits. */
  waitMs?: number;
  /** This Redis came after the start, and is not to be worked on: the process is to end. */
  onRefused?: () => void;
  /** Called when its memory becomes scarce, and every hour while it is. */
  whileMemoryIsScarce?: () => Promise<void>;
  everyMs?: number;
};

const EVERY_MS = 60_000;
const RETRY_MS = 100;
const LOOKS_IN_AN_HOUR = 60;
const LEVELS: readonly MemoryLevel[] = ['fine', 'scarce', 'full'];
const DANGERS = { eviction: 'it drops keys when memory is full', disk: 'it cannot write to its disk' } as const;

/** Throws `ConfigError` when this Redis is not to be worked on, or refuses us. */
export async function watchRedis(options: WatchOptions): Promise<RedisWatch> {
  const { redis, keys, log, waitMs, onRefused, whileMemoryIsScarce = async () => {}, everyMs = EVERY_MS } = options;
  const stopping = new AbortController();
  let health: RedisHealth | undefined;
  let dangers = '';
  let memory: MemoryLevel = 'fine';
  let looksSinceCalled = 0;
  let isStarting = true;
  let isLooking = false;

  const looking = lookAtFirst().catch((error: unknown) => {
    if (isStarting) throw error;
    if (error instanceof ConfigError) {
      log.fatal(error.message);
      onRefused?.();
    } else {
      log.error({ err: error }, 'could not look at redis');
    }
  });
  await (waitMs === undefined ? looking : Promise.race([looking, sleep(waitMs, undefined, { ref: false })]));
  isStarting = false;
  const timer = setInterval(() => void lookAgain(), everyMs).unref();

  return {
    addMetrics: (registry) => addGauges(registry, () => health),
    stop() {
      clearInterval(timer);
      stopping.abort();
    },
  };

  async function lookAtFirst(): Promise<void> {
    const facts = await readWhenThere();
    if (facts === undefined) return;
    const findings = inspectRedis(facts, { ...options.config, toleranceMs: options.config.calendly.toleranceS * 1000 });
    const refusals = findings.filter(({ isRefused }) => isRefused);
    if (refusals.length > 0) throw new ConfigError(sayFindings(refusals));
    for (const finding of findings) report(finding);
    take(facts);
    await callAboutMemory({ isNews: true });
  }

  /** `undefined` when the process stops first. Who cannot do without Redis waits for a master. */
  async function readWhenThere(): Promise<RedisFacts | undefined> {
    let told = '';
    const tell = (text: string) => {
      if (told !== text) log.error(text);
      told = text;
    };
    const lastRefusal = noteRefusals(redis);
    while (!stopping.signal.aborted) {
      try {
        const facts = await readFacts(redis, keys);
        if (facts.role === 'master' || waitMs !== undefined) return facts;
        tell('redis is a replica, which takes no writes; waiting for a master');
      } catch (error) {
        const fault = judgeRedisError(error);
        if (fault === undefined || fault.kind === 'ours') throw error;
        const refusal = describeRefusal(error) ?? lastRefusal();
        if (refusal !== undefined) {
          if (waitMs === undefined || refusal.isOfDb) throw new ConfigError(sayRefusal(refusal));
          tell(sayRefusal(refusal));
        }
      }
      await sleep(RETRY_MS, undefined, { signal: stopping.signal }).catch(() => {});
    }
    return undefined;
  }

  /** Each once, the sentence on what a 2xx is worth always. */
  function report({ level, finding, fix }: RedisFinding): void {
    if (level === 'ok') {
      if (finding.includes('2xx')) log.info(`redis: ${finding}`);
    } else {
      log[level === 'problem' ? 'error' : 'warn'](`redis: ${finding} → ${fix}`);
    }
  }

  async function lookAgain(): Promise<void> {
    if (isLooking) return;
    isLooking = true;
    const found = await readHealth(redis, keys).catch(() => undefined);
    if (found !== undefined) {
      const before = { dangers, memory };
      take(found);
      if (dangers !== before.dangers) reportDangers();
      if (memory !== before.memory) reportMemory(found);
      await callAboutMemory({ isNews: LEVELS.indexOf(memory) > LEVELS.indexOf(before.memory) });
    }
    isLooking = false;
  }

  function take(found: RedisHealth): void {
    health = found;
    memory = judgeMemory(found, memory);
    dangers = findDangers(found)
      .map((danger) => DANGERS[danger])
      .join(', ');
  }

  function reportDangers(): void {
    if (dangers === '') log.info('redis keeps what it takes again');
    else log.error(`redis may lose events: ${dangers}`);
  }

  function reportMemory(found: RedisHealth): void {
    if (memory === 'fine') log.info('redis has room in its memory again');
    else report(describeMemory(found, memory));
  }

  async function callAboutMemory({ isNews }: { isNews: boolean }): Promise<void> {
    looksSinceCalled += 1;
    if (memory === 'fine' || !(isNews || looksSinceCalled >= LOOKS_IN_AN_HOUR)) return;
    await whileMemoryIsScarce().then(
      () => {
        looksSinceCalled = 0;
      },
      () => {
        // At the next look.
        looksSinceCalled = LOOKS_IN_AN_HOUR;
      },
    );
  }
}

/** Why Redis turns the connection away; of what it is sent a client without a queue says only that there is none. */
function noteRefusals(redis: RedisClient): () => RedisRefusal | undefined {
  let last: RedisRefusal | undefined;
  redis.on('error', (error: unknown) => {
    last = describeRefusal(error);
  });
  redis.on('ready', () => {
    last = undefined;
  });
  return () => last;
}

function sayFindings(refusals: readonly RedisFinding[]): string {
  const lines = refusals.map(({ finding, fix }) => `  ${finding}; ${fix}`);
  return `This Redis cannot be used:\n${lines.join('\n')}`;
}

function addGauges(registry: Registry, health: () => RedisHealth | undefined): void {
  new Gauge({
    name: 'gvi_redis_unsafe',
    help: '1 while Redis may lose what it took, by the reason',
    labelNames: ['reason'],
    registers: [registry],
    collect() {
      const found = health();
      const dangers = found === undefined ? [] : findDangers(found);
      for (const reason of ['eviction', 'disk'] as const) this.set({ reason }, dangers.includes(reason) ? 1 : 0);
    },
  });
  new Gauge({
    name: 'gvi_redis_memory_used_ratio',
    help: "Memory in use as a share of Redis' limit, 0 where there is none; at 1 ingest answers 503 or spools",
    registers: [registry],
    collect() {
      const { usedBytes = 0, limitBytes = 0 } = health() ?? {};
      this.set(limitBytes === 0 ? 0 : usedBytes / limitBytes);
    },
  });
}
