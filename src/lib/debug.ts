/** What `/debug/*` answers and `gvi` prints. */
import { readFileSync } from 'node:fs';
import { type Chain, type IdemState, makeChains } from './chain.js';
import type { Config } from './config.js';
import type { Keys } from './keys.js';
import { readOverview } from './overview.js';
import type { RedisClient } from './redis.js';

export const VERSION: string = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;

export function makeDebugQueries({ redis, keys, config }: { redis: RedisClient; keys: Keys; config: Config }) {
  const chains = makeChains({ redis, keys });
  return {
    info: async () => ({
      version: VERSION,
      settings: describeSettings(config),
      ...(await readOverview({ redis, keys })),
    }),
    event: (eventId: string): Promise<Chain | undefined> => chains.findChain(eventId),
    idem: (key: string): Promise<IdemState> => chains.findIdem(key),
  };
}

/** The settings in force; of a secret only whether it is set. */
export function describeSettings(config: Config) {
  const { calendly, readai, zoho, gemini, slack, spool, dashboardTokens, redisUrl, ...plain } = config;
  return {
    ...plain,
    redis: redisUrl.replace(/\/\/[^@/]*@/, '//***@'),
    calendly: {
      signingKeys: calendly.signingKeys.length,
      toleranceS: calendly.toleranceS,
      apiToken: calendly.apiToken !== undefined,
    },
    readai: { signingKeys: readai.signingKeys.length, sharedSecret: readai.sharedSecret !== undefined },
    zoho: { ...zoho, credentials: zoho.credentials !== undefined },
    gemini: gemini === undefined ? null : { model: gemini.model, baseUrl: gemini.baseUrl ?? null },
    slack: slack === undefined ? null : { channel: slack.channel, apiUrl: slack.apiUrl ?? null },
    spool: spool ?? null,
    dashboardUsers: dashboardTokens.map(({ name }) => name),
  };
}
