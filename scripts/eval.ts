/**
 * Scores the meeting prompt and the model on labelled transcripts (`test/eval`): are the right things found, are wrong
 * ones left out, was each quote said, and what did it cost.
 *
 * `npm run eval` asks Gemini when `GEMINI_API_KEY` is set, else it reads the answers in `*.recorded.json`, which score
 * our own checks alone. `npm run eval -- --record` keeps Gemini's answers there. Exits 1 when a quote that was kept
 * stands nowhere in the transcript.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { z } from 'zod';
import { makeSummarize } from '../src/consumers/summarize.js';
import { MEDDIC_ELEMENTS, type MeddicElement, type MeetingSummarized, type StoredEvent } from '../src/lib/events.js';
import { readaiMeetingWebhook } from '../src/lib/payloads/readai.js';
import { type AskResult, type Gemini, makeGemini } from '../src/lib/providers/gemini/gemini.js';
import { DEFAULT_MODEL } from '../src/lib/providers/gemini/models.js';

const FOLDER = join(import.meta.dirname, '..', 'test', 'eval');
const INTERNAL_DOMAINS = ['vendor.example'];
const TIMEOUT_MS = 60_000;

const labelled = z.object({
  about: z.string(),
  /** Words of the quote that each element should rest on; an element that is missing here should not be found. */
  expected: z.partialRecord(z.enum(MEDDIC_ELEMENTS), z.string()),
  meeting: readaiMeetingWebhook,
});
type Labelled = z.infer<typeof labelled>;

const recorded = z.object({
  /** A model's name, or `hand` for an answer that nobody has recorded yet. */
  writtenBy: z.string(),
  tokens: z.object({ prompt: z.number(), output: z.number(), thoughts: z.number() }),
  value: z.unknown(),
});

type Score = {
  transcript: string;
  expected: number;
  found: number;
  wrong: number;
  kept: number;
  dropped: number;
  grounded: number;
  tokens: number;
};

const live = makeLiveGemini();
const isRecording = process.argv.includes('--record');
if (isRecording && !live) {
  console.error('--record needs GEMINI_API_KEY');
  process.exit(2);
}

const names = readdirSync(FOLDER).flatMap((file) => /^([\w-]+)\.json$/.exec(file)?.[1] ?? []);
const scores: Score[] = [];
for (const name of names) scores.push(await scoreOne(name));

console.log(live ? `Answers of ${live.model}` : describeRecorded());
console.table(scores.map(rowOf));
console.log(summaryOf(scores));
process.exitCode = scores.every(({ kept, grounded }) => kept === grounded) ? 0 : 1;

async function scoreOne(name: string): Promise<Score> {
  const { expected, meeting } = labelled.parse(readJson(`${name}.json`));
  const gemini = live ? recordingOf(live, name) : replayOf(name);
  const consumer = makeSummarize({ gemini, internalDomains: INTERNAL_DOMAINS });
  const [summarized] = await consumer.handle(eventOf(name, meeting), {
    signal: new AbortController().signal,
    log: pino({ level: 'silent' }),
    now: () => new Date(),
    read: async () => undefined,
  });
  return scoreOf(name, expected, meeting, summarized!.data);
}

function scoreOf(
  transcript: string,
  expected: Labelled['expected'],
  meeting: Labelled['meeting'],
  { meddic = {}, objections = [], unproven = 0, by }: MeetingSummarized,
): Score {
  const isRight = (element: MeddicElement) => {
    const words = expected[element];
    return words !== undefined && meddic[element]?.quote.toLowerCase().includes(words.toLowerCase());
  };
  const found = MEDDIC_ELEMENTS.filter(isRight).length;
  const quotes = [...Object.values(meddic), ...objections];
  return {
    transcript,
    expected: Object.keys(expected).length,
    found,
    wrong: Object.keys(meddic).length - found,
    kept: quotes.length,
    dropped: unproven,
    grounded: quotes.filter((quote) => isSaid(quote, meeting)).length,
    tokens: by ? by.tokens.prompt + by.tokens.output + by.tokens.thoughts : 0,
  };
}

/** On purpose not by the code that is judged: the plain text stands in what this speaker said. */
function isSaid({ quote, speaker }: { quote: string; speaker: string }, { transcript }: Labelled['meeting']): boolean {
  const blocks = (transcript?.speaker_blocks ?? []).filter((block) => block.speaker?.name === speaker);
  const said = blocks.map(({ words }) => words ?? '').join(' ');
  return said.replace(/\s+/g, ' ').includes(quote.replace(/…$/, ''));
}

function rowOf({ transcript, expected, found, wrong, kept, dropped, grounded, tokens }: Score): object {
  return {
    transcript,
    recall: `${found} of ${expected}`,
    wrong,
    'quotes kept': kept,
    'quotes dropped': dropped,
    'grounding of kept': percent(grounded, kept),
    tokens,
  };
}

function summaryOf(all: readonly Score[]): string {
  const total = (what: 'expected' | 'found' | 'wrong' | 'kept' | 'dropped' | 'grounded' | 'tokens') =>
    all.reduce((sum, score) => sum + score[what], 0);
  return [
    `recall ${percent(total('found'), total('expected'))}`,
    `${total('wrong')} wrong`,
    `grounding of the model ${percent(total('kept'), total('kept') + total('dropped'))}`,
    `of what is kept ${percent(total('grounded'), total('kept'))}`,
    `${Math.round(total('tokens') / Math.max(1, all.length))} tokens a meeting`,
  ].join(', ');
}

function describeRecorded(): string {
  const writers = new Set(names.map((name) => recorded.parse(readJson(`${name}.recorded.json`)).writtenBy));
  return `Recorded answers, written by: ${[...writers].join(', ')}. They score our own checks; set GEMINI_API_KEY to score a model.`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : `${Math.round((100 * part) / whole)} %`;
}

function makeLiveGemini(): Gemini | undefined {
  const { GEMINI_API_KEY: apiKey, GEMINI_MODEL: model = DEFAULT_MODEL, GEMINI_BASE_URL: baseUrl } = process.env;
  return apiKey ? makeGemini({ apiKey, model, baseUrl, timeoutMs: TIMEOUT_MS }) : undefined;
}

function recordingOf(gemini: Gemini, name: string): Pick<Gemini, 'ask'> {
  return {
    async ask(request) {
      const result = await gemini.ask(request);
      const { model, tokens, value } = result;
      const text = `${JSON.stringify({ writtenBy: model, tokens, value }, null, 2)}\n`;
      if (isRecording) writeFileSync(join(FOLDER, `${name}.recorded.json`), text);
      return result;
    },
  };
}

function replayOf(name: string): Pick<Gemini, 'ask'> {
  const { writtenBy, tokens, value } = recorded.parse(readJson(`${name}.recorded.json`));
  return {
    ask: async <T>({ schema }: { schema: z.ZodType<T> }): Promise<AskResult<T>> => ({
      value: schema.parse(value),
      tokens,
      model: writtenBy,
    }),
  };
}

function eventOf(name: string, data: Labelled['meeting']): StoredEvent<'readai.meeting_completed'> {
  const key = `readai:meeting_completed:EVAL-${name}`;
  const at = '2026-11-12T10:31:00.000Z';
  return { id: 'readai-1-0', type: 'readai.meeting_completed', key, at, cause: undefined, data, fields: {} };
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(join(FOLDER, file), 'utf8'));
}
