/** Ingest's own figures. Labels name sources and outcomes; never a person. */
import { Counter, Histogram, Registry } from 'prom-client';

export type IngestMetrics = {
  registry: Registry;
  /** `status` is what was answered, as in `accepted`, or the error's code. */
  received: (source: string, status: string, ms: number) => void;
};

export function makeIngestMetrics(): IngestMetrics {
  const registry = new Registry();
  const total = new Counter({
    name: 'gvi_ingest_webhooks_total',
    help: 'Webhooks answered, by what was answered',
    labelNames: ['source', 'status'],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: 'gvi_ingest_webhook_seconds',
    help: 'Time from the head of a webhook to its answer',
    labelNames: ['source'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [registry],
  });
  return {
    registry,
    received(source, status, ms) {
      total.inc({ source, status });
      seconds.observe({ source }, ms / 1000);
    },
  };
}
