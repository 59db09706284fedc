/** What `/debug/*` answers and `gvi` prints. */
import { readFileSync } from 'node:fs';
import { type Chain, type IdemState, makeChains } from './chain.js';
import type { Config } from './config.js';
import type { Keys } from './keys.js';
import { type CountFailed, readOverview } from './overview.js';
import { readProjectionLags } from './projection-lag.js';
import type { Projection } from './projector.js';
import type { RedisClient } from './redis.js';

export const VERSION: string = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;

export function makeDebugQueries({
  redis,
  keys,
  config,
  projections = [],
  countFailed,
}: {
  redis: RedisClient;
  keys: Keys;
  config: Config;
  projections?: readonly Projection[];
  /** As `readOverview` takes it. */
  countFailed?: CountFailed;
}) {
  const chains = makeChains({ redis, keys });
  return {
    info: async () => ({
      version: VERSION,
      settings: describeSettings(config),
      ...(await readOverview({ redis, keys, countFailed })),
      projections: await readProjectionLags({ redis, keys, projections }),
    }),
    event: (eventId: string): Promise<Chain | undefined> => chains.findChain(eventId),
    idem: (key: string): Promise<IdemState> => chains.findIdem(key),
  };
}

/**
 * The settings in force; of a secret only whether it is set. What is not listed here is shown where it is a number or yes
 * or no: a new setting that holds text may be a secret, and stays hidden until somebody says that it is none.
 */
export function describeSettings(config: Config) {
  const { calendly, readai, zoho, gemini, slack, spool, dashboardTokens, redisUrl, baseUrl, ...rest } = config;
  const { keyPrefix, logLevel, internalDomains, work } = config;
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => ['number', 'boolean'].includes(typeof value))),
    ...{ keyPrefix, logLevel, internalDomains, work },
    baseUrl: baseUrl === undefined ? null : withoutCredentials(baseUrl),
    redis: withoutCredentials(redisUrl),
    calendly: {
      signingKeys: calendly.signingKeys.length,
      toleranceS: calendly.toleranceS,
      apiToken: calendly.apiToken !== undefined,
    },
    readai: { signingKeys: readai.signingKeys.length, sharedSecret: readai.sharedSecret !== undefined },
    zoho: {
      dataCentre: zoho.dataCentre,
      accountsUrl: withoutCredentials(zoho.accountsUrl),
      apiUrl: withoutCredentials(zoho.apiUrl),
      apiUrlIsFixed: zoho.apiUrlIsFixed,
      fieldMap: zoho.fieldMap,
      credentials: zoho.credentials !== undefined,
    },
    gemini: gemini === undefined ? null : { model: gemini.model, baseUrl: urlOrNull(gemini.baseUrl) },
    slack: slack === undefined ? null : { channel: slack.channel, apiUrl: urlOrNull(slack.apiUrl) },
    spool: spool ?? null,
    dashboardUsers: dashboardTokens.map(({ name }) => name),
  };
}

function urlOrNull(url: string | undefined): string | null {
  return url === undefined ? null : withoutCredentials(url);
}

/** Without user, password and query: all up to the last `@`, as a password may hold any character. */
function withoutCredentials(url: string): string {
  return url.replace(/\/\/.*@/, '//***@').replace(/\?.*$/s, '?***');
}
