/** What all alerts have in common. */
import { command, link, type Mrkdwn, mrkdwn } from '../../lib/providers/slack/mrkdwn.js';
import type { SlackMessage } from '../../lib/providers/slack/slack.js';

/** `facts`: the same for the log, without anything of a person. */
export type AlertMessage = SlackMessage & { facts: Record<string, unknown> };

/** Stands before a message of which an earlier copy may be in the channel. */
const POSSIBLE_REPEAT = '(possible repeat) ';

export function markRepeat(headline: string, isRepeat: boolean): string {
  return isRepeat ? `${POSSIBLE_REPEAT}${headline}` : headline;
}

export function redriveCommand(eventIds: readonly string[]): string {
  return `npm run -s gvi -- redrive ${eventIds.join(' ')}`;
}

export function redriveLine(eventIds: readonly string[]): Mrkdwn {
  return mrkdwn`For an engineer, to send ${eventIds.length === 1 ? 'it' : 'them'} again: ${command(redriveCommand(eventIds))}`;
}

/** To the event on the dashboard, where that has an address. */
export function dashboardLink(eventId: string, baseUrl: string | undefined): Mrkdwn[] {
  return baseUrl === undefined ? [] : [link(`${baseUrl}/dashboard#${eventId}`, 'Open it on the dashboard')];
}
