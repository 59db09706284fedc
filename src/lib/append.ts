/**
 * Takes webhooks into the streams: once each, whatever is sent twice or at once. All of it is decided in one script
 * (`scripts/append.lua`), which is safe to send again when its reply is lost.
 */
import { createHash, randomBytes } from 'node:crypto';
import { catalogue } from './events.js';
import { makeKeys } from './keys.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type SourceName = 'calendly' | 'readai';

type WebhookType = keyof typeof catalogue & `${SourceName}.${string}`;

/** A webhook that the pipeline will work on. */
export type WebhookEvent = {
  kind: 'event';
  source: SourceName;
  type: WebhookType;
  /** The idempotency key; of a meeting that of its first revision. */
  key: string;
  /** `shortHash` of what counts as the content: other content under the same key is not the same delivery again. */
  contentHash: string;
  /** What becomes of other content under a known key: kept as `webhook.rejected`, or taken in as a new revision. */
  otherContent: 'kept' | 'revision';
  /** The sender's own id of this delivery, where it has one. */
  requestId: string | undefined;
  /** Stored byte for byte. */
  data: Buffer;
};

/** An authentic body that cannot be used as it is. */
export type RejectedWebhook = {
  kind: 'rejected';
  source: SourceName;
  reason: 'invalid_payload' | 'invalid_json';
  /** Stored byte for byte; it need not be JSON, nor UTF-8. */
  body: Buffer;
};

export type AppendAnswer =
  | { status: 'accepted'; eventId: string; idempotencyKey: string }
  /** `eventId` is the current try's, null where only the mark of an earlier system is known. */
  | { status: 'duplicate'; eventId: string | null; idempotencyKey: string; changed?: true }
  | { status: 'quarantined'; eventId: string; idempotencyKey: string };

/**
 * Rejects with `StoreUnavailableError`, and never hangs. Called again with the same `delivery` it makes no second entry, even
 * where the event has failed meanwhile, for which another delivery is a new try.
 */
export type Append = (webhook: WebhookEvent | RejectedWebhook, delivery?: string) => Promise<AppendAnswer>;

/** Redis did not take the webhook, or did not say so in time; sending it again is safe. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}

export type AppendOptions = {
  redis: RedisClient;
  keyPrefix: string;
  /** How long `idem:seen` lives. */
  idempotencyTtlS: number;
  /** The whole append settles within this time. */
  timeoutMs?: number;
};

/** A webhook is answered within a second also when Redis is gone. */
const TIMEOUT_MS = 800;

export function makeAppend({ redis, keyPrefix, idempotencyTtlS, timeoutMs = TIMEOUT_MS }: AppendOptions): Append {
  const run = loadScript(redis, 'append');
  const keys = makeKeys(keyPrefix);
  const rejectedStream = keys.stream(catalogue['webhook.rejected'].stream);

  const guardsOf = (key: string) => [keys.idemSeen(key), keys.idemProcessed(key), keys.progress(key)];

  function call(webhook: WebhookEvent | RejectedWebhook, delivery: string): Promise<unknown> {
    if (webhook.kind === 'rejected') {
      const { source, reason, body } = webhook;
      const key = rejectedKey(source, body);
      const { version } = catalogue['webhook.rejected'];
      return run(
        [rejectedStream, ...guardsOf(key)],
        ['once', idempotencyTtlS, 'rejected', 'webhook.rejected', key, version, body, '', source, reason],
      );
    }
    const { source, type, key, contentHash, otherContent, requestId, data } = webhook;
    const { stream, version, readBy } = catalogue[type];
    const eventKeys = [keys.stream(stream), ...guardsOf(key)];
    const streamName = stream.slice('events:'.length);
    const common = [idempotencyTtlS, streamName, type, key, version, data, contentHash, delivery, readBy[0]];
    if (otherContent === 'revision') {
      const requestHash = requestId === undefined ? '' : shortHash(requestId);
      return run([...eventKeys, keys.requests(key)], ['revisions', ...common, requestHash]);
    }
    const keptKey = rejectedKey(source, data);
    return run(
      [...eventKeys, rejectedStream, keys.idemSeen(keptKey), keys.progress(keptKey)],
      ['unchanged', ...common, source, keptKey, catalogue['webhook.rejected'].version],
    );
  }

  return async (webhook, delivery = nameDelivery()) => {
    const reply = await withDeadline(call(webhook, delivery), timeoutMs);
    const [status, eventId, idempotencyKey, changed] = reply as [string, string, string, string];
    if (status === 'duplicate') {
      return { status, eventId: eventId || null, idempotencyKey, ...(changed ? { changed: true } : {}) };
    }
    return { status: webhook.kind === 'rejected' ? 'quarantined' : 'accepted', eventId, idempotencyKey };
  };
}

/** Tells a delivery from others of the same event: 8 characters of base64url, as it stands in each entry. */
export function nameDelivery(): string {
  return randomBytes(6).toString('base64url');
}

/** The name of a delivery that is only asked about: its answer is what would become of an event, and nothing changes. */
export const ONLY_ASKED = '';

/** 22 characters of base64url: the first 16 bytes of the SHA-256. Enough to tell contents apart, short enough to keep. */
export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest().subarray(0, 16).toString('base64url');
}

/** The idempotency key; of a meeting that of its first revision. */
export function keyOf(webhook: WebhookEvent | RejectedWebhook): string {
  return webhook.kind === 'event' ? webhook.key : rejectedKey(webhook.source, webhook.body);
}

function rejectedKey(source: SourceName, body: Buffer): string {
  return `rejected:${source}:${createHash('sha256').update(body).digest('hex')}`;
}

async function withDeadline(reply: Promise<unknown>, timeoutMs: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no reply within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([reply, overdue]);
  } catch (cause) {
    throw new StoreUnavailableError('Redis did not take the webhook', { cause });
  } finally {
    clearTimeout(timer);
  }
}
