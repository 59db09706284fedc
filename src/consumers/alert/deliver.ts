/**
 * Brings a message to Slack at most twice, or to the log. Slack knows no idempotency key: after a crash, or an answer that leaves
 * it open whether the message stands there, it is posted once more, marked as a possible repeat, and never again.
 */
import type { Context } from '../../lib/consumer.js';
import { NotYetError, OutageError, TerminalError } from '../../lib/errors.js';
import type { Slack } from '../../lib/providers/slack/slack.js';
import type { AlertMessage } from './message.js';

/** Remembers, over restarts, how often an alert was handed to Slack without a known outcome; by id of the alerted event. */
export type RetryMarks = {
  triesOf: (eventId: string) => Promise<number>;
  /** 0: nothing was posted, or the alert is done. */
  setTries: (eventId: string, tries: number) => Promise<void>;
};

export type Delivered =
  | { delivery: 'slack'; ts: string | undefined }
  /** `isWithoutSlack`: it did not answer, or was not asked, where it might have. */
  | { delivery: 'log'; isWithoutSlack?: boolean };

/** What became of each alerted event, by its id. */
export type Verdicts = Map<string, Delivered | { error: OutageError }>;

export type Deliver = (
  eventIds: readonly string[],
  compose: (isRepeat: boolean, eventIds: readonly string[]) => AlertMessage,
  context: Pick<Context, 'signal' | 'log'>,
) => Promise<Verdicts>;

const TRIES_MAX = 2;

/**
 * Throws where nothing was posted and another try may: an outage of Slack, its limit, an abort, marks that cannot be read.
 */
export function makeDeliver({ slack, marks }: { slack: Slack | undefined; marks: RetryMarks }): Deliver {
  return async (eventIds, compose, context) => {
    if (slack === undefined) return writeToLog(eventIds, compose(false, eventIds), context.log);
    const tries = await readTries(eventIds, marks);
    const open = new Map([...tries].filter(([, count]) => count < TRIES_MAX));
    const spent = eventIds.filter((eventId) => !open.has(eventId));
    const posted: Verdicts = open.size > 0 ? await post(slack, open, compose, context) : new Map();
    if (spent.length === 0) return posted;
    // Each of the tries may have ended in a crash. Last, as an error of the others has all of them tried again.
    writeToLog(spent, compose(true, spent), context.log);
    return new Map([...posted, ...verdicts(spent, { delivery: 'log', isWithoutSlack: true })]);
  };

  async function post(
    slack: Slack,
    tries: ReadonlyMap<string, number>,
    compose: Parameters<Deliver>[1],
    { signal, log }: Parameters<Deliver>[2],
  ): Promise<Verdicts> {
    const eventIds = [...tries.keys()];
    const doubtful = eventIds.filter((eventId) => tries.get(eventId) !== 0);
    const isRepeat = doubtful.length > 0;
    if (isRepeat) await assertIsUp(slack, signal);
    const message = compose(isRepeat, eventIds);
    await Promise.all([...tries].map(([eventId, count]) => marks.setTries(eventId, count + 1)));
    try {
      const { ts } = await slack.post({ text: message.text, blocks: message.blocks, signal });
      return verdicts(eventIds, { delivery: 'slack', ts });
    } catch (error) {
      signal.throwIfAborted();
      const isWaiting = error instanceof NotYetError;
      if (!isWaiting && !isOutage(error)) return writeToLog(eventIds, message, log, error);
      if (isWaiting || !error.mayBeDone) {
        await Promise.all([...tries].map(([eventId, count]) => marks.setTries(eventId, count)));
        throw error;
      }
      const fresh = eventIds.filter((eventId) => !doubtful.includes(eventId));
      return new Map([...verdicts(fresh, { error }), ...(isRepeat ? writeToLog(doubtful, message, log, error) : [])]);
    }
  }
}

/** The same facts for whoever reads the log, with Slack's reason where it did not take the message. */
export function writeToLog(
  eventIds: readonly string[],
  { facts }: Pick<AlertMessage, 'facts'>,
  log: Context['log'],
  error?: unknown,
): Verdicts {
  log.error({ ...facts, ...(error === undefined ? {} : { slack: reasonOf(error) }) }, 'alert');
  return verdicts(eventIds, { delivery: 'log', ...(isOutage(error) && { isWithoutSlack: true }) });
}

async function readTries(eventIds: readonly string[], marks: RetryMarks): Promise<Map<string, number>> {
  return new Map(await Promise.all(eventIds.map(async (id) => [id, await marks.triesOf(id)] as const)));
}

/** The second try is the last: it is not spent on a Slack that is still down. Only an outage says so. */
async function assertIsUp(slack: Slack, signal: AbortSignal): Promise<void> {
  try {
    await slack.test(signal);
  } catch (error) {
    signal.throwIfAborted();
    if (isOutage(error)) throw error;
  }
}

/** A configuration fault of Slack is none: waiting for it would keep the alert from everybody. */
function isOutage(error: unknown): error is OutageError {
  return error instanceof OutageError && error.kind === 'outage';
}

function reasonOf(error: unknown): string {
  if (error instanceof OutageError || error instanceof TerminalError) return error.code;
  return `unexpected ${error instanceof Error ? error.name : typeof error}`;
}

function verdicts(eventIds: readonly string[], verdict: Delivered | { error: OutageError }): Verdicts {
  return new Map(eventIds.map((eventId) => [eventId, verdict]));
}
