/**
 * Tells people what needs them: events that failed for good, providers that stay down and come back. What Slack does not
 * take goes to the log; nothing that happens here becomes a failure of its own.
 */

import type { Storm } from '../lib/alert-state.js';
import { type Context, defineBatchConsumer, type Outcome } from '../lib/consumer.js';
import { NotYetError, OutageError } from '../lib/errors.js';
import type { ProviderHealth, StoredEvent } from '../lib/events.js';
import type { Slack } from '../lib/providers/slack/slack.js';
import { type Delivered, makeDeliver, type RetryMarks, type Verdicts, writeToLog } from './alert/deliver.js';
import { digestMessage, NAMED_MAX, stormOverMessage } from './alert/digest.js';
import { failureMessage } from './alert/failure-text.js';
import { pausedMessage, resumedMessage } from './alert/health-text.js';
import type { AlertMessage } from './alert/message.js';
import { findSubject, type Subject } from './alert/subject.js';

type Provider = ProviderHealth['provider'];

export type AlertOptions = RetryMarks & {
  /** Absent without settings for it: then every alert is a log line. */
  slack: Slack | undefined;
  /** Of the dashboard, without a slash at its end. */
  baseUrl?: string | undefined;
  internalDomains?: readonly string[];
  /** Takes one from the messages about single failures that may still be posted in this minute; false when none is left. */
  budget: (failureId: string, now: Date) => Promise<boolean>;
  storm: {
    /** Failures that begin a storm, or keep it up. */
    begin: (failureIds: readonly string[], now: Date) => Promise<void>;
    /** Failures that keep a storm up where there is one. */
    goOn: (failureIds: readonly string[], now: Date) => Promise<void>;
    takeEnded: (quietMs: number, now: Date) => Promise<Storm | undefined>;
  };
  /** [600000] So long nothing must fail until the channel hears that a storm is over. */
  stormOverAfterMs?: number;
  /** True from the moment that `provider.paused` can be read until `provider.resumed` can. */
  isStillPaused: (provider: Provider, since: string) => Promise<boolean>;
  /** Whether the pause that began at `since` was told of. */
  wasAlerted: (provider: Provider, since: string) => Promise<boolean>;
  markAlerted: (provider: Provider, since: string, reason: string) => Promise<void>;
  /** When the pause for this reason began of which was told last, within the last hour. */
  lastAlerted: (provider: Provider, reason: string) => Promise<string | undefined>;
  /** [60000] What exceeds the budget waits for the end of this window, and is told in one digest. */
  gatherMs?: number;
  /** [600000] How long an outage lasts before it is worth a message. */
  outageAlertAfterMs?: number;
};

type AlertEvent = StoredEvent<'event.failed' | 'provider.paused' | 'provider.resumed'>;
type FailedEvent = StoredEvent<'event.failed'>;
type AlertContext = Context & { probes: (eventId: string) => boolean };
type AlertOutcomes = Map<string, Outcome<'alert.sent'>>;
/** Events that are told of in one message. */
type Job = { events: readonly AlertEvent[]; run: () => Promise<AlertOutcomes> };

/** A flood is one digest rather than dozens. */
const BATCH_MAX = 500;
/** More failures in one batch than these are told in one digest. */
const SINGLES_MAX = 3;
const MINUTE_MS = 60_000;
/** The budget's minute may begin a little later than ours. */
const CLOCKS_DIFFER_MS = 500;
const RECHECK_MS_MIN = 1_000;
/** A fault that touches one kind of call alone, such as a missing scope, comes and goes with what else succeeds. */
const RECURRING_AFTER_MS = 2 * MINUTE_MS;
const NOBODY: Subject = { kind: 'unknown', source: '', people: [] };

