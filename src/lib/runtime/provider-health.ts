/**
 * Whether the outside systems are up, as all workers see it: a provider that is down is paused for everybody, probed by
 * one waiting event at each interval, and resumed by the first answer.
 */
import type { Logger } from 'pino';
import { ASKED_MS_MAX, type OutageKind, PROVIDERS, type Provider } from '../errors.js';
import type { Keys } from '../keys.js';
import type { RedisClient } from '../redis.js';
import { loadScript } from '../scripts.js';

export type ProviderHealth = {
  isPaused: (provider: Provider) => boolean;
  /** Asks Redis which providers are paused, unless that was done less than `maxAgeMs` ago. */
  refresh: (maxAgeMs: number) => Promise<void>;
  pause: (pause: {
    provider: Provider;
    kind: OutageKind;
    reason: string;
    retryAfterMs: number | undefined;
    isProbe: boolean;
  }) => Promise<void>;
  /** Tells that a call succeeded, a probe or another: ends a pause, and proves to other events that the provider is up. */
  succeeded: (provider: Provider, call: { now: number; isProbe: boolean }) => Promise<void>;
  /** As Redis knows it now. */
  look: (provider: Provider) => Promise<ProviderState>;
};

/** Redis time in ms. */
export type ProviderState = {
  /** When any worker's call last succeeded; 0 for never. */
  succeededAt: number;
  /** When the pause began; `undefined` while there is none. */
  pausedSince: number | undefined;
};

/** A success is told to the other workers at most this often. */
const TELL_MS = 500;
/** An outage is over for us at most 15 s after it is over for the provider, and so is a mended fault of the settings. */
const PROBE_MS_MAX = 10_000;
const SUCCESS_KEPT_MS = 3_600_000;

export function makeProviderHealth(options: {
  redis: RedisClient;
  keys: Keys;
  probeBaseMs: number;
  log: Logger;
}): ProviderHealth {
  const { redis, keys, log } = options;
  const pauseScript = loadScript(redis, 'pause');
  const resumeScript = loadScript(redis, 'resume');
  const paused = new Set<Provider>();
  const probeMs = new Map<Provider, number>();
  const toldAt = new Map<Provider, number>();
  let refreshedAt = Number.NEGATIVE_INFINITY;

  return {
    isPaused: (provider) => paused.has(provider),

    async refresh(maxAgeMs) {
      const now = performance.now();
      if (now - refreshedAt < maxAgeMs) return;
      refreshedAt = now;
      const pauses = PROVIDERS.map((provider) => keys.pause(provider));
      // As a rule none is, which one look tells.
      const none = (await redis.exists(...pauses)) === 0;
      const found = none ? [] : await Promise.all(pauses.map((pause) => redis.exists(pause)));
      PROVIDERS.forEach((provider, index) => {
        if (found[index] === 1) paused.add(provider);
        else forget(provider);
      });
    },

    async pause({ provider, kind, reason, retryAfterMs, isProbe }) {
      const everyMs = nextProbeMs(provider, kind, isProbe);
      const askedMs = Math.min(retryAfterMs ?? 0, ASKED_MS_MAX);
      const began = await pauseScript(
        [keys.pause(provider), keys.stream('events:health')],
        [provider, kind, reason, everyMs, askedMs, isProbe ? 1 : 0],
      );
      paused.add(provider);
      if (began === 1) log.warn({ provider, kind, reason }, 'provider paused');
    },

    async succeeded(provider, { now, isProbe }) {
      const toldMs = performance.now();
      if (toldMs - (toldAt.get(provider) ?? Number.NEGATIVE_INFINITY) >= TELL_MS) {
        toldAt.set(provider, toldMs);
        await redis.set(`${keys.pause(provider)}:success`, now, 'PX', SUCCESS_KEPT_MS);
      }
      // Whoever probes a pause may not have heard of it here yet.
      if (!isProbe && !paused.has(provider)) return;
      const ended = await resumeScript([keys.pause(provider), keys.stream('events:health')], [provider]);
      forget(provider);
      if (ended === 1) log.info({ provider }, 'provider resumed');
    },

    async look(provider) {
      const [success, since] = await Promise.all([
        redis.get(`${keys.pause(provider)}:success`),
        redis.hget(keys.pause(provider), 'since'),
      ]);
      return { succeededAt: Number(success ?? 0), pausedSince: since === null ? undefined : Date.parse(since) };
    },
  };

  /** Whoever ended the pause: the next one begins with short waits. */
  function forget(provider: Provider): void {
    paused.delete(provider);
    probeMs.delete(provider);
  }

  function nextProbeMs(provider: Provider, kind: OutageKind, isProbe: boolean): number {
    if (kind === 'configuration') return PROBE_MS_MAX;
    const before = probeMs.get(provider) ?? options.probeBaseMs;
    const next = Math.min(isProbe ? before * 1.6 : before, PROBE_MS_MAX);
    probeMs.set(provider, next);
    return Math.round(next);
  }
}
