/** What the tests of `summarize` share: meetings, a run of the consumer, and answers of a model. */
import * as assert from 'uvu/assert';
import { makeSummarize } from '../../src/consumers/summarize.js';
import { catalogue, MEDDIC_ELEMENTS, type MeetingSummarized } from '../../src/lib/events.js';
import { makeGemini } from '../../src/lib/providers/gemini/gemini.js';
import type { GeminiStandin } from '../standins/gemini.js';
import { readFixture, storedEvent, testContext } from './webhook-events.js';

type Person = { name?: string; email?: string | null };
export type Body = {
  session_id?: string;
  participants: Person[];
  owner: Person | null;
  transcript: { speaker_blocks: { speaker: { name: string } | null; words: string }[] } | null;
} & Record<string, unknown>;
export type Options = { withModel?: boolean; key?: string; transcriptTokensMax?: number; internalDomains?: string[] };

export const northwind = (): Body => readFixture<Body>('readai_meeting_completed.json');
export const fixture = (name: string): Body => readFixture<Body>(`readai/meeting-end-${name}.json`);

/** One run of the consumer, with the real client pointed at the stand-in. */
export async function summarizeWith(
  { url }: Pick<GeminiStandin, 'url'>,
  body: Body,
  options: Options = {},
): Promise<MeetingSummarized> {
  const {
    withModel = true,
    key = `readai:meeting_completed:${body.session_id}`,
    internalDomains = ['vendor.example'],
    ...rest
  } = options;
  const gemini = makeGemini({ apiKey: 'k', model: 'gemini-3.5-flash-lite', baseUrl: url, timeoutMs: 5_000 });
  const consumer = makeSummarize({ gemini: withModel ? gemini : undefined, internalDomains, ...rest });
  const [summarized, ...others] = await consumer.handle(
    storedEvent('readai.meeting_completed', body, key),
    testContext(),
  );
  assert.equal(others, []);
  assert.is(summarized?.type, 'meeting.summarized');
  catalogue['meeting.summarized'].data.parse(summarized?.data);
  return summarized!.data;
}

/** A model's answer that found nothing. */
const NOTHING = Object.fromEntries(
  MEDDIC_ELEMENTS.flatMap((element) => [
    [`${element}Quote`, null],
    [element, null],
    [`${element}Ask`, `What about ${element}?`],
  ]),
);
export const answer = (some: object = {}) => ({
  ...NOTHING,
  summary: 'They want a pilot.',
  objections: [],
  nextSteps: [],
  ...some,
});
