/**
 * The working keys around a CRM write: leases, so that two workers never write one lead at once, and intents, so that
 * after a crash between the write and its receipt the service still knows which values are its own.
 */
import { NotYetError } from './errors.js';
import type { LeadSynced } from './events.js';
import type { Keys } from './keys.js';
import type { LeadState } from './lead-state.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

type Wrote = NonNullable<LeadSynced['wrote']>[string];

/** What one event is about to write to a lead, or has written without a receipt. */
export type Intent = {
  /** Its `earlier` are tries that are known to have come to pass. */
  wrote: Wrote;
  notes?: NonNullable<LeadState['notes']>;
  /** The lead as it was before, so that it can be told later whether the write came to pass; absent where it was new. */
  before?: [modifiedTime: string, hash: string, leadId?: string];
};

/** By event id. */
export type Intents = Map<string, Intent>;

export type LeadLease = {
  /** Those of the leads that are held. */
  readonly emails: ReadonlySet<string>;
  /** Redis time in ms, of the last that were taken. */
  readonly takenAt: number;
  /** Takes those of further leads that are free. */
  add: (emails: readonly string[]) => Promise<void>;
  /** What is in doubt of each lead, kept up with `saveIntents`. */
  intentsOf: (email: string) => Intents;
  /** Aborted, with a `NotYetError`, when the lease can't be counted on any more: whatever runs must stop. */
  signal: AbortSignal;
  /** Throws `NotYetError` where the lease is lost or about to end: to be called right before each outside write. */
  assertHeld: () => void;
  /** Remembers what is about to be written, before it is; throws `NotYetError` where another worker may hold a lead. */
  saveIntents: (intents: ReadonlyMap<string, Intents>) => Promise<void>;
  /** `isCutOff`: a write may have been cut off, and still come to pass. Then the lease is kept until it runs out. */
  release: (options?: { isCutOff?: boolean }) => Promise<void>;
};

export type LeadLedger = {
  /** Leases those of the leads that are free; `release` when the write is over. Kept alive until then. */
  lease: (emails: readonly string[]) => Promise<LeadLease>;
  readIntents: (emails: readonly string[]) => Promise<Map<string, Intents>>;
  /** The receipts of these events stand in the stream: nothing of them is in doubt any more. */
  dropIntents: (settled: readonly (readonly [email: string, eventId: string])[]) => Promise<void>;
  /**
   * From when on Redis has forgotten nothing, as far as this worker knows; Redis time in ms. A connection that was made
   * anew may lead to a Redis that lost its last moments.
   */
  remembersSince: () => number;
};

/** A lost lease is noticed at least this soon. */
const KEEP_MS_MAX = 1_000;
/** A lease is taken for lost a little before it ends. */
const MARGIN_MS_MAX = 500;
const LOST_WAIT_MS = 250;