export function makeAlert(options: AlertOptions) {
  const { slack, baseUrl, internalDomains = [], budget, isStillPaused, wasAlerted, markAlerted, storm } = options;
  const { gatherMs = MINUTE_MS, outageAlertAfterMs = 10 * MINUTE_MS, stormOverAfterMs = 10 * MINUTE_MS } = options;
  const deliver = makeDeliver({ slack, marks: options });

  return defineBatchConsumer({
    name: 'alert',
    on: ['event.failed', 'provider.paused', 'provider.resumed'],
    emits: ['alert.sent'],
    // A pause may end without a message, which would say nothing about Slack.
    needs: ({ type }) => (slack !== undefined && type === 'event.failed' ? ['slack'] : []),
    // `alert` never writes to `events:failed`: what it gives up on is told in the log.
    givenUp(eventId, event, { log }) {
      writeToLog([eventId], { facts: event === undefined ? { failureId: eventId } : factsOf(event) }, log);
      return [
        {
          type: 'alert.sent',
          data: {
            failureId: eventId,
            eventId: event?.type === 'event.failed' ? event.data.eventId : eventId,
            delivery: 'log' as const,
          },
        },
      ];
    },
    batchMax: BATCH_MAX,

    /** Told once or, if Slack is away just then, not at all: it asks for nothing to be done. */
    async tick({ now, signal }) {
      const ended = slack === undefined ? undefined : await storm.takeEnded(stormOverAfterMs, now());
      if (ended !== undefined) await slack!.post({ ...stormOverMessage(ended, stormOverAfterMs), signal });
    },

    async handleBatch(deliveries, context) {
      const events = deliveries.map(({ event }) => event);
      const probing = new Set(deliveries.filter(({ isProbe }) => isProbe).map(({ event }) => event.id));
      const outcomes = await runJobs(planJobs(events, { ...context, probes: (id) => probing.has(id) }));
      return events.map(({ id }) => outcomes.get(id)!);
    },

    async settled(events) {
      await Promise.all(events.map(({ id }) => options.setTries(id, 0)));
    },
  });

  function planJobs(events: readonly AlertEvent[], context: AlertContext): Job[] {
    const failures = events.filter((event) => event.type === 'event.failed');
    const health = events.flatMap((event): Job[] => {
      if (event.type === 'provider.paused') return [{ events: [event], run: () => tellPaused(event, context) }];
      return event.type === 'provider.resumed' ? [{ events: [event], run: () => tellResumed(event, context) }] : [];
    });
    if (failures.length > SINGLES_MAX) {
      return [...health, { events: failures, run: () => tellMany(failures, context) }];
    }
    return [...health, ...failures.map((event): Job => ({ events: [event], run: () => tellOne(event, context) }))];
  }

  async function tellOne(event: FailedEvent, context: AlertContext): Promise<AlertOutcomes> {
    // Whether Slack is back is not found out by waiting for the next minute.
    const mayPost = slack === undefined || context.probes(event.id) || (await budget(event.id, context.now()));
    if (!mayPost) {
      const delayMs = gatherMs - (context.now().getTime() % gatherMs) + CLOCKS_DIFFER_MS;
      throw new NotYetError('Many failures at once: this one waits for the next digest', { delayMs });
    }
    await storm.goOn([event.id], context.now());
    const subject = await findSubject(event, { read: context.read, internalDomains });
    const compose = (isRepeat: boolean) => failureMessage(event, { subject, baseUrl, isRepeat });
    return toOutcomes([event], await deliver([event.id], compose, context));
  }

  async function tellMany(failures: readonly FailedEvent[], context: Context): Promise<AlertOutcomes> {
    const toSubject = async (event: FailedEvent) =>
      [event.id, await findSubject(event, { read: context.read, internalDomains })] as const;
    const subjects = new Map(await Promise.all(failures.slice(0, NAMED_MAX).map(toSubject)));
    const compose = (isRepeat: boolean, eventIds: readonly string[]) => {
      const told = failures.filter(({ id }) => eventIds.includes(id));
      return digestMessage(told, { subjects: told.flatMap(({ id }) => subjects.get(id) ?? []), baseUrl, isRepeat });
    };
    const ids = failures.map(({ id }) => id);
    const verdicts = await deliver(ids, compose, context);
    await storm.begin(ids, context.now());
    return toOutcomes(failures, verdicts, { isDigest: true });
  }

  async function tellPaused(event: StoredEvent<'provider.paused'>, context: Context): Promise<AlertOutcomes> {
    const { provider, kind, reason, since } = event.data;
    // Over before it was worth a message, or before Slack took one: that would come after the end.
    if (!(await isStillPaused(provider, since))) return nothingToTell(event);
    if (kind === 'outage') waitUntilLong(since, outageAlertAfterMs, context);
    else if (await isRecurring(event)) waitUntilLong(since, RECURRING_AFTER_MS, context);
    // Before it is posted: an end that comes meanwhile must be told as well.
    await markAlerted(provider, since, reason);
    const compose = (isRepeat: boolean) => pausedMessage(event, isRepeat);
    // Slack cannot tell of its own absence.
    const verdicts =
      provider === 'slack'
        ? writeToLog([event.id], compose(false), context.log)
        : await deliver([event.id], compose, context);
    return toOutcomes([event], verdicts);
  }

  async function tellResumed(event: StoredEvent<'provider.resumed'>, context: Context): Promise<AlertOutcomes> {
    const { provider, since } = event.data;
    // Its beginning may have been missed while no worker ran.
    const wasLong = Date.parse(event.at) - Date.parse(since) >= outageAlertAfterMs;
    // Nobody was told that it was down.
    if (!wasLong && !(await wasAlerted(provider, since))) return nothingToTell(event);
    return toOutcomes([event], await deliver([event.id], (isRepeat) => resumedMessage(event, isRepeat), context));
  }

  async function isRecurring({ data: { provider, reason, since } }: StoredEvent<'provider.paused'>): Promise<boolean> {
    const last = await options.lastAlerted(provider, reason);
    return last !== undefined && last !== since;
  }

  /** Looks again after as long as the pause has lasted: often at first, so that a short one is soon done with. */
  function waitUntilLong(since: string, longMs: number, { now }: Context): void {
    const lastedMs = now().getTime() - Date.parse(since);
    const leftMs = longMs - lastedMs;
    if (!(leftMs > 0)) return;
    const delayMs = Math.min(leftMs, Math.max(lastedMs, RECHECK_MS_MIN), MINUTE_MS);
    throw new NotYetError('A pause is told of when it has lasted a while', { delayMs });
  }
}

