/** The ingest process: webhooks in, events out. */
import { tellAbandonedGroups } from '../lib/abandoned-groups.js';
import { makeAppend } from '../lib/append.js';
import { type Config, ConfigError, loadConfig } from '../lib/config.js';
import { endOnCrash, endOnSignal } from '../lib/crash.js';
import { makeDebugQueries } from '../lib/debug.js';
import { onEndSignals } from '../lib/end-signals.js';
import { makeKeys } from '../lib/keys.js';
import { describeError, makeLogger } from '../lib/logger.js';
import { countOpenFailures } from '../lib/open-failures.js';
import { readOverview } from '../lib/overview.js';
import { addPipelineMetrics } from '../lib/pipeline-metrics.js';
import { readProjectionLags } from '../lib/projection-lag.js';
import { connectRedis } from '../lib/redis.js';
import { watchRedis } from '../lib/redis-watch.js';
import { within } from '../lib/runtime/within.js';
import { makeSeldom } from '../lib/seldom.js';
import { projections } from '../projections/index.js';
import { makeApp } from './app.js';
import { makeIngestMetrics } from './metrics.js';
import { makeReadiness } from './readiness.js';
import { keepRecent } from './recent.js';
import { serve } from './serve.js';
import { makeSources } from './sources/index.js';
import { addSpoolMetrics } from './spool/metrics.js';
import { openSpool } from './spool/spool.js';

const STOP_GRACE_MS = 5_000;
const SPOOL_END_MS = 2_000;
/** Longer than its connection waits for an answer. */
const DRAIN_TIMEOUT_MS = 10_000;
/** Without Redis webhooks are answered 503, or spooled; so there is something to do without it. */
const REDIS_WAIT_MS = 2_000;

async function main(): Promise<void> {
  const releaseSignals = endOnSignal();
  const config = loadConfig();
  const log = makeLogger({
    level: config.logLevel,
    name: 'ingest',
    readable: process.stdout.isTTY && !config.isProduction,
  });
  endOnCrash((err) => log.fatal({ err }, 'ends by an error that nothing caught'));
  const sources = makeSources(config);
  const unverifiable = sources.filter(({ isVerifiable }) => !isVerifiable);
  assertVerifiable(config, unverifiable);
  for (const { name, settings } of unverifiable) {
    log.warn({ source: name }, `its webhooks are not verified: set ${settings.join(' or ')}`);
  }

  const redis = connectRedis({ url: config.redisUrl, role: 'ingest', log });
  // What operators ask for must not stand in the way of a webhook.
  const queries = connectRedis({ url: config.redisUrl, role: 'queries' });
  const keys = makeKeys(config.keyPrefix);
  // For what no request waits for.
  const drainRedis = connectRedis({ url: config.redisUrl, role: 'drain' });
  const appendLater = makeAppend({ ...config, redis: drainRedis, timeoutMs: DRAIN_TIMEOUT_MS });
  const knownMs = config.idempotencyTtlS * 1_000;
  // Not later: until it knows which Redis that is, what was spooled waits.
  const recent = keepRecent({ redis, laterRedis: drainRedis, keys, append: appendLater, log, knownMs });
  const metrics = makeIngestMetrics();
  const watch = await watchRedis({
    ...{ redis: queries, keys, config, log, waitMs: REDIS_WAIT_MS },
    onRefused: () => process.exit(1),
    // With no worker running nobody else would.
    whileMemoryIsScarce: () => tellAbandonedGroups({ redis: queries, keys, log }),
  });
  watch.addMetrics(metrics.registry);
  const countFailed = makeSeldom(() => countOpenFailures({ redis: queries, keys }));
  const updateMetrics = addPipelineMetrics(metrics.registry, async () => ({
    ...(await readOverview({ redis: queries, keys, countFailed })),
    projections: await readProjectionLags({ redis: queries, keys, projections }),
  }));
  recent.addMetrics(metrics.registry);
  const append = recent.keeping(makeAppend({ ...config, redis }));
  const drainAppend = recent.keepingRepeats(appendLater);
  const spool = config.spool && (await openSpool({ ...config.spool, append, drainAppend, log }));
  if (spool) addSpoolMetrics(metrics.registry, spool);
  const app = makeApp({
    sources,
    append: spool?.takeIn ?? append,
    allowUnverified: config.allowUnverified,
    bodyBytesMax: config.bodyLimitBytes,
    metrics,
    metricsText: async () => {
      await updateMetrics();
      return metrics.registry.metrics();
    },
    ready: makeReadiness({ redis, keys, spool }),
    debug: config.allowDebug ? makeDebugQueries({ redis: queries, keys, config, projections, countFailed }) : undefined,
    access: { tokens: config.dashboardTokens, isProduction: config.isProduction },
    now: () => new Date(),
    log,
  });
  const serving = await serve(app.callback(), { port: config.port });
  log.info({ port: serving.port }, 'ingest listens');

  onEndSignals(async (signal, count) => {
    if (count > 1) process.exit(1);
    log.info({ signal }, 'ingest stops');
    await serving.stop(STOP_GRACE_MS);
    // A disk that hangs is not waited for: what is on it is drained at the next start.
    if (spool) await within(SPOOL_END_MS, spool.stop());
    watch.stop();
    recent.stop();
    redis.disconnect();
    queries.disconnect();
    drainRedis.disconnect();
    process.exit(0);
  });
  releaseSignals();
}

/** In production an open door has to be asked for by name. */
function assertVerifiable(
  { isProduction, allowUnverified }: Config,
  unverifiable: readonly { settings: readonly string[] }[],
): void {
  if (!isProduction || allowUnverified || unverifiable.length === 0) return;
  const missing = unverifiable.map(({ settings }) => `  ${settings.join(' or ')}: should be set in production`);
  throw new ConfigError(
    `Webhooks could not be verified:\n${missing.join('\n')}\nALLOW_UNVERIFIED_WEBHOOKS=true accepts them all the same.`,
  );
}

main().catch((error: unknown) => {
  const { code, message, stack } = describeError(error);
  process.stderr.write(`${error instanceof ConfigError ? error.message : code === undefined ? stack : message}\n`);
  process.exit(1);
});
