/** Zoho CRM as the service uses it, over a stand-in and a Redis of its own: one of each for a test file, clean for each test. */
import type { Redis } from 'ioredis';
import type { Test } from 'uvu';
import { makeZoho, type Zoho, type ZohoOptions } from '../../src/lib/providers/zoho/crm.js';
import type { Call } from '../standins/http.js';
import { type ZohoOptions as StandinOptions, startZoho, type ZohoStandin } from '../standins/zoho.js';
import { startRedis, type TestRedis } from './redis-server.js';

export type ZohoSetting = {
  /** The stand-in of the running test; its search sees new leads only after `flushIndex`. */
  readonly standin: ZohoStandin;
  /** Replaces the stand-in by one with other options. */
  start: (options?: StandinOptions) => Promise<void>;
  connect: (overrides?: Partial<ZohoOptions>) => Zoho;
  crmCalls: () => Call[];
};

export function setUpZoho(test: Test): ZohoSetting {
  let server: TestRedis;
  let redis: Redis;
  let standin: ZohoStandin;

  async function start(options: StandinOptions = {}): Promise<void> {
    await standin?.stop();
    await redis.flushall();
    standin = await startZoho({ indexLagMs: 'manual', ...options });
  }

  test.before(async () => {
    server = await startRedis();
    redis = server.connect();
  });
  test.before.each(() => start());
  test.after.each(() => standin.stop());
  test.after(() => server.stop());

  return {
    get standin() {
      return standin;
    },
    start,
    connect(overrides = {}) {
      const urls = { accountsUrl: standin.url, apiUrl: standin.url, apiUrlIsFixed: true };
      return makeZoho({ ...urls, ...standin.credentials, redis, keyPrefix: 't:', timeoutMs: 30_000, ...overrides });
    },
    crmCalls: () => standin.calls.filter(({ path }) => path.startsWith('/crm/')),
  };
}

export const lead = (email: string, fields = {}) => ({ Last_Name: 'Byron', Company: 'Acme', Email: email, ...fields });

export const emailsOf = (count: number) => Array.from({ length: count }, (_, index) => `person${index}@acme.example`);
