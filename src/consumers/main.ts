/** A worker process: the consumer groups named by `--group`, or all of them. */
import type { Logger } from 'pino';
import { makeAlertState } from '../lib/alert-state.js';
import { parseWorkerArgs, UsageError } from '../lib/command-line.js';
import { type Config, ConfigError, loadConfig } from '../lib/config.js';
import { countDryRuns } from '../lib/dry-runs.js';
import { type Keys, makeKeys } from '../lib/keys.js';
import { makeLeadLedger } from '../lib/lead-ledger.js';
import { makeLogger } from '../lib/logger.js';
import { makeGemini } from '../lib/providers/gemini/gemini.js';
import { makeSlack } from '../lib/providers/slack/slack.js';
import { makeZoho } from '../lib/providers/zoho/crm.js';
import { makeFieldCache } from '../lib/providers/zoho/field-cache.js';
import { connectRedis, type RedisClient } from '../lib/redis.js';
import { startWorker } from '../lib/runtime/worker.js';
import { serveWorker } from '../lib/worker-http.js';
import { projections } from '../projections/index.js';
import { makeReadLeads } from '../projections/leads.js';
import { makeFieldMap } from './crm-sync/field-map.js';
import { makeConsumers } from './index.js';

const GEMINI_TIMEOUT_MS = 120_000;
const ZOHO_TIMEOUT_MS = 15_000;
const SLACK_TIMEOUT_MS = 10_000;

async function main(): Promise<void> {
  const { groups, concurrency } = parseWorkerArgs(process.argv.slice(2));
  const config = loadConfig();
  const log = makeLogger({
    level: config.logLevel,
    name: 'worker',
    readable: process.stdout.isTTY && !config.isProduction,
  });
  const redis = connectRedis({ url: config.redisUrl, role: 'worker', log });
  const keys = makeKeys(config.keyPrefix);
  const consumers = makeConsumers(makeDeps(config, redis, log)).filter(({ name }) => groups.includes(name));
  const worker = await startWorker({ config, redis, keys, consumers, projections, concurrency, log });
  const serving = config.workerPort === undefined ? undefined : await serveWorker(worker, config.workerPort);
  log.info({ groups, worker: worker.name, dryRun: config.dryRun, port: config.workerPort }, 'worker runs');
  tellWhatIsMissing(config, log);
  if (!config.dryRun) await tellDryRuns(redis, keys, log);

  let isStopping = false;
  const stop = async (signal: string) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    log.info({ signal }, 'worker stops');
    await worker.stop();
    await serving?.stop();
    redis.disconnect();
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function makeDeps(config: Config, redis: RedisClient, log: Logger) {
  const keys = makeKeys(config.keyPrefix);
  const { zoho: zohoSettings, slack: slackSettings, gemini: geminiSettings } = config;
  const zoho =
    zohoSettings.credentials === undefined
      ? undefined
      : makeZoho({
          ...zohoSettings,
          ...zohoSettings.credentials,
          redis,
          keyPrefix: config.keyPrefix,
          timeoutMs: ZOHO_TIMEOUT_MS,
        });
  return {
    config,
    gemini: geminiSettings === undefined ? undefined : makeGemini({ ...geminiSettings, timeoutMs: GEMINI_TIMEOUT_MS }),
    crm: {
      zoho,
      dryRun: config.dryRun,
      log,
      ledger: makeLeadLedger({
        redis,
        keys,
        owner: `${process.pid}-${Date.now().toString(36)}`,
        leaseMs: config.work.visibilityTimeoutMs,
      }),
      readLeads: makeReadLeads({ redis, keys }),
      readFields: zoho === undefined ? async () => undefined : makeFieldCache(zoho, log),
      fieldMap: makeFieldMap(zohoSettings.fieldMap),
    },
    alert: {
      slack: slackSettings === undefined ? undefined : makeSlack({ ...slackSettings, timeoutMs: SLACK_TIMEOUT_MS }),
      internalDomains: config.internalDomains,
      ...makeAlertState({ redis, keys }),
    },
  };
}

function tellWhatIsMissing({ dryRun, zoho, gemini, slack, internalDomains }: Config, log: Logger): void {
  if (!dryRun && zoho.credentials === undefined)
    log.warn('no Zoho credentials: what is for the CRM waits until they are set');
  if (gemini === undefined) log.warn('no GEMINI_API_KEY: leads and meetings are not assessed by a model');
  if (slack === undefined) log.warn('no Slack settings: alerts go to the log');
  if (internalDomains.length === 0) log.warn('INTERNAL_DOMAINS is empty: colleagues are told by host and owner alone');
}

/** What a dry run has ended stays out of the CRM until somebody asks for it. */
async function tellDryRuns(redis: RedisClient, keys: Keys, log: Logger): Promise<void> {
  const { count, since } = await countDryRuns({ redis, keys });
  if (count > 0) log.warn({ events: count, since }, 'events of a dry run are not in the CRM');
}

main().catch((error: unknown) => {
  const isForPeople = error instanceof ConfigError || error instanceof UsageError;
  process.stderr.write(`${isForPeople ? error.message : String((error as Error).stack ?? error)}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
