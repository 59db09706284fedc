/** The whole pipeline in this process: ingest's append, real consumers, real clients, stand-ins for the providers. */
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { makeFieldMap } from '../../src/consumers/crm-sync/field-map.js';
import { makeConsumers } from '../../src/consumers/index.js';
import { makeSources } from '../../src/ingest/sources/index.js';
import { makeAlertState } from '../../src/lib/alert-state.js';
import { type Append, makeAppend } from '../../src/lib/append.js';
import { type Chain, makeChains } from '../../src/lib/chain.js';
import { type Config, parseConfig } from '../../src/lib/config.js';
import { makeKeys } from '../../src/lib/keys.js';
import { makeLeadLedger } from '../../src/lib/lead-ledger.js';
import { makeProviderLimits } from '../../src/lib/provider-limits.js';
import { makeGemini } from '../../src/lib/providers/gemini/gemini.js';
import { makeZoho } from '../../src/lib/providers/zoho/crm.js';
import { makeFieldCache } from '../../src/lib/providers/zoho/field-cache.js';
import { connectRedis } from '../../src/lib/redis.js';
import { startWorker } from '../../src/lib/runtime/worker.js';
import { projections } from '../../src/projections/index.js';
import { makeReadLeads } from '../../src/projections/leads.js';
import type { ZohoStandin } from '../standins/zoho.js';
import { waitFor } from './wait-for.js';
import { shortTimes } from './worker.js';

const log = pino({ level: process.env.TEST_LOG ?? 'silent' });

export type Pipeline = Awaited<ReturnType<typeof startPipeline>>;

export async function startPipeline(options: {
  redisUrl: string;
  keyPrefix: string;
  zoho?: ZohoStandin;
  geminiUrl?: string;
  env?: Record<string, string>;
  /** How many workers [1]. */
  workers?: number;
}) {
  const { zoho } = options;
  const config = parseConfig({
    ...shortTimes,
    ...{ REDIS_URL: options.redisUrl, KEY_PREFIX: options.keyPrefix, INTERNAL_DOMAINS: 'vendor.example' },
    ...(zoho === undefined
      ? {}
      : {
          ...{ ZOHO_ACCOUNTS_URL: zoho.url, ZOHO_API_URL: zoho.url, ZOHO_CLIENT_ID: zoho.credentials.clientId },
          ...{ ZOHO_CLIENT_SECRET: zoho.credentials.clientSecret, ZOHO_REFRESH_TOKEN: zoho.credentials.refreshToken },
        }),
    ...(options.geminiUrl === undefined ? {} : { GEMINI_API_KEY: 'test-key', GEMINI_BASE_URL: options.geminiUrl }),
    ...options.env,
  });
  const keys = makeKeys(config.keyPrefix);
  const redis = connectRedis({ url: config.redisUrl, role: 'tool' });
  const append = makeAppend({ ...config, redis, timeoutMs: 5_000 });
  const parts = await Promise.all(Array.from({ length: options.workers ?? 1 }, (_, index) => startOne(config, index)));
  const chains = makeChains({ redis, keys });

  return {
    redis,
    keys,
    /** Takes a webhook in as ingest would; resolves to the event id. */
    async send(source: 'calendly' | 'readai', body: unknown): Promise<string> {
      const answer = await take(config, append, source, body);
      if (answer === undefined || answer.eventId === null) throw new Error('not taken in');
      return answer.eventId;
    },
    /** Waits until the pipeline is done with an event. */
    async finished(eventId: string): Promise<Chain> {
      return waitFor(`${eventId} to be done`, async () => {
        const chain = await chains.findChain(eventId);
        return (chain?.status === 'processed' || chain?.status === 'failed') && chain;
      });
    },
    async synced(eventId: string) {
      const chain = await this.finished(eventId);
      const last = chain.trail.findLast(({ type }) => type === 'lead.synced');
      const [entry] = await redis.xrange(keys.stream('events:synced'), last!.eventId.slice(7), last!.eventId.slice(7));
      return JSON.parse(entry![1][entry![1].indexOf('data') + 1]!);
    },
    async stop() {
      await Promise.all(parts.map((part) => part.stop()));
      redis.disconnect();
    },
  };
}

async function take(config: Config, append: Append, source: 'calendly' | 'readai', body: unknown) {
  const found = makeSources(config).find(({ name }) => name === source)!;
  const raw = Buffer.from(JSON.stringify(body));
  const reading = found.read(JSON.parse(raw.toString()), raw);
  return reading.kind === 'event' ? append(reading) : undefined;
}

async function startOne(config: Config, index: number) {
  const redis = connectRedis({ url: config.redisUrl, role: 'worker' });
  const keys = makeKeys(config.keyPrefix);
  const { credentials } = config.zoho;
  const { gates } = makeProviderLimits({ redis, keys, owner: `w${index}` });
  const zoho =
    credentials &&
    makeZoho({
      ...config.zoho,
      ...credentials,
      redis,
      keyPrefix: config.keyPrefix,
      timeoutMs: 3_000,
      gate: gates.zoho,
    });
  const consumers = makeConsumers({
    config,
    gemini: config.gemini && makeGemini({ ...config.gemini, timeoutMs: 5_000, gate: gates.gemini }),
    crm: {
      zoho,
      dryRun: config.dryRun,
      log,
      ledger: makeLeadLedger({ redis, keys, owner: `w${index}`, leaseMs: config.work.visibilityTimeoutMs }),
      readLeads: makeReadLeads({ redis, keys }),
      readFields: zoho === undefined ? async () => undefined : makeFieldCache(zoho, log),
      fieldMap: makeFieldMap(config.zoho.fieldMap),
    },
    alert: { slack: undefined, ...makeAlertState({ redis, keys }) },
  });
  const worker = await startWorker({ config, redis, keys, consumers, projections, concurrency: undefined, log });
  return {
    async stop() {
      await worker.stop();
      redis.disconnect();
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a fixture is changed by tests at will
export function fixture(path: string): any {
  return JSON.parse(readFileSync(new URL(`../fixtures/${path}`, import.meta.url), 'utf8'));
}
