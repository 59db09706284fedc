/** Prometheus metrics. Labels name groups, streams, sources and outcomes; never a person. */
import { Counter, Histogram, Registry } from 'prom-client';
import type { GroupName } from './events.js';

export type SettledOutcome = 'done' | 'failed' | 'parked' | 'waiting';

export type WorkerMetrics = {
  settled: (group: GroupName, outcome: SettledOutcome, ms: number) => void;
  registry: Registry;
};

/** A worker's own figures, for its `WORKER_PORT`. */
export function makeWorkerMetrics(): WorkerMetrics {
  const registry = new Registry();
  const settled = new Counter({
    name: 'gvi_worker_settled_total',
    help: 'Entries settled by this worker, by outcome',
    labelNames: ['group', 'outcome'],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: 'gvi_worker_handle_seconds',
    help: 'Time that a consumer took for an entry or a batch',
    labelNames: ['group'],
    buckets: [0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
    registers: [registry],
  });
  return {
    registry,
    settled(group, outcome, ms) {
      settled.inc({ group, outcome });
      seconds.observe({ group }, ms / 1000);
    },
  };
}