export function makeLeadLedger(options: {
  redis: RedisClient;
  keys: Keys;
  owner: string;
  leaseMs: number;
}): LeadLedger {
  const { redis, keys, owner, leaseMs } = options;
  const leaseScript = loadScript(redis, 'lease-leads');
  const saveScript = loadScript(redis, 'save-intents');
  const dropScript = loadScript(redis, 'drop-intents');
  let calls = 0;
  let rememberedSince: number | undefined;
  // `-node`: one of a cluster's, which may have been replaced by its replica.
  for (const event of ['ready', '-node']) {
    redis.on(event, () => {
      rememberedSince = undefined;
    });
  }

  return {
    async lease(emails) {
      calls += 1;
      const holder = `${owner}:${calls}`;
      const ask = async (verb: 'take' | 'keep' | 'release', wanted: readonly string[]) =>
        (await leaseScript([keys.leadLeases(), keys.intents()], [verb, holder, leaseMs, ...wanted])) as LeaseReply;
      const intents = new Map<string, Intents>();
      const held = new Set<string>();
      let takenAt = 0;
      const take = async (wanted: readonly string[]) => {
        const [now, taken, saved] = await ask('take', wanted);
        takenAt = now;
        for (const [index, email] of taken.entries()) {
          held.add(email);
          intents.set(email, parseIntents(saved[index]));
        }
      };
      const askedAt = performance.now();
      await take(emails);
      rememberedSince ??= takenAt;
      const hold = keepAlive({
        leaseMs,
        askedAt,
        keep: async () => {
          const asked = [...held];
          return (await ask('keep', asked))[1].length === asked.length;
        },
      });
      if (held.size === 0) hold.end();
      let mayHaveWritten = false;
      return {
        emails: held,
        get takenAt() {
          return takenAt;
        },
        add: (further) => take(further.filter((email) => !held.has(email))),
        intentsOf: (email) => intents.get(email) ?? new Map(),
        signal: hold.signal,
        assertHeld() {
          hold.assertHeld();
          mayHaveWritten = true;
        },
        async saveIntents(added) {
          if (added.size === 0) return;
          const lost = await saveScript([keys.leadLeases(), keys.intents()], [holder, ...flatten(added, intents)]);
          if ((lost as string[]).length > 0) hold.lose();
          hold.assertHeld();
          for (const [email, events] of added) intents.set(email, new Map([...(intents.get(email) ?? []), ...events]));
        },
        async release({ isCutOff = false } = {}) {
          hold.end();
          if (held.size === 0 || (isCutOff && mayHaveWritten)) return;
          // A lease that can't be given up ends by itself; what was written under it counts all the same.
          await ask('release', [...held]).catch(() => {});
        },
      };
    },

    async readIntents(emails) {
      if (emails.length === 0) return new Map();
      const saved = await redis.hmget(keys.intents(), ...emails);
      return new Map(emails.map((email, index) => [email, parseIntents(saved[index])]));
    },

    async dropIntents(settled) {
      if (settled.length > 0) await dropScript([keys.intents()], settled.flat());
    },

    remembersSince: () => rememberedSince ?? Number.POSITIVE_INFINITY,
  };
}

type LeaseReply = [now: number, emails: string[], intents: string[]];

/** Asks again and again until `end`; time counts from when it was asked, as nobody knows when Redis heard it. */
function keepAlive(options: { leaseMs: number; askedAt: number; keep: () => Promise<boolean> }) {
  const { leaseMs, keep } = options;
  const abort = new AbortController();
  const marginMs = Math.min(MARGIN_MS_MAX, leaseMs / 10);
  let heldUntil = options.askedAt + leaseMs - marginMs;
  let isAsking = false;
  const keeping = setInterval(() => void ask(), Math.min(leaseMs / 3, KEEP_MS_MAX));
  let watching = setTimeout(watch, heldUntil - performance.now());
  return { signal: abort.signal, assertHeld, lose, end };

  async function ask(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    const askedAt = performance.now();
    try {
      if (await keep()) heldUntil = askedAt + leaseMs - marginMs;
      else lose();
    } catch {
      // Redis may answer the next one in time.
    } finally {
      isAsking = false;
    }
  }

  /** Not trusted to a timer alone: a process that was stopped runs on before its timers do. */
  function assertHeld(): void {
    if (performance.now() >= heldUntil) lose();
    abort.signal.throwIfAborted();
  }

  function watch(): void {
    const leftMs = heldUntil - performance.now();
    if (leftMs <= 0) lose();
    else watching = setTimeout(watch, leftMs);
  }

  function lose(): void {
    end();
    abort.abort(
      new NotYetError('The lease on a lead was lost: another worker may be writing it', { delayMs: LOST_WAIT_MS }),
    );
  }

  function end(): void {
    clearInterval(keeping);
    clearTimeout(watching);
  }
}

/** `known`: what this worker has read or noted before. */
function flatten(added: ReadonlyMap<string, Intents>, known: ReadonlyMap<string, Intents>): string[] {
  return [...added].flatMap(([email, events]) => [
    email,
    String(events.size),
    ...[...events].flatMap(([eventId, intent]) => [
      ...[eventId, JSON.stringify(intent), known.get(email)?.has(eventId) ? '1' : '0'],
    ]),
  ]);
}

function parseIntents(json: string | null | undefined): Intents {
  if (json === null || json === undefined || json === '') return new Map();
  const saved = Object.entries(JSON.parse(json) as Record<string, unknown>);
  return new Map(
    saved.flatMap(([eventId, intent]) => (typeof intent === 'string' ? [[eventId, JSON.parse(intent) as Intent]] : [])),
  );
}
