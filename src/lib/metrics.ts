/** Prometheus metrics. Labels name groups, streams, sources and outcomes; never a person. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Provider } from './errors.js';
import type { GroupName } from './events.js';
import type { Reading } from './provider-gate.js';

export type SettledOutcome = 'done' | 'failed' | 'parked' | 'waiting';

export type WorkerMetrics = {
  settled: (group: GroupName, outcome: SettledOutcome, ms: number) => void;
  /** No heartbeat of the group came through for as long as claims hold: the process, the link or Redis stood still. */
  stalled: (group: GroupName) => void;
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
  const stalls = new Counter({
    name: 'gvi_worker_stalls_total',
    help: 'Times that this worker could not say in time that it is alive, and let go of what it held',
    labelNames: ['group'],
    registers: [registry],
  });
  return {
    registry,
    stalled: (group) => stalls.inc({ group }),
    settled(group, outcome, ms) {
      settled.inc({ group, outcome });
      seconds.observe({ group }, ms / 1000);
    },
  };
}

/** The providers' limits as this worker last heard of them, and its calls that run or wait. */
export function addLimitMetrics(registry: Registry, gates: Readonly<Record<Provider, { read: () => Reading }>>): void {
  const readings = () => Object.entries(gates).map(([provider, gate]) => ({ provider, ...gate.read() }));
  const add = (name: string, help: string, pick: (reading: Reading) => number | undefined) =>
    new Gauge({
      name,
      help,
      labelNames: ['provider'],
      registers: [registry],
      collect() {
        for (const { provider, ...reading } of readings()) {
          const value = pick(reading);
          if (value !== undefined) this.set({ provider }, value);
        }
      },
    });
  add(
    'gvi_provider_limit_concurrency',
    'Calls at once that all workers together may make',
    ({ limit }) => limit?.running,
  );
  add(
    'gvi_provider_limit_per_second',
    'Calls a second that all workers together may make',
    ({ limit }) => limit?.perSecond,
  );
  add('gvi_provider_calls_running', 'Calls of this worker that run', ({ running }) => running);
  add('gvi_provider_calls_waiting', 'Calls of this worker that wait for the limit', ({ waiting }) => waiting);
}
