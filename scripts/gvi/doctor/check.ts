/** What a check is, and how it is run: it may take ten seconds and never throws. */
import type { Config } from '../../../src/lib/config.js';
import { OutageError, RetryableError, TerminalError } from '../../../src/lib/errors.js';
import type { Keys } from '../../../src/lib/keys.js';
import { CalendlyError } from '../../../src/lib/providers/calendly/errors.js';
import type { RedisClient } from '../../../src/lib/redis.js';
import { describeRefusal } from '../../../src/lib/redis-refusal.js';

export type Level = 'ok' | 'warning' | 'problem';

/** Neither holds a secret or a person's data. What is not ok has a fix. */
export type Finding = { check: string; level: Level; finding: string; fix?: string };
export type Found = Omit<Finding, 'check'>;

export type DoctorContext = {
  config: Config;
  redis: RedisClient;
  keys: Keys;
  /** Calendly's own when left out. */
  calendlyApiUrl?: string | undefined;
};

export type Check = {
  name: string;
  /** Without Redis there is nothing to ask, or no token to ask with. */
  needsRedis: boolean;
  run: (context: DoctorContext, signal: AbortSignal) => Promise<Found[]> | Found[];
};

const TIMEOUT_MS = 10_000;
/** Of one call to a provider: shorter, so that what else a check has found is not lost with it. */
export const CALL_TIMEOUT_MS = 8_000;

const REDIS_AWAY: Found = {
  level: 'warning',
  finding: 'Not looked at, as Redis is not reachable',
  fix: 'see to Redis first',
};

export const ok = (finding: string): Found => ({ level: 'ok', finding });
export const warning = (finding: string, fix: string): Found => ({ level: 'warning', finding, fix });
export const problem = (finding: string, fix: string): Found => ({ level: 'problem', finding, fix });

export async function runCheck(
  { name, needsRedis, run }: Check,
  context: DoctorContext,
  { isRedisUp, timeoutMs = TIMEOUT_MS }: { isRedisUp: boolean; timeoutMs?: number },
): Promise<Finding[]> {
  if (needsRedis && !isRedisUp) return [{ check: name, ...REDIS_AWAY }];
  const found = await within(timeoutMs, async (signal) => run(context, signal)).catch((error: unknown) => [
    describeFailure(error),
  ]);
  return found.map((each) => ({ check: name, ...each }));
}

/** Waits for the work no longer than that, whether or not it heeds the signal. */
export async function within<T>(timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ending = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new LateError(`No answer within ${timeoutMs / 1000} s`);
      ending.abort(error);
      reject(error);
    }, timeoutMs);
  });
  try {
    return await Promise.race([work(ending.signal), late]);
  } finally {
    clearTimeout(timer);
  }
}

class LateError extends Error {
  override readonly name = 'LateError';
}

/** Our own errors are made for people; of any other no more is told than its kind. */
export function describeFailure(error: unknown): Found {
  if (error instanceof LateError)
    return problem(error.message, 'see whether it is up, and the network on the way to it');
  if (error instanceof OutageError) {
    return problem(
      error.message,
      error.kind === 'configuration'
        ? 'set right what the finding names'
        : 'nothing to set: work waits until it is back',
    );
  }
  if (error instanceof CalendlyError || error instanceof TerminalError || error instanceof RetryableError) {
    return problem(error.message, 'set right what the finding names, or try again later');
  }
  const refusal = describeRefusal(error);
  if (refusal !== undefined) return problem(`Redis refuses us (${refusal.code})`, refusal.advice);
  if (error instanceof Error && error.name === 'ReplyError') {
    const word = /^[A-Z]+/.exec(error.message)?.[0] ?? 'ERR';
    return problem(`Redis refused a command (${word})`, "give REDIS_URL's user the rights that the workers need");
  }
  const kind = error instanceof Error ? error.name : typeof error;
  return problem(`The check itself failed (${kind})`, 'run it again; if it fails again it is a fault of this tool');
}
