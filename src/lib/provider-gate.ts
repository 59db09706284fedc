/**
 * Lets a worker's calls to one provider through as its share of the limit allows. It asks for a share only while there are
 * calls to make: once a second as a rule, a little more often while calls wait.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { ASKED_MS_MAX, NotYetError, OutageError, type Provider } from './errors.js';

export type PassOptions = {
  signal: AbortSignal;
  /** The end of something that has begun: it goes first and waits longer. */
  isUrgent?: boolean;
  /** Begun later it would be in vain (`performance.now()`): it is turned away then, and takes nobody's turn. */
  beginBy?: number | undefined;
};

export type Gate = {
  /**
   * Runs one call to the provider when its turn has come. Throws `NotYetError` where that takes longer than a moment, the
   * signal's reason, and what the call throws.
   */
  pass: <T>(call: () => Promise<T>, options: PassOptions) => Promise<T>;
  /** What the provider says is left of the day's calls. */
  callsLeft: (count: number) => void;
};

/** For who is alone, as an operator's tool is. */
export const OPEN_GATE: Gate = { pass: (call) => call(), callsLeft: () => {} };

const urgency = new AsyncLocalStorage<true>();

/** All calls made within it are urgent: for what holds up many others. One at a time in a process. */
export async function goFirst<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await urgency.run(true, work);
  } finally {
    // While it is on, every promise of the process takes three times as long (Node.js 20).
    urgency.disable();
  }
}

/** What a worker tells when it asks for its share. */
export type Demand = {
  running: number;
  waiting: number;
  /** Calls of the last second: about as many are to come in the next. */
  expected: number;
  /** Since it last asked. */
  successes: number;
  /** A 429 since then, with the wait that came with it; `undefined` for none. */
  refusedForMs: number | undefined;
  callsLeft: number | undefined;
};

/** Times are in ms from when it was asked for. */
export type Share = {
  /** How many calls may run at once, those that run included. */
  running: number;
  /** How many may begin, the first after `firstMs` and one each `intervalMs`, none after `validMs`. */
  begins: { count: number; firstMs: number; intervalMs: number; validMs: number };
  grantMs: number;
  /** Nothing may begin before. */
  holdMs: number;
  /** When it makes sense to ask for more. */
  againMs: number;
  /** Others wait for what is given back. */
  isWantedBack: boolean;
  /** Of all workers together. */
  limit: { running: number; perSecond: number };
};

export type Reading = { running: number; waiting: number; limit: Share['limit'] | undefined };

type Waiter = {
  isUrgent: boolean;
  deadlineAt: number;
  beginBy: number;
  admit: () => void;
  refuse: (delayMs: number) => void;
};
type Token = { at: number; until: number };

const WAIT_MS_MAX = 1_500;
const URGENT_WAIT_MS_MAX = 2_500;
const BEAT_MS = 1_000;
const POLL_MS = 200;
const FAILED_WAIT_MS = 500;
/** A call seldom comes alone. */
const EXPECTED_MIN = 5;
/** So long without a call, and the share is given back. */
const IDLE_MS = 150;
const DELAY_MS_MIN = 250;
/** So far apart at the most those come back who are sent away: the limit they are spaced by may have grown by then. */
const SPREAD_MS_MAX = 10_000;

/** How the providers say that there were too many calls. */
const TOO_MANY = new Set([
  'zoho_too_many_requests',
  'gemini_rate_limited',
  'gemini_quota_exhausted',
  'slack_rate_limited',
]);

const NO_NEWS = () => ({ successes: 0, refusedForMs: undefined, callsLeft: undefined });

