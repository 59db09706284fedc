/** Asks a model for summary, MEDDIC and next steps of a meeting, and keeps what the transcript bears out. */
import { z } from 'zod';
import { clipLine, clipText } from '../../lib/clip.js';
import type { Context } from '../../lib/consumer.js';
import { MEDDIC_ELEMENTS, type MeddicElement, type MeetingSummarized } from '../../lib/events.js';
import { type AnswerField, answerObject, listOf, text, textOrNull } from '../../lib/providers/gemini/answer-schema.js';
import type { Gemini } from '../../lib/providers/gemini/gemini.js';
import { delimit, type Prompt } from '../prompts/prompt.js';
import type { Attendee } from './attendees.js';
import { type ElementClaim, type Judged, judge, TEXT_MAX } from './meddic.js';
import { indexQuotes, type QuoteIndex } from './quotes.js';
import { renderTranscript, type Turn } from './transcript.js';

export const SUMMARY_MAX = 4000;
export const STEPS_MAX = 10;

const optional = z
  .string()
  .nullish()
  .transform((value) => value?.trim() ?? '')
  .transform((value) => (/^(null|none|n\/a|-)?$/i.test(value) ? undefined : value));

const claim = z.object({ quote: optional, text: optional });
const step = z.object({ text: optional, owner: optional, due: optional });

const elementFields = (element: MeddicElement) => ({ quote: `${element}Quote`, text: element, ask: `${element}Ask` });

/** Flat: `metricsQuote`, `metrics`, `metricsAsk` and so on for each element. */
const answer = z.looseObject({
  ...Object.fromEntries(
    MEDDIC_ELEMENTS.flatMap((element) => Object.values(elementFields(element))).map((name) => [name, optional]),
  ),
  summary: z.string().trim().min(1),
  objections: z.array(claim).nullish(),
  nextSteps: z.array(step).nullish(),
});

const ELEMENT_QUESTIONS: Record<MeddicElement, string> = {
  metrics: 'Which measurable outcome or cost, with numbers',
  economicBuyer: 'Who can say yes to the money',
  decisionCriteria: 'What they will compare us on',
  decisionProcess: 'Which steps, people and dates lead to a signature',
  identifiedPain: 'What hurts, and what follows from it',
  champion: 'Who sells for us inside, and by which deed',
};

const responseSchema = answerObject({
  ...Object.assign(
    {},
    ...MEDDIC_ELEMENTS.map((element): Record<string, AnswerField> => {
      const names = elementFields(element);
      return {
        [names.quote]: textOrNull('The customer, letter by letter'),
        [names.text]: textOrNull(ELEMENT_QUESTIONS[element]),
        [names.ask]: text('The question to ask next about it'),
      };
    }),
  ),
  objections: listOf(
    answerObject({ quote: text('The customer, letter by letter'), text: text('The objection in one sentence') }),
    STEPS_MAX,
    'What the customer is worried about with us',
  ),
  nextSteps: listOf(
    answerObject({
      text: text('What will be done'),
      owner: textOrNull('Who said they would'),
      due: textOrNull('When, in their words'),
    }),
    STEPS_MAX,
    'What was agreed to be done',
  ),
  summary: text('Three to six sentences in the language of the meeting'),
});

export type MeetingToAnalyze = {
  title: string;
  startedAt: string | undefined;
  attendees: readonly Attendee[];
  turns: readonly Turn[];
};

type Analysis = Judged & { [K in 'by' | 'summary' | 'nextSteps']: NonNullable<MeetingSummarized[K]> };

export async function analyze(
  meeting: MeetingToAnalyze,
  { gemini, prompt, transcriptTokensMax, signal, isProbe }: AnalyzeDeps,
): Promise<Analysis> {
  const { value, tokens, model } = await gemini.ask({
    system: prompt.text,
    user: describe(meeting, transcriptTokensMax),
    schema: answer,
    responseSchema,
    signal,
    isProbe,
    repairHint: 'Copy each quote from the transcript above, letter by letter.',
  });
  const quotes = indexQuotes(meeting.turns);
  const objections = (value.objections ?? []).slice(0, STEPS_MAX);
  return {
    by: { model, prompt: prompt.version, tokens },
    summary: clipText(value.summary, SUMMARY_MAX),
    ...judge(claimsOf(value), objections, quotes),
    nextSteps: stepsOf(value.nextSteps ?? [], meeting.attendees, quotes),
  };
}

export type AnalyzeDeps = {
  gemini: Pick<Gemini, 'ask'>;
  prompt: Prompt;
  transcriptTokensMax: number;
} & Pick<Context, 'signal' | 'isProbe'>;

/** No addresses: a model needs none to tell who said what. */
function describe({ title, startedAt, attendees, turns }: MeetingToAnalyze, tokensMax: number): string {
  const people = attendees.map(({ name, side }) => ({ name, side }));
  const about = delimit('meeting', JSON.stringify({ title, startedAt, people }));
  return `${about}\n\n${delimit('transcript', renderTranscript(turns, tokensMax))}`;
}

function claimsOf(value: Record<string, unknown>): Record<MeddicElement, ElementClaim> {
  const claims = MEDDIC_ELEMENTS.map((element): [MeddicElement, ElementClaim] => {
    const names = elementFields(element);
    const field = (name: string) => value[name] as string | undefined;
    return [element, { quote: field(names.quote), text: field(names.text), ask: field(names.ask) }];
  });
  return Object.fromEntries(claims) as Record<MeddicElement, ElementClaim>;
}

/** An owner whom nobody knows and a date that nobody named are left out; the step itself stays. */
function stepsOf(steps: readonly z.infer<typeof step>[], attendees: readonly Attendee[], quotes: QuoteIndex) {
  const names = attendees.map(({ name }) => name.toLowerCase());
  return steps.slice(0, STEPS_MAX).flatMap(({ text, owner, due }) => {
    if (text === undefined) return [];
    const isKnown = owner !== undefined && (names.includes(owner.toLowerCase()) || quotes.hasWords(owner));
    return {
      text: clipLine(text, TEXT_MAX),
      ...(isKnown && { owner: clipLine(owner, 100) }),
      ...(due !== undefined && quotes.hasWords(due) && { due: clipLine(due, 100) }),
    };
  });
}
