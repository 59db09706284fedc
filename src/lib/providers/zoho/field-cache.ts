/** The organisation's fields, asked for seldom: they change when an administrator changes them. */
import type { Logger } from 'pino';
import { NotYetError, OutageError } from '../../errors.js';
import { withDeadline } from '../deadline.js';
import type { FieldMetadata, Zoho } from './crm.js';

const FRESH_MS = 600_000;
/** Zoho would not tell: asked again sooner, as somebody may have given it the right to. */
const UNKNOWN_MS = 60_000;
const TIMEOUT_MS = 5_000;
/** So often leads wait for Zoho to tell after all: without its fields a new one may be written over another one. */
const WAITS_MAX = 5;
const WAIT_MS = 1_000;
const NEVER = new AbortController().signal;

/**
 * Reads the fields through a cache of ten minutes; `undefined` while Zoho does not tell. What was known stays in use while
 * it is asked again, so only the first caller waits. Throws `OutageError`, or `NotYetError` for a moment, where Zoho can't tell
 * just now.
 */
export function makeFieldCache(
  zoho: Pick<Zoho, 'leadFields'>,
  log: Pick<Logger, 'warn'>,
): () => Promise<readonly FieldMetadata[] | undefined> {
  let known: readonly FieldMetadata[] | undefined;
  let askAgainAtMs = 0;
  let failures = 0;
  let failure: unknown;
  let asking: Promise<void> | undefined;

  async function ask(): Promise<void> {
    try {
      const fields = await withDeadline({ signal: NEVER, timeoutMs: TIMEOUT_MS }, (signal) =>
        zoho.leadFields({ signal }),
      );
      if (!fields && !known) log.warn("Zoho does not tell the leads' fields: the standard lengths hold");
      askAgainAtMs = Date.now() + (fields ? FRESH_MS : UNKNOWN_MS);
      known = fields ?? known;
      failures = 0;
    } catch (error) {
      failure = error;
      failures += 1;
      // Where nothing is known Zoho is asked before each write, so that it is known from its return on.
      if (known) askAgainAtMs = Date.now() + UNKNOWN_MS;
    } finally {
      asking = undefined;
    }
  }

  return async () => {
    if (Date.now() < askAgainAtMs) return known;
    asking ??= ask();
    if (!known) await asking;
    if (!known && failures > 0 && failures <= WAITS_MAX) {
      if (failure instanceof OutageError) throw failure;
      throw new NotYetError("Zoho can't tell the leads' fields just now", { delayMs: WAIT_MS });
    }
    return known;
  };
}