export function makeGate(
  provider: Provider,
  askForShare: (demand: Demand) => Promise<Share>,
): Gate & { read: () => Reading } {
  const waiting: Waiter[] = [];
  let tokens: Token[] = [];
  let running = 0;
  let share: Share | undefined;
  let grantedUntil = 0;
  let holdUntil = 0;
  let askedAt = Number.NEGATIVE_INFINITY;
  let askAgainAt = 0;
  let isAsking = false;
  let idleSince = 0;
  let delayedUntil = 0;
  let begun = 0;
  let timer: NodeJS.Timeout | undefined;
  const news: Pick<Demand, 'successes' | 'refusedForMs' | 'callsLeft'> = NO_NEWS();

  return {
    async pass(call, options) {
      await admission(options);
      try {
        const answer = await call();
        news.successes += 1;
        return answer;
      } catch (error) {
        if (error instanceof OutageError && TOO_MANY.has(error.code)) hearRefusal(error.retryAfterMs ?? 0);
        throw error;
      } finally {
        running -= 1;
        idleSince = performance.now();
        step();
      }
    },
    callsLeft(count) {
      news.callsLeft = count;
    },
    read: () => ({ running, waiting: waiting.length, limit: share?.limit }),
  };

  function admission({ signal, beginBy, ...options }: PassOptions): Promise<void> {
    signal.throwIfAborted();
    const isUrgent = options.isUrgent === true || urgency.getStore() === true;
    const latestAt = performance.now() + (isUrgent ? URGENT_WAIT_MS_MAX : WAIT_MS_MAX);
    return new Promise((resolve, reject) => {
      const leave = () => {
        const index = waiting.indexOf(waiter);
        if (index >= 0) waiting.splice(index, 1);
        signal.removeEventListener('abort', abort);
      };
      const abort = () => {
        leave();
        reject(signal.reason);
      };
      const waiter: Waiter = {
        isUrgent,
        deadlineAt: Math.min(latestAt, beginBy ?? latestAt),
        beginBy: beginBy ?? Number.POSITIVE_INFINITY,
        admit() {
          leave();
          running += 1;
          begun += 1;
          resolve();
        },
        refuse(delayMs) {
          leave();
          reject(new NotYetError(`Too many calls to ${provider} at once: this one waits for its turn`, { delayMs }));
        },
      };
      signal.addEventListener('abort', abort, { once: true });
      // What has begun is finished before anything new begins.
      const place = isUrgent ? waiting.findIndex((other) => !other.isUrgent) : -1;
      waiting.splice(place < 0 ? waiting.length : place, 0, waiter);
      step();
    });
  }

  /** Nothing begins here until it is known what that means for all. */
  function hearRefusal(retryAfterMs: number): void {
    news.refusedForMs = Math.max(news.refusedForMs ?? 0, Math.min(retryAfterMs, ASKED_MS_MAX));
    holdUntil = Math.max(holdUntil, performance.now() + Math.max(news.refusedForMs, POLL_MS));
    tokens = [];
    askAgainAt = 0;
  }

  /** Admits whom it can, turns away whose time is over, and asks or sleeps for the rest. */
  function step(): void {
    const now = performance.now();
    for (let token = takeToken(now); token; token = takeToken(now)) waiting[0]!.admit();
    for (const waiter of [...waiting]) if (waiter.deadlineAt <= Math.max(now, holdUntil)) turnAway(waiter, now);
    if (mustAsk(now)) void ask();
    sleepUntil(nextStepAt(now));
  }

  function takeToken(now: number): Token | undefined {
    if (waiting.length === 0 || now < holdUntil || !isHeld(now) || running >= share!.running) return undefined;
    tokens = tokens.filter(({ until }) => until > now);
    return tokens[0] !== undefined && tokens[0].at <= now ? tokens.shift() : undefined;
  }

  function turnAway(waiter: Waiter, now: number): void {
    // Those who are sent away come back one by one, at the pace at which they can be let in.
    const intervalMs = 1_000 / Math.max(share?.limit.perSecond ?? 1, 0.01);
    const from = Math.max(now, holdUntil);
    delayedUntil = Math.min(Math.max(delayedUntil, from) + intervalMs, from + SPREAD_MS_MAX);
    const delayMs = Math.max(delayedUntil - now, DELAY_MS_MIN) * (0.9 + Math.random() * 0.2);
    waiter.refuse(Math.round(delayMs));
  }

  function mustAsk(now: number): boolean {
    if (isAsking || now < askAgainAt) return false;
    if (news.refusedForMs !== undefined) return true;
    if (waiting.length > 0 && now >= holdUntil) return !hasRoomComing(now);
    if (running > 0) return now >= beatAt() || (isHeld(now) && share!.isWantedBack && share!.running > running);
    return isHeld(now) && now >= idleSince + IDLE_MS;
  }

  /** A slot is free and an instant has been given: it only has to come. */
  function hasRoomComing(now: number): boolean {
    return isHeld(now) && running < share!.running && tokens.some(({ until }) => until > now);
  }

  function isHeld(now: number): boolean {
    return (share?.running ?? 0) > 0 && now < grantedUntil;
  }

  function beatAt(): number {
    return askedAt + BEAT_MS;
  }

  async function ask(): Promise<void> {
    isAsking = true;
    const now = performance.now();
    const expected = Math.ceil((begun * BEAT_MS) / Math.max(now - askedAt, BEAT_MS / 4));
    const demand: Demand = { running, waiting: waiting.length, expected: Math.max(expected, EXPECTED_MIN), ...news };
    askedAt = now;
    begun = 0;
    Object.assign(news, NO_NEWS());
    try {
      take(await askForShare(demand), demand, now);
    } catch {
      // Without an answer nothing begins; what was to be told is told with the next one.
      news.successes += demand.successes;
      news.refusedForMs ??= demand.refusedForMs;
      askAgainAt = performance.now() + FAILED_WAIT_MS;
    } finally {
      isAsking = false;
      step();
    }
  }

  function take(given: Share, demand: Demand, askedAtMs: number): void {
    // Counted from the answer: what may begin then begins late rather than early.
    const heard = performance.now();
    share = given;
    grantedUntil = askedAtMs + given.grantMs;
    if (news.refusedForMs === undefined) holdUntil = given.holdMs > 0 ? heard + given.holdMs : 0;
    const { count, firstMs, intervalMs, validMs } = given.begins;
    for (let n = 0; n < count; n += 1) {
      const at = heard + firstMs + n * intervalMs;
      tokens.push({ at, until: at + validMs });
    }
    tokens.sort((a, b) => a.at - b.at);
    // Whom an instant was given to waits for it.
    tokens.slice(0, waiting.length).forEach(({ until }, index) => {
      const waiter = waiting[index]!;
      waiter.deadlineAt = Math.min(waiter.beginBy, Math.max(waiter.deadlineAt, until));
    });
    const isSatisfied = count >= demand.waiting && given.running >= demand.running + demand.waiting;
    askAgainAt = isSatisfied ? heard : heard + Math.max(POLL_MS, count > 0 ? 0 : given.againMs);
  }

  function nextStepAt(now: number): number {
    const times = waiting.map(({ deadlineAt }) => deadlineAt);
    const next = tokens[0];
    if (waiting.length > 0 && next !== undefined) times.push(next.at > now ? next.at : next.until);
    if (!isAsking) {
      if (waiting.length > 0) times.push(Math.max(holdUntil, askAgainAt));
      if (running > 0) times.push(Math.max(beatAt(), askAgainAt));
      else if (isHeld(now)) times.push(Math.max(idleSince + IDLE_MS, askAgainAt));
    }
    // What is due and yet was not done waits for something else that is to come.
    return Math.min(...times.filter((at) => at > now), Number.POSITIVE_INFINITY);
  }

  function sleepUntil(at: number): void {
    clearTimeout(timer);
    if (at === Number.POSITIVE_INFINITY) return;
    timer = setTimeout(step, Math.ceil(at - performance.now()));
    timer.unref();
  }
}
