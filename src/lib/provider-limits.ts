/**
 * What the providers allow, kept over all workers together: calls at once and calls a second. Each worker leases a share
 * (`scripts/share-limit.lua`) and lets its calls through by it (`provider-gate.ts`). Limits that are not known are found by
 * the 429s that come of them.
 */
import type { Registry } from 'prom-client';
import type { Provider } from './errors.js';
import type { Keys } from './keys.js';
import { addLimitMetrics } from './metrics.js';
import { type Demand, type Gate, makeGate, type Share } from './provider-gate.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

/** The most that is ever allowed, over all workers; after 429s it is less for a while, but never less than the least. */
export type Limit = { running: number; perSecond: number; perSecondMin: number };

/**
 * - Zoho: five calls at once is what the smallest edition allows (API limits, v8); it names no rate, so that is only bounded. Not
 *   below one a second: a new lead takes two looks and a write, and what was seen must not grow old in between.
 * - Gemini: 600 requests a minute; a free project has about ten, which is then learnt.
 * - Slack: about one message a second in a channel (`chat.postMessage`).
 *
 * The least is above one in ten seconds: a pause is probed that often, and a probe that does not find its turn ends none.
 */
export const PROVIDER_LIMITS: Readonly<Record<Provider, Limit>> = {
  zoho: { running: 5, perSecond: 50, perSecondMin: 1 },
  gemini: { running: 32, perSecond: 10, perSecondMin: 0.12 },
  slack: { running: 1, perSecond: 1, perSecondMin: 0.12 },
};

export type ProviderLimits = {
  /** To be given to the provider's client. */
  gates: Readonly<Record<Provider, Gate>>;
  /** Publishes the limits in force and what waits for them here. */
  addMetrics: (registry: Registry) => void;
};

/** A dead worker's share is free after this. */
const GRANT_MS = 2_500;

export function makeProviderLimits(options: {
  redis: RedisClient;
  keys: Keys;
  /** Unique among the workers. */
  owner: string;
  limits?: Readonly<Record<Provider, Limit>>;
}): ProviderLimits {
  const { redis, keys, owner, limits = PROVIDER_LIMITS } = options;
  const script = loadScript(redis, 'share-limit');

  const askFor = (provider: Provider) => async (demand: Demand) => {
    const { running, perSecond, perSecondMin } = limits[provider];
    const { waiting, expected, successes, refusedForMs, callsLeft } = demand;
    const reply = await script(
      [keys.limit(provider)],
      [
        ...[owner, running, perSecond, perSecondMin, GRANT_MS, demand.running, waiting, expected, successes],
        ...[refusedForMs === undefined ? 0 : 1, Math.round(refusedForMs ?? 0), callsLeft ?? -1],
      ],
    );
    return toShare(reply as number[]);
  };
  const gates = {
    zoho: makeGate('zoho', askFor('zoho')),
    gemini: makeGate('gemini', askFor('gemini')),
    slack: makeGate('slack', askFor('slack')),
  };
  return { gates, addMetrics: (registry) => addLimitMetrics(registry, gates) };
}

function toShare(reply: readonly number[]): Share {
  const [, granted, count, firstMs, intervalMs, validMs, holdMs, againMs, wanted, atOnce, perSecond] = reply as [
    ...[number, number, number, number, number, number, number, number, number, number, number],
  ];
  return {
    running: granted,
    begins: { count, firstMs, intervalMs, validMs },
    grantMs: GRANT_MS,
    holdMs,
    againMs,
    isWantedBack: wanted === 1,
    limit: { running: atOnce, perSecond: perSecond / 1_000 },
  };
}
