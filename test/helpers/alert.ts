/** The `alert` consumer with the real Slack client, called without a worker. */
import { pino } from 'pino';
import * as assert from 'uvu/assert';
import { type AlertOptions, makeAlert } from '../../src/consumers/alert.js';
import type { Outcome } from '../../src/lib/consumer.js';
import type { StoredEvent } from '../../src/lib/events.js';
import { makeSlack } from '../../src/lib/providers/slack/slack.js';
import { SLACK_CHANNEL, SLACK_TOKEN } from '../standins/slack.js';

type AlertEvent = StoredEvent<'event.failed' | 'provider.paused' | 'provider.resumed'>;

/** Longer than this process may stand still: what is late must not count as an outage of Slack. */
const PATIENT_MS = 60_000;

/**
 * What it remembers between tries is kept in this process, unless `tries` are given that another one has counted; `standin`
 * absent: no Slack settings.
 */
export function setUpAlert(
  standin: { apiUrl: string } | undefined,
  {
    now = '2026-11-23T12:30:00.000Z',
    timeoutMs = PATIENT_MS,
    tries = new Map<string, number>(),
    ...more
  }: Partial<AlertOptions> & { now?: string; timeoutMs?: number; tries?: Map<string, number> } = {},
) {
  const alerted = new Set<string>();
  const told = new Map<string, string>();
  const paused = new Set<string>();
  const logged: Record<string, unknown>[] = [];
  const entries = new Map<string, StoredEvent>();
  const log = pino({ level: 'error' }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const slack = standin && makeSlack({ token: SLACK_TOKEN, channel: SLACK_CHANNEL, apiUrl: standin.apiUrl, timeoutMs });
  const alert = makeAlert({
    slack,
    baseUrl: 'https://gvi.example',
    triesOf: async (id) => tries.get(id) ?? 0,
    setTries: async (id, count) => void (count === 0 ? tries.delete(id) : tries.set(id, count)),
    budget: async () => true,
    storm: { begin: async () => {}, goOn: async () => {}, takeEnded: async () => undefined },
    isStillPaused: async (provider, since) => paused.has(`${provider} ${since}`),
    wasAlerted: async (provider, since) => alerted.has(`${provider} ${since}`),
    async markAlerted(provider, since, reason) {
      alerted.add(`${provider} ${since}`);
      told.set(`${provider} ${reason}`, since);
    },
    lastAlerted: async (provider, reason) => told.get(`${provider} ${reason}`),
    ...more,
  });
  const clock = { now };
  return {
    ...{ alert, logged, entries, tries, paused, clock },
    async tell(events: readonly AlertEvent[], signal = new AbortController().signal, isProbe = false) {
      const context = { signal, log, now: () => new Date(clock.now), read: async (id: string) => entries.get(id) };
      return alert.handleBatch(
        events.map((event) => ({ event, attempt: 1, isProbe })),
        context,
      );
    },
  };
}

/** The `alert.sent` of an outcome that holds nothing else. */
export function sentOf(outcome: Outcome | undefined) {
  assert.ok(outcome && 'events' in outcome, `an error: ${outcome && 'error' in outcome ? outcome.error : 'none'}`);
  assert.equal(
    outcome.events.map(({ type }) => type),
    ['alert.sent'],
  );
  return outcome.events[0]!.data as {
    failureId: string;
    eventId: string;
    delivery: string;
    ts?: string;
    digest?: boolean;
  };
}

export function errorOf<T extends Error>(outcome: Outcome | undefined, type: new (...args: never[]) => T): T {
  assert.ok(outcome && 'error' in outcome, 'it should have failed');
  assert.instance(outcome.error, type, String(outcome.error));
  return outcome.error as T;
}
