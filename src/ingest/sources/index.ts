/** The sources of webhooks. To add one: a file beside this, and a line below. */

import { makeCalendly } from './calendly.js';
import type { CalendlyCheck } from './calendly-signature.js';
import { makeReadai } from './readai.js';
import type { ReadaiCheck } from './readai-signature.js';
import type { Source } from './source.js';

export type SourceSettings = {
  calendly: CalendlyCheck;
  readai: ReadaiCheck;
  /** People of these domains are colleagues. */
  internalDomains: readonly string[];
};

export function makeSources({ calendly, readai, internalDomains }: SourceSettings): Source[] {
  return [makeCalendly(calendly), makeReadai({ ...readai, internalDomains })];
}
