import { type Check, type Found, ok, problem, warning } from './check.js';

/** What the settings say by themselves. */
export const settings: Check = {
  name: 'settings',
  needsRedis: false,
  run({ config }) {
    const { isProduction, dryRun, internalDomains, allowDebug, dashboardTokens } = config;
    const found: Found[] = [...inspectVerification(config)];
    if (dryRun) found.push(warning('DRY_RUN is on: nothing is written to the CRM', 'DRY_RUN=false writes'));
    if (internalDomains.length === 0) {
      found.push(
        warning(
          "INTERNAL_DOMAINS is empty: colleagues are told by the host's domain and the meeting's owner alone, and others become leads",
          'set INTERNAL_DOMAINS to your own mail domains',
        ),
      );
    }
    if (allowDebug && dashboardTokens.length === 0) {
      found.push(
        warning(
          isProduction
            ? 'ALLOW_DEBUG_ENDPOINTS is on without DASHBOARD_TOKEN: in production they answer nobody'
            : 'ALLOW_DEBUG_ENDPOINTS is on without DASHBOARD_TOKEN: everybody on this machine may read the events',
          'set DASHBOARD_TOKEN, or ALLOW_DEBUG_ENDPOINTS=false',
        ),
      );
    }
    return found.length > 0 ? found : [ok('Nothing is amiss')];
  },
};

const SOURCES = [
  { source: 'Calendly', key: 'CALENDLY_SIGNING_KEY' },
  { source: 'Read.ai', key: 'READAI_SIGNING_KEY (or READAI_SHARED_SECRET)' },
] as const;

/** Outside production unverified webhooks are the rule; the checks of the sources tell of them. */
function inspectVerification({
  isProduction,
  allowUnverified,
  calendly,
  readai,
}: Parameters<Check['run']>[0]['config']): Found[] {
  if (!isProduction) return [];
  const hasKey = {
    Calendly: calendly.signingKeys.length > 0,
    'Read.ai': readai.signingKeys.length > 0 || readai.sharedSecret !== undefined,
  };
  return SOURCES.filter(({ source }) => !hasKey[source]).map(({ source, key }) =>
    allowUnverified
      ? warning(
          `ALLOW_UNVERIFIED_WEBHOOKS is on and ${source} has no key: whoever knows the address can make leads`,
          `set ${key}`,
        )
      : problem(`${source} has no key: in production ingest refuses to start`, `set ${key}`),
  );
}
