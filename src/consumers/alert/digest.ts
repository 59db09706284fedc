/** One message for many failures at once: how many, of which kinds, the first few by name, how to send them again. */
import type { Storm } from '../../lib/alert-state.js';
import type { StoredEvent } from '../../lib/events.js';
import { context, fallbackText, fitBlocks, header, plainSection, section } from '../../lib/providers/slack/blocks.js';
import { command, cutPlain, mrkdwn } from '../../lib/providers/slack/mrkdwn.js';
import { explain } from './error-text.js';
import { shortName } from './failure-text.js';
import { type AlertMessage, dashboardLink, markRepeat, redriveCommand, redriveLine } from './message.js';
import type { Subject } from './subject.js';

type FailedEvent = StoredEvent<'event.failed'>;

/** How many are named; the others are counted. */
export const NAMED_MAX = 10;
const REASONS_MAX = 10;
/** More do not fit into one line of Slack's. */
const REDRIVEN_MAX = 50;
const NAME_LENGTH_MAX = 150;

export function digestMessage(
  failures: readonly FailedEvent[],
  options: { subjects: readonly Subject[]; baseUrl: string | undefined; isRepeat: boolean },
): AlertMessage {
  const { subjects, baseUrl, isRepeat } = options;
  const eventIds = failures.map(({ data }) => data.eventId);
  const reasons = countReasons(failures);
  const window = windowOf(failures);
  const headline = markRepeat(`Not in Zoho: ${failures.length} events`, isRepeat);
  const unnamed = failures.length - subjects.length;
  return {
    text: fallbackText(mrkdwn`${headline}. They failed between ${window}. ${reasons[0]!.why} (${reasons[0]!.count})`),
    blocks: fitBlocks([
      header(headline),
      section([mrkdwn`They failed between ${window}:`, ...reasons.slice(0, REASONS_MAX).map(reasonLine)]),
      plainSection([
        ...subjects.map((subject) => `• ${cutPlain(shortName(subject), NAME_LENGTH_MAX)}`),
        ...(unnamed > 0 ? [`… and ${unnamed} more`] : []),
      ]),
      section([redriveLine(eventIds.length > REDRIVEN_MAX ? ['--all'] : eventIds)]),
      context([
        mrkdwn`Everything that failed: ${command('npm run -s gvi -- failed')}`,
        ...dashboardLink(eventIds[0]!, baseUrl),
      ]),
    ]),
    facts: {
      failures: failures.length,
      reasons: reasons.map(({ code, group, count }) => `${code} in ${group}: ${count}`),
      eventIds: eventIds.slice(0, NAMED_MAX),
      redrive: redriveCommand(['--all']),
    },
  };
}

/** The end of what the digests told of. */
export function stormOverMessage({ since, failures }: Storm, quietMs: number): Pick<AlertMessage, 'text' | 'blocks'> {
  const quietMinutes = Math.max(1, Math.round(quietMs / 60_000));
  const headline = 'Quiet again: nothing fails any more';
  return {
    text: fallbackText(mrkdwn`${headline}. ${String(failures)} events failed since ${since}.`),
    blocks: fitBlocks([
      header(headline),
      section([
        mrkdwn`No event has failed for ${String(quietMinutes)} minutes. In all ${String(failures)} have failed since ${since}.`,
        mrkdwn`What still stands failed: ${command('npm run -s gvi -- failed')}`,
      ]),
    ]),
  };
}

type Reason = { code: string; group: string; count: number; why: string; next: string };

/** The most frequent first. */
function countReasons(failures: readonly FailedEvent[]): Reason[] {
  const reasons = new Map<string, Reason>();
  for (const { data } of failures) {
    const { code } = data.error;
    const id = `${code} ${data.group}`;
    const before = reasons.get(id) ?? { code, group: data.group, count: 0, ...explain(code) };
    reasons.set(id, { ...before, count: before.count + 1 });
  }
  return [...reasons.values()].sort((a, b) => b.count - a.count);
}

function reasonLine({ code, group, count, why, next }: Reason) {
  return mrkdwn`• *${count} ×* ${why} ${next} (${code}, ${group})`;
}

/** As in "14:02 and 14:05 UTC". */
function windowOf(failures: readonly FailedEvent[]): string {
  const times = failures.map(({ at }) => at).sort();
  return `${timeOf(times[0]!)} and ${timeOf(times.at(-1)!)} UTC`;
}

function timeOf(instant: string): string {
  return /T(\d\d:\d\d)/.exec(instant)?.[1] ?? instant;
}