/** One after the other, as Slack takes about a message a second; once it is down, the others do not try. */
async function runJobs(jobs: readonly Job[]): Promise<AlertOutcomes> {
  const outcomes: AlertOutcomes = new Map();
  let outage: OutageError | undefined;
  for (const { events, run } of jobs) {
    const found = outage === undefined ? await run().catch((error) => failAll(events, error)) : failAll(events, outage);
    for (const [id, outcome] of found) {
      outcomes.set(id, outcome);
      if ('error' in outcome && outcome.error instanceof OutageError) outage = outcome.error;
    }
  }
  return outcomes;
}

function failAll(events: readonly AlertEvent[], error: unknown): AlertOutcomes {
  return new Map(events.map(({ id }) => [id, { error }]));
}

function nothingToTell({ id }: AlertEvent): AlertOutcomes {
  return new Map([[id, { events: [] }]]);
}

function toOutcomes(events: readonly AlertEvent[], verdicts: Verdicts, { isDigest = false } = {}): AlertOutcomes {
  return new Map(
    events.map((event): [string, Outcome<'alert.sent'>] => {
      const verdict = verdicts.get(event.id)!;
      if ('error' in verdict) return [event.id, verdict];
      const isWithoutProvider = verdict.delivery === 'log' && verdict.isWithoutSlack === true;
      return [
        event.id,
        { events: [alertSent(event, verdict, isDigest)], ...(isWithoutProvider && { isWithoutProvider }) },
      ];
    }),
  );
}

/** What the log is told, which holds nothing of whom it concerns. */
function factsOf(event: AlertEvent): AlertMessage['facts'] {
  switch (event.type) {
    case 'event.failed':
      return failureMessage(event, { subject: NOBODY, baseUrl: undefined, isRepeat: false }).facts;
    case 'provider.paused':
      return pausedMessage(event, false).facts;
    case 'provider.resumed':
      return resumedMessage(event, false).facts;
  }
}

function alertSent(event: AlertEvent, delivered: Delivered, isDigest: boolean) {
  const ts = delivered.delivery === 'slack' ? delivered.ts : undefined;
  return {
    type: 'alert.sent' as const,
    data: {
      failureId: event.id,
      eventId: event.type === 'event.failed' ? event.data.eventId : event.id,
      delivery: delivered.delivery,
      ...(ts === undefined ? {} : { ts }),
      ...(isDigest ? { digest: true } : {}),
    },
  };
}
