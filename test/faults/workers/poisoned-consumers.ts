/**
 * The service's consumers, which do what an address tells them before they do their work: `exit.enrich.1@…` ends the process
 * as soon as `enrich` has it. What throws is one event's own failure, as it is of the real ones. What is deadly is told in a
 * last line, so that it is known what each process died of.
 */
import { writeSync } from 'node:fs';
import { type ConsumerDeps, makeConsumers as makeRealConsumers } from '../../../src/consumers/index.js';
import type { AnyBatchConsumer, Consumer, Delivery, Outcome } from '../../../src/lib/consumer.js';

const POISON = /\b(throw|exit|memory|stack|loop)\.(enrich|summarize|crm-sync)\.[^@"]*@/;
const DEADLY = new Set(['exit', 'memory', 'loop']);
const CHUNK_BYTES = 8_000_000;

export function makeConsumers(deps: ConsumerDeps): Consumer[] {
  return makeRealConsumers(deps).map(poison);
}

function poison(consumer: Consumer): Consumer {
  if ('handleBatch' in consumer) return { ...consumer, handleBatch: poisonBatch(consumer) };
  return {
    ...consumer,
    handle(event, context) {
      act(consumer.name, event.data);
      return consumer.handle(event, context);
    },
  };
}

function poisonBatch({ name, handleBatch }: AnyBatchConsumer): AnyBatchConsumer['handleBatch'] {
  return async (deliveries, context) => {
    const refused = new Map<Delivery, Outcome>();
    for (const delivery of deliveries) {
      try {
        act(name, delivery.event.data);
      } catch (error) {
        refused.set(delivery, { error });
      }
    }
    const good = deliveries.filter((delivery) => !refused.has(delivery));
    const outcomes = good.length === 0 ? [] : await handleBatch(good, context);
    return deliveries.map((delivery) => refused.get(delivery) ?? outcomes[good.indexOf(delivery)]!);
  };
}

const ACTS: Record<string, () => void> = {
  throw() {
    throw new Error('Poison');
  },
  exit: () => process.exit(7),
  memory() {
    const hoard: unknown[] = [];
    for (;;) hoard.push(new Array(CHUNK_BYTES / 8).fill(hoard.length));
  },
  stack: () => descend(0),
  loop() {
    for (;;);
  },
};

function act(group: string, data: unknown): void {
  const [, what = '', where] = POISON.exec(JSON.stringify(data)) ?? [];
  if (where !== group) return;
  if (DEADLY.has(what)) tell(`poisoned by ${what}.${where}`);
  ACTS[what]!();
}

/** Not by way of an event loop that will not come round again. */
function tell(msg: string): void {
  writeSync(1, `${JSON.stringify({ level: 30, time: Date.now(), pid: process.pid, msg })}\n`);
}

function descend(depth: number): void {
  descend(depth + 1);
  descend(depth + 2);
}
