import { makeCalendlyApi } from '../../../src/lib/providers/calendly/api.js';
import { inspectSubscriptions, listVisible, WEBHOOK_PATH } from '../../../src/lib/providers/calendly/subscriptions.js';
import { CALL_TIMEOUT_MS, type Check, type DoctorContext, describeFailure, type Found, ok, warning } from './check.js';
import { inspectSilence } from './silence.js';

/** Key, subscription and the last sign of life. */
export const calendly: Check = {
  name: 'calendly',
  needsRedis: false,
  async run(context, signal) {
    const { signingKeys } = context.config.calendly;
    const key =
      signingKeys.length > 0
        ? ok(`${signingKeys.length === 1 ? 'A signing key is' : `${signingKeys.length} signing keys are`} set`)
        : warning(
            'No CALENDLY_SIGNING_KEY: nothing proves that a webhook is from Calendly',
            'choose a key (openssl rand -hex 32), set it, and subscribe anew: npm run -s gvi -- calendly subscribe',
          );
    return [key, ...(await inspectSubscription(context, signal).catch((error) => [describeFailure(error)]))];
  },
};

/** Apart from the rest, as it asks Redis and not Calendly. */
export const calendlySilence: Check = {
  name: 'calendly',
  needsRedis: true,
  run: async (context) => [
    await inspectSilence(context, {
      ...{ stream: 'events:calendly', source: 'Calendly' },
      fix: 'npm run -s gvi -- calendly status says whether the subscription is active; make a test booking',
    }),
  ],
};

async function inspectSubscription({ config, calendlyApiUrl }: DoctorContext, signal: AbortSignal): Promise<Found[]> {
  const { apiToken } = config.calendly;
  if (apiToken === undefined) {
    return [
      warning(
        'No CALENDLY_API_TOKEN: whether the subscription is active cannot be seen, and Calendly disables it in silence after 24 hours of failures',
        'make a personal access token at calendly.com/integrations/api_webhooks and set it',
      ),
    ];
  }
  const api = makeCalendlyApi({ token: apiToken, apiUrl: calendlyApiUrl, timeoutMs: CALL_TIMEOUT_MS });
  const visible = await listVisible(api, await api.readAccount(signal), signal);
  const ownUrl = config.baseUrl === undefined ? undefined : `${config.baseUrl}${WEBHOOK_PATH}`;
  const findings = inspectSubscriptions(visible, { ownUrl, now: Date.now() });
  return findings.length > 0 ? findings : [ok('The subscription is active')];
}
