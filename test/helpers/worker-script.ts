/**
 * A worker process whose events say themselves what they do to it, by the end of their key: `exit` ends it, `loop` hangs it,
 * `slow` takes `SLOW_MS`, `calls` makes two calls to `OUTSIDE_URL`, `asked` ends it as soon as it is asked what it needs. All
 * else is enriched at once. Each start of a handler is told in the list `starts`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { parseConfig } from '../../src/lib/config.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis } from '../../src/lib/redis.js';
import { guardEventLoop } from '../../src/lib/runtime/event-loop-guard.js';
import { startWorker } from '../../src/lib/runtime/worker.js';

const config = parseConfig(process.env);
const keys = makeKeys(config.keyPrefix);
const redis = connectRedis({ url: config.redisUrl, role: 'worker' });
const { SLOW_MS = '1000', OUTSIDE_URL = '', GUARD_MS } = process.env;

const effects: Record<string, (signal: AbortSignal) => Promise<unknown> | unknown> = {
  exit: () => process.exit(7),
  loop() {
    for (;;);
  },
  slow: (signal) => sleep(Number(SLOW_MS), undefined, { signal }),
  async calls(signal) {
    for (const name of ['first', 'second']) {
      await fetch(`${OUTSIDE_URL}/${name}/${process.pid}`, { signal });
    }
  },
};

const nameOf = ({ key }: { key: string }) => key.split(':').at(-1) ?? '';

const enrich = defineConsumer({
  name: 'enrich',
  on: ['calendly.invitee.created'],
  emits: ['lead.enriched'],
  needs(event) {
    if (nameOf(event) === 'asked') process.exit(7);
    return [];
  },
  async handle(event, { signal }) {
    const name = nameOf(event);
    await redis.rpush(`${config.keyPrefix}starts`, name);
    await effects[name.replace(/[-\d]+$/, '')]?.(signal);
    return [
      {
        type: 'lead.enriched' as const,
        data: { kind: 'booked' as const, happenedAt: event.data.created_at, facts: {} },
      },
    ];
  },
});

if (GUARD_MS !== undefined) guardEventLoop(Number(GUARD_MS));
async function start(): Promise<void> {
  await startWorker({
    ...{ config, redis, keys, consumers: [enrich], projections: [], concurrency: undefined },
    log: pino({ level: process.env.LOG_LEVEL ?? 'silent' }),
  });
  process.stdout.write('ready\n');
}

void start();
