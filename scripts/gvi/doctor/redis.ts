import { inspectRedis } from '../../../src/lib/redis-checks.js';
import { readFacts } from '../../../src/lib/redis-facts.js';
import type { Check } from './check.js';

/** The server: what it can do, what it keeps, and what an answer of 2xx is therefore worth. */
export const redis: Check = {
  name: 'redis',
  needsRedis: true,
  async run({ redis: client, config, keys }) {
    const toleranceMs = config.calendly.toleranceS * 1000;
    const findings = inspectRedis(await readFacts(client, keys), { ...config, toleranceMs });
    return findings.map(({ isRefused: _, ...found }) => found);
  },
};
