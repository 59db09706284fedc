/** What came out of a meeting, for the people who sell: summary, MEDDIC with evidence, next steps. */
import { clipLine, clipText } from '../lib/clip.js';
import { isInternalMeeting } from '../lib/colleagues.js';
import { defineConsumer } from '../lib/consumer.js';
import type { MeetingSummarized, StoredEvent } from '../lib/events.js';
import type { Gemini } from '../lib/providers/gemini/gemini.js';
import { readPrompt } from './prompts/prompt.js';
import { analyze, STEPS_MAX, SUMMARY_MAX } from './summarize/analyze.js';
import { attendeesOf, makeSideOfSpeaker } from './summarize/attendees.js';
import { TEXT_MAX } from './summarize/meddic.js';
import { turnsOf } from './summarize/transcript.js';

export type SummarizeOptions = {
  /** Without it meetings carry Read.ai's own summary and action items, and no MEDDIC. */
  gemini: Pick<Gemini, 'ask'> | undefined;
  internalDomains: readonly string[];
  promptsDir?: string;
  /** [60000] Longer transcripts are cut for the model: four hours of talk have about so many. */
  transcriptTokensMax?: number;
};

type MeetingEvent = StoredEvent<'readai.meeting_completed'>;

const TRANSCRIPT_TOKENS = 60_000;

export function makeSummarize(options: SummarizeOptions) {
  const { gemini, internalDomains, promptsDir, transcriptTokensMax = TRANSCRIPT_TOKENS } = options;
  const prompt = readPrompt('summarize', promptsDir);
  return defineConsumer({
    name: 'summarize',
    on: ['readai.meeting_completed'],
    emits: ['meeting.summarized'],
    needs: (event) => {
      const hasWords = event.data.transcript?.speaker_blocks.some(({ words }) => words !== undefined) ?? false;
      return gemini !== undefined && hasWords && meetingOf(event, internalDomains).skip === undefined ? ['gemini'] : [];
    },
    async handle(event, { signal, isProbe }) {
      const meeting = meetingOf(event, internalDomains);
      const turns = turnsOf(event.data, makeSideOfSpeaker(event.data, internalDomains));
      // Nobody spoke: there is nothing that a model could find, only what it could invent.
      if (!gemini || meeting.skip !== undefined || turns.length === 0) {
        return [{ type: 'meeting.summarized', data: meeting }];
      }
      const { title, startedAt, attendees } = meeting;
      const analysis = await analyze(
        { title, startedAt, attendees, turns },
        { gemini, prompt, transcriptTokensMax, signal, isProbe },
      );
      return [{ type: 'meeting.summarized', data: { ...meeting, ...analysis } }];
    },
  });
}

/** The meeting as Read.ai tells it, with its own summary and action items and no call to anybody. */
export function meetingOf({ data, key, at }: MeetingEvent, internalDomains: readonly string[]): MeetingSummarized {
  const meetingId = (data.session_id ?? data.meeting_id)!;
  const { attendees, leftOut } = attendeesOf(data, internalDomains);
  const skip = skipOf({ data, attendees, internalDomains });
  return {
    meetingId,
    revision: revisionOf(key, meetingId),
    happenedAt: data.end_time ?? data.start_time ?? at,
    title: clipLine(data.title ?? 'Meeting without a title', 200),
    ...(data.start_time !== undefined && { startedAt: data.start_time }),
    ...(isWebLink(data.report_url) && { reportUrl: data.report_url }),
    attendees,
    ...(leftOut > 0 && { attendeesLeftOut: leftOut }),
    ...(skip !== undefined && { skip }),
    ...(skip === 'internal_meeting' ? { summary: '' } : ownWordsOf(data)),
  };
}

type Skip = MeetingSummarized['skip'];

function skipOf(meeting: {
  data: MeetingEvent['data'];
  attendees: MeetingSummarized['attendees'];
  internalDomains: readonly string[];
}): Skip {
  if (isInternalMeeting(meeting.data, meeting.internalDomains)) return 'internal_meeting';
  const hasLead = meeting.attendees.some(({ side, email }) => side === 'external' && email !== undefined);
  return hasLead ? undefined : 'no_external_email';
}

/** Read.ai's. */
function ownWordsOf({ summary, action_items }: MeetingEvent['data']): Pick<MeetingSummarized, 'summary' | 'nextSteps'> {
  const nextSteps = action_items.slice(0, STEPS_MAX).map((text) => ({ text: clipLine(text, TEXT_MAX) }));
  return { summary: clipText(summary ?? '', SUMMARY_MAX), ...(nextSteps.length > 0 && { nextSteps }) };
}

/** The number after the meeting's own key: `…:r2` is 2, nothing is 1. */
function revisionOf(key: string, meetingId: string): number {
  const rest = key.slice(`readai:meeting_completed:${meetingId}`.length);
  const number = /^:r(\d+)$/.exec(rest)?.[1];
  return number === undefined ? 1 : Number(number);
}

function isWebLink(url: string | undefined): url is string {
  return url !== undefined && url.length <= 500 && /^https?:\/\/\S+$/i.test(url);
}
