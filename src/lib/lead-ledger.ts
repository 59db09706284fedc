/**
 * The working keys around a CRM write: leases, so that two workers never write one lead at once, and intents, so that
 * after a crash between the write and its receipt the service still knows which values are its own.
 */
import type { Keys } from './keys.js';
import { type LeadState, mergeStates } from './lead-state.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type LeadLedger = {
  /** Leases those of the leads that are free; `release` when the write is over. Kept alive until then. */
  lease: (emails: readonly string[]) => Promise<{ emails: Set<string>; release: () => Promise<void> }>;
  readIntents: (emails: readonly string[]) => Promise<Map<string, LeadState>>;
  /** Remembers what is about to be written, before it is. Returns what stands there now, for `dropIntents`. */
  saveIntents: (intents: ReadonlyMap<string, LeadState>) => Promise<Map<string, string>>;
  /** The receipts stand in the stream: nothing is in doubt any more. What somebody added since stays. */
  dropIntents: (saved: ReadonlyMap<string, string>) => Promise<void>;
};

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

  return {
    async lease(emails) {
      calls += 1;
      const holder = `${owner}:${calls}`;
      const ask = async (verb: 'take' | 'keep' | 'release', wanted: readonly string[]) =>
        (await leaseScript([keys.leadLeases()], [verb, holder, leaseMs, ...wanted])) as string[];
      const taken = emails.length === 0 ? [] : await ask('take', emails);
      const keeping = setInterval(() => void ask('keep', taken).catch(() => {}), leaseMs / 3);
      return {
        emails: new Set(taken),
        async release() {
          clearInterval(keeping);
          if (taken.length > 0) await ask('release', taken);
        },
      };
    },

    async readIntents(emails) {
      const found = new Map<string, LeadState>();
      if (emails.length === 0) return found;
      const saved = await redis.hmget(keys.intents(), ...emails);
      emails.forEach((email, index) => {
        const json = saved[index];
        if (typeof json === 'string') found.set(email, JSON.parse(json) as LeadState);
      });
      return found;
    },

    async saveIntents(intents) {
      if (intents.size === 0) return new Map();
      const before = await this.readIntents([...intents.keys()]);
      const saved = new Map(
        [...intents].map(([email, intent]) => [email, JSON.stringify(mergeStates(before.get(email) ?? {}, intent))]),
      );
      await saveScript([keys.intents()], [...saved].flat());
      return saved;
    },

    async dropIntents(saved) {
      if (saved.size > 0) await dropScript([keys.intents()], [...saved].flat());
    },
  };
}
