/** What was sent and what came back: the checker's side of the story, kept outside of the system under test. */
import type { Delivery } from './stories.js';

export type Answer = { status: string; eventId?: string | null; idempotencyKey?: string; spoolId?: string };

/** `ok`: 2xx. `fail`: certainly not taken in (4xx, refused). `unknown`: it may have been (5xx, cut, no answer). */
export type Outcome = {
  kind: 'ok' | 'fail' | 'unknown';
  status?: number;
  answer?: Answer;
  error?: string;
  /** ms since 1970, and how long it took. */
  at: number;
  ms: number;
  ingest: string;
};

export type Sent = { delivery: Delivery; outcome: Outcome };

export type History = {
  sent: readonly Sent[];
  add: (sent: Sent) => void;
  /** By idempotency key; of a meeting that of its first revision. */
  byKey: () => Map<string, Sent[]>;
  count: (kind: Outcome['kind']) => number;
};

export function makeHistory(): History {
  const sent: Sent[] = [];
  return {
    sent,
    add: (one) => void sent.push(one),
    byKey: () => groupBy(sent, ({ delivery }) => delivery.key),
    count: (kind) => sent.filter(({ outcome }) => outcome.kind === kind).length,
  };
}

/** The answer promised that this very body is worked on; a duplicate was known before. */
export function isAccepted({ outcome }: Sent): boolean {
  return outcome.kind === 'ok' && outcome.answer?.status !== 'duplicate' && outcome.answer?.status !== 'quarantined';
}

/** The answer promised that it is on disk, and goes to Redis later. */
export function isSpooled({ outcome }: Sent): boolean {
  return outcome.answer?.status === 'spooled';
}

export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
