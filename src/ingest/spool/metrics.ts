/** The spool as Prometheus sees it. */
import { Gauge, type Registry } from 'prom-client';
import type { Spool } from './spool.js';

export function addSpoolMetrics(registry: Registry, spool: Pick<Spool, 'figures'>): void {
  const addGauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  addGauge('gvi_spool_records', 'Webhooks on disk that Redis does not have yet', () => spool.figures().records);
  addGauge('gvi_spool_bytes', 'Bytes of the spool on disk, what was set aside included', () => spool.figures().bytes);
  addGauge('gvi_spool_unreadable', 'Files set aside, as nobody could append or read them', () => {
    return spool.figures().unreadable;
  });
  addGauge('gvi_spool_oldest_age_seconds', 'Age of the oldest webhook on disk', () => {
    const { oldestAtMs } = spool.figures();
    return oldestAtMs === undefined ? 0 : Math.max(0, Date.now() - oldestAtMs) / 1000;
  });
}
