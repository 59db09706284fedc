/** The consumers. Adding one takes its file and a line here. */
import type { Config } from '../lib/config.js';
import type { Consumer } from '../lib/consumer.js';
import { type AlertOptions, makeAlert } from './alert.js';
import { type CrmSyncOptions, makeCrmSync } from './crm-sync.js';
import { type EnrichOptions, makeEnrich } from './enrich.js';
import { makeSummarize } from './summarize.js';

export type ConsumerDeps = {
  config: Config;
  gemini: EnrichOptions['gemini'];
  crm: CrmSyncOptions;
  alert: AlertOptions;
};

export function makeConsumers({ config: { internalDomains }, gemini, crm, alert }: ConsumerDeps): Consumer[] {
  return [
    makeEnrich({ gemini, internalDomains }),
    makeSummarize({ gemini, internalDomains }),
    makeCrmSync(crm),
    makeAlert(alert),
  ];
}
