/** A worker process: the consumer groups named by `--group`, or all of them. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { makeAlertState } from '../lib/alert-state.js';
import { parseWorkerArgs, UsageError } from '../lib/command-line.js';
import { type Config, ConfigError, loadConfig } from '../lib/config.js';
import { endOnCrash, endOnSignal } from '../lib/crash.js';
import { countDryRuns, dryRunsCommand } from '../lib/dry-runs.js';
import { onEndSignals } from '../lib/end-signals.js';
import { type Keys, makeKeys } from '../lib/keys.js';
import { makeLeadLedger } from '../lib/lead-ledger.js';
import { describeError, makeLogger } from '../lib/logger.js';
import { makeProviderLimits, type ProviderLimits } from '../lib/provider-limits.js';
import { makeGemini } from '../lib/providers/gemini/gemini.js';
import { makeSlack } from '../lib/providers/slack/slack.js';
import { makeZoho } from '../lib/providers/zoho/crm.js';
import { makeFieldCache } from '../lib/providers/zoho/field-cache.js';
import { connectRedis, type RedisClient } from '../lib/redis.js';
import { watchRedis } from '../lib/redis-watch.js';
import { type Retention, startRetention } from '../lib/retention.js';
import { eventLoopBoundMs, guardEventLoop } from '../lib/runtime/event-loop-guard.js';
import { within } from '../lib/runtime/within.js';
import { startWorker, type Worker } from '../lib/runtime/worker.js';
import { serveWorker } from '../lib/worker-http.js';
import { projections } from '../projections/index.js';
import { makeReadLeads } from '../projections/leads.js';
import { makeFieldMap } from './crm-sync/field-map.js';
import { makeConsumers } from './index.js';

const GEMINI_TIMEOUT_MS = 120_000;
/** An event that is alone is its own probe: with the one that hangs and the next, Zoho's return is noticed within 15 s. */
const ZOHO_TIMEOUT_MS = 12_000;
const SLACK_TIMEOUT_MS = 10_000;
const RETENTION_END_MS = 700;
/** A worker that is ended while it starts may wait so long for Redis. */
const START_END_MS = 1_000;

async function main(): Promise<void> {
  const releaseSignals = endOnSignal();
  const { groups, concurrency } = parseWorkerArgs(process.argv.slice(2));
  const config = loadConfig();
  const log = makeLogger({
    level: config.logLevel,
    name: 'worker',
    readable: process.stdout.isTTY && !config.isProduction,
  });
  endOnCrash((err) => log.fatal({ err }, 'ends by an error that nothing caught'));
  let tellRuns: (worker: Worker) => void = () => {};
  const running = new Promise<Worker>((resolve) => {
    tellRuns = resolve;
  });
  // Before anything is taken in hand, as the port may be another's.
  if (config.workerPort !== undefined) await serveWorker(running, config.workerPort);
  const redis = connectRedis({ url: config.redisUrl, role: 'worker', log });
  const keys = makeKeys(config.keyPrefix);
  const watch = await watchRedis({ redis, keys, config, log });
  const limits = makeProviderLimits({ redis, keys, owner: makeOwner() });
  const consumers = makeConsumers(makeDeps(config, redis, limits, log)).filter(({ name }) => groups.includes(name));
  guardEventLoop(eventLoopBoundMs(config.work.visibilityTimeoutMs));
  const onDead = () => process.exit(1);
  const starting = startWorker({ config, redis, keys, consumers, projections, concurrency, log, onDead }).then(
    (worker) => ({
      worker,
      retention: startRetention({ redis, keys, projections, retentionMs: config.retentionMs, log }),
    }),
  );
  // Not later: a worker takes entries while it starts.
  stopOnSignals(starting, log);
  releaseSignals();
  const { worker } = await starting;
  watch.addMetrics(worker.metrics.registry);
  limits.addMetrics(worker.metrics.registry);
  tellRuns(worker);
  log.info({ groups, worker: worker.name, dryRun: config.dryRun, port: config.workerPort }, 'worker runs');
  tellWhatIsMissing(config, log);
  // It works already: that nobody is told is no reason to end.
  if (!config.dryRun)
    await tellDryRuns(redis, keys, log).catch((err) => log.warn({ err }, 'could not look for events of a dry run'));
}

/** The first signal ends the worker as its grace allows, a second one at once. */
function stopOnSignals(starting: Promise<{ worker: Worker; retention: Retention }>, log: Logger): void {
  onEndSignals(async (signal, count) => {
    const isFirst = count === 1;
    if (count > 2) process.exit(1);
    log.info({ signal }, isFirst ? 'worker stops' : 'worker stops at once');
    // Redis may be away: nothing but the worker's own bounds is waited for.
    if (!(await within(START_END_MS, starting))) process.exit(1);
    const { worker, retention } = await starting;
    const trimmed = within(RETENTION_END_MS, retention.stop());
    await (isFirst ? Promise.all([worker.stop(), trimmed]) : worker.stopNow());
    process.exit(isFirst ? 0 : 1);
  });
}

function makeDeps(config: Config, redis: RedisClient, { gates }: ProviderLimits, log: Logger) {
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
          gate: gates.zoho,
        });
  return {
    config,
    gemini:
      geminiSettings === undefined
        ? undefined
        : makeGemini({ ...geminiSettings, timeoutMs: GEMINI_TIMEOUT_MS, gate: gates.gemini }),
    crm: {
      zoho,
      dryRun: config.dryRun,
      log,
      ledger: makeLeadLedger({
        redis,
        keys,
        owner: makeOwner(),
        leaseMs: config.work.visibilityTimeoutMs,
      }),
      readLeads: makeReadLeads({ redis, keys }),
      readFields: zoho === undefined ? async () => undefined : makeFieldCache(zoho, log),
      fieldMap: makeFieldMap(zohoSettings.fieldMap),
    },
    alert: {
      slack:
        slackSettings === undefined
          ? undefined
          : makeSlack({ ...slackSettings, timeoutMs: SLACK_TIMEOUT_MS, gate: gates.slack }),
      internalDomains: config.internalDomains,
      ...makeAlertState({ redis, keys }),
    },
  };
}

/** Names this process in leases and shares: a process id alone may be another machine's too. */
function makeOwner(): string {
  return `${process.pid}-${randomBytes(6).toString('base64url')}`;
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
  if (count === 0) return;
  const found = { events: count, since, command: dryRunsCommand(since) };
  log.warn(found, 'events of a dry run are not in the CRM; the command writes them');
}

main().catch((error: unknown) => {
  const isForPeople = error instanceof ConfigError || error instanceof UsageError;
  process.stderr.write(`${isForPeople ? error.message : describeError(error).stack}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
