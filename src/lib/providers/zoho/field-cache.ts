/** The organisation's fields, asked for seldom: they change when an administrator changes them. */
import type { Logger } from 'pino';
import { withDeadline } from '../deadline.js';
import type { FieldMetadata, Zoho } from './crm.js';

const FRESH_MS = 600_000;
/** Zoho would not tell: asked again sooner, as it may have been down. */
const UNKNOWN_MS = 60_000;
const TIMEOUT_MS = 5_000;
const NEVER = new AbortController().signal;

/**
 * Reads the fields through a cache of ten minutes; `undefined` while Zoho does not tell. What was known stays in use while
 * it is asked again, so only the first caller waits.
 */
export function makeFieldCache(
  zoho: Pick<Zoho, 'leadFields'>,
  log: Pick<Logger, 'warn'>,
): () => Promise<readonly FieldMetadata[] | undefined> {
  let known: readonly FieldMetadata[] | undefined;
  let askAgainAtMs = 0;
  let asking: Promise<void> | undefined;

  async function ask(): Promise<void> {
    const fields = await withDeadline({ signal: NEVER, timeoutMs: TIMEOUT_MS }, (signal) =>
      zoho.leadFields({ signal }),
    ).catch(() => undefined);
    if (!fields && !known) log.warn("Zoho does not tell the leads' fields: the standard lengths hold");
    askAgainAtMs = Date.now() + (fields ? FRESH_MS : UNKNOWN_MS);
    known = fields ?? known;
    asking = undefined;
  }

  return async () => {
    if (Date.now() < askAgainAtMs) return known;
    asking ??= ask();
    if (!known) await asking;
    return known;
  };
}
