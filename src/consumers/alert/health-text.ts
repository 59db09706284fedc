/** The messages about a provider that is down, and up again. */
import type { ProviderHealth, StoredEvent } from '../../lib/events.js';
import { context, fallbackText, fitBlocks, header, section } from '../../lib/providers/slack/blocks.js';
import { type Mrkdwn, mrkdwn } from '../../lib/providers/slack/mrkdwn.js';
import { explainPause } from './error-text.js';
import { type AlertMessage, markRepeat } from './message.js';

type Provider = ProviderHealth['provider'];

const NAMES: Record<Provider, string> = { zoho: 'Zoho', gemini: 'Gemini', slack: 'Slack' };

const WAITING: Record<Provider, string> = {
  zoho: 'Bookings and meetings are taken in, but none reaches the CRM until then; none is lost.',
  gemini: 'New bookings and meetings wait for their assessment, and reach the CRM afterwards; none is lost.',
  slack: 'Alerts wait, and come afterwards.',
};

export function pausedMessage(event: StoredEvent<'provider.paused'>, isRepeat: boolean): AlertMessage {
  const { provider, kind, reason, since } = event.data;
  const name = NAMES[provider];
  const explained = explainPause(kind, reason);
  if (explained !== undefined) {
    const headline =
      kind === 'configuration'
        ? `${name} does not let us in: somebody must act`
        : `${name} has turned us away since ${timeOf(since)}: a limit is used up`;
    return healthMessage(event, markRepeat(headline, isRepeat), [
      mrkdwn`*Why:* ${explained.why}`,
      mrkdwn`*What to do:* ${explained.next}`,
      mrkdwn`*Until then:* ${WAITING[provider]}`,
    ]);
  }
  return healthMessage(event, markRepeat(`${name} has been out of reach since ${timeOf(since)}`, isRepeat), [
    mrkdwn`*Until it is back:* ${WAITING[provider]}`,
    mrkdwn`*What to do:* Nothing; the work goes on by itself once ${name} answers. Its status page may say how long.`,
  ]);
}

export function resumedMessage(event: StoredEvent<'provider.resumed'>, isRepeat: boolean): AlertMessage {
  const { provider, since } = event.data;
  const name = NAMES[provider];
  return healthMessage(event, markRepeat(`${name} works again`, isRepeat), [
    mrkdwn`It did not from ${timeOf(since)} to ${timeOf(event.at)}. What waited is being done now.`,
  ]);
}

function healthMessage(
  { id, type, data }: StoredEvent<'provider.paused' | 'provider.resumed'>,
  headline: string,
  lines: readonly Mrkdwn[],
): AlertMessage {
  const { provider, kind, reason, since } = data;
  const told = lines.map((line) => line.mrkdwn).join(' ');
  return {
    text: fallbackText(mrkdwn`${headline}. ${{ mrkdwn: told }}`),
    blocks: fitBlocks([header(headline), section(lines), context([mrkdwn`${provider}: ${reason} · ${id}`])]),
    facts: { eventId: id, type, provider, kind, reason, since },
  };
}

/** As in "14:02 UTC on 23 Nov". */
function timeOf(instant: string): string {
  const date = new Date(instant);
  if (Number.isNaN(date.getTime())) return instant;
  const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' }).format(date);
  return `${date.toISOString().slice(11, 16)} UTC on ${day}`;
}
