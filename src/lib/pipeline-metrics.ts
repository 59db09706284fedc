/**
 * The pipeline as Prometheus sees it: streams, groups, projections, pauses. Read from Redis when asked, at most once a
 * second.
 */
import { Gauge, type Registry } from 'prom-client';
import type { Overview } from './overview.js';
import type { ProjectionLag } from './projection-lag.js';

const FRESH_MS = 1_000;

type PipelineState = Overview & { projections?: Record<string, ProjectionLag> };

/** Registers the gauges. Await what it returns before a scrape: it brings them up to date. */
export function addPipelineMetrics(registry: Registry, read: () => Promise<PipelineState>): () => Promise<void> {
  const registers = [registry];
  const group = (name: string, help: string) => new Gauge({ name, help, labelNames: ['group'], registers });
  const projection = (name: string, help: string) => new Gauge({ name, help, labelNames: ['projection'], registers });
  const gauges = {
    lag: group('gvi_group_lag', 'Entries not yet handed out'),
    pending: group('gvi_group_pending', 'Entries handed out and not settled'),
    parked: group('gvi_group_parked', 'Entries waiting for a retry or for a provider'),
    failed: group('gvi_group_failed', 'Events that stand failed'),
    oldestAge: group('gvi_group_oldest_age_seconds', 'Age of the oldest entry that is not done'),
    projectionLag: projection('gvi_projection_lag', 'Entries not yet folded into the projection'),
    projectionLagSeconds: projection(
      'gvi_projection_lag_seconds',
      'Age of the oldest entry that is not folded into the projection',
    ),
    length: new Gauge({ name: 'gvi_stream_length', help: 'Entries in the stream', labelNames: ['stream'], registers }),
    paused: new Gauge({
      name: 'gvi_provider_paused',
      help: '1 while a provider is paused',
      labelNames: ['provider', 'kind'],
      registers,
    }),
    abandoned: new Gauge({
      name: 'gvi_group_abandoned_entries',
      help: 'Entries that a group which nobody serves keeps from being trimmed',
      labelNames: ['stream', 'group'],
      registers,
    }),
    up: new Gauge({ name: 'gvi_redis_up', help: '1 when Redis answered for this scrape', registers }),
  };
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;

  return async () => {
    if (performance.now() - readAt < FRESH_MS) return;
    reading ??= refresh().finally(() => {
      reading = undefined;
    });
    await reading;
  };

  async function refresh(): Promise<void> {
    const overview = await read().catch(() => undefined);
    readAt = performance.now();
    gauges.up.set(overview === undefined ? 0 : 1);
    gauges.paused.reset();
    gauges.abandoned.reset();
    for (const [name, state] of Object.entries(overview?.groups ?? {})) {
      gauges.lag.set({ group: name }, state.lag);
      gauges.pending.set({ group: name }, state.pending);
      gauges.parked.set({ group: name }, state.parked);
      gauges.failed.set({ group: name }, state.failed);
      gauges.oldestAge.set({ group: name }, state.oldestAgeMs / 1000);
    }
    for (const [name, { lag, lagMs }] of Object.entries(overview?.projections ?? {})) {
      gauges.projectionLag.set({ projection: name }, lag);
      gauges.projectionLagSeconds.set({ projection: name }, lagMs / 1000);
    }
    for (const [stream, { length }] of Object.entries(overview?.streams ?? {})) gauges.length.set({ stream }, length);
    for (const { stream, group: name, pending, backlog, parked } of overview?.abandoned ?? []) {
      gauges.abandoned.set({ stream, group: name }, pending + backlog + parked);
    }
    for (const { provider, kind } of overview?.pauses ?? []) gauges.paused.set({ provider, kind }, 1);
  }
}
