import { type Check, ok, warning } from './check.js';
import { inspectSilence } from './silence.js';

/** Read.ai has no API that tells of a webhook: what is set and the last sign of life must do. */
export const readai: Check = {
  name: 'readai',
  needsRedis: false,
  run({ config }) {
    const { signingKeys, sharedSecret } = config.readai;
    if (signingKeys.length > 0) return [ok('A signing key is set')];
    if (sharedSecret !== undefined) return [ok("A shared secret is set, for a relay: Read.ai itself can't send it")];
    return [
      warning(
        'Neither READAI_SIGNING_KEY nor READAI_SHARED_SECRET: nothing proves that a report is from Read.ai',
        'set the key that Read.ai shows beside the webhook; a webhook older than March 2026 has none: make it anew',
      ),
    ];
  },
};

export const readaiSilence: Check = {
  name: 'readai',
  needsRedis: true,
  run: async (context) => [
    await inspectSilence(context, {
      ...{ stream: 'events:readai', source: 'Read.ai' },
      fix: 'see app.read.ai/analytics/integrations/webhooks: after 25 failures in a row it is Stopped, and must be started by hand',
    }),
  ],
};
