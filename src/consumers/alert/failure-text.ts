/** The message about one event that failed for good: who, what is missing, why, what to do. */
import type { StoredEvent } from '../../lib/events.js';
import { context, fallbackText, fitBlocks, header, plainSection, section } from '../../lib/providers/slack/blocks.js';
import { cutPlain, mrkdwn, oneLine } from '../../lib/providers/slack/mrkdwn.js';
import { explain } from './error-text.js';
import { type AlertMessage, dashboardLink, markRepeat, redriveCommand, redriveLine } from './message.js';
import { nameOf, type Subject } from './subject.js';

type FailedEvent = StoredEvent<'event.failed'>;

const NAME_LENGTH_MAX = 200;
const TITLE_LENGTH_MAX = 120;
const DETAIL_LENGTH_MAX = 300;

export function failureMessage(
  { id, data }: FailedEvent,
  { subject, baseUrl, isRepeat }: { subject: Subject; baseUrl: string | undefined; isRepeat: boolean },
): AlertMessage {
  const { eventId, error, group, attempts } = data;
  const { why, next } = explain(error.code);
  const happened = whatHappened(subject);
  const headline = markRepeat(headlineOf(subject), isRepeat);
  const detail = cutPlain(oneLine(error.message), DETAIL_LENGTH_MAX);
  return {
    text: fallbackText(mrkdwn`${headline}. ${happened} ${why} ${next} ${redriveLine([eventId])}`),
    blocks: fitBlocks([
      header(headline),
      plainSection([happened, ...othersOf(subject)]),
      section([mrkdwn`*Why:* ${why}`, mrkdwn`*What to do:* ${next}`]),
      section([redriveLine([eventId]), ...dashboardLink(eventId, baseUrl)]),
      context([mrkdwn`${detail} · ${error.code} · ${group}, attempt ${attempts} · ${eventId}`]),
    ]),
    facts: { failureId: id, eventId, group, code: error.code, attempts, redrive: redriveCommand([eventId]) },
  };
}

/** As in "Ada Lovelace (ada@example.com)", or the meeting's title. */
export function shortName(subject: Subject): string {
  if (subject.kind === 'meeting') return `meeting “${cutPlain(oneLine(subject.title), TITLE_LENGTH_MAX)}”`;
  if (subject.kind === 'unknown') return `an event from ${subject.source}`;
  return cutPlain(oneLine(nameOf(subject.people[0] ?? {})), NAME_LENGTH_MAX);
}

function headlineOf(subject: Subject): string {
  if (subject.kind === 'meeting' || subject.kind === 'unknown') return `Not in Zoho: ${shortName(subject)}`;
  const { name, email } = subject.people[0] ?? {};
  return `Not in Zoho: ${name ?? email ?? 'somebody who left no name'}`;
}

function whatHappened(subject: Subject): string {
  const who = shortName(subject);
  switch (subject.kind) {
    case 'booked':
      return `${who} booked a call. The lead is not in Zoho yet.`;
    case 'routed':
      return `${who} filled in a form. The lead is not in Zoho yet.`;
    case 'rescheduled':
    case 'moved_away':
      return `${who} moved a call. The new time is not in Zoho yet.`;
    case 'canceled':
      return `The call with ${who} was canceled. Zoho does not say so yet.`;
    case 'no_show':
      return `${who} did not come to a call. Zoho does not say so yet.`;
    case 'no_show_undone':
      return `${who} came to the call after all. Zoho still says no-show.`;
    case 'meeting':
      return `The summary of the ${who} is not in Zoho yet.`;
    case 'unknown':
      return `Something that ${subject.source} sent is not in Zoho. Its entry cannot be read, so whom it concerns is not known.`;
  }
}

/** Whose records lack the meeting. */
function othersOf({ kind, people }: Subject): string[] {
  if (kind !== 'meeting' || people.length === 0) return [];
  return [`With ${people.map((person) => cutPlain(oneLine(nameOf(person)), NAME_LENGTH_MAX)).join('; ')}`];
}
