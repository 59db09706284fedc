/**
 * Plausible answers to our two prompts, made of the request's own text: sentences of the transcript become quotes, so
 * that they can be found there again. Anything else gets an answer that fits the schema it came with.
 */
import type { GeminiRequest } from './gemini.js';

export function defaultAnswer(request: GeminiRequest): object {
  const question = request.turns[0]?.text ?? '';
  const booking = between(question, 'booking');
  if (booking !== undefined) return enrichAnswer(JSON.parse(booking) as Booking);
  const transcript = between(question, 'transcript');
  if (transcript !== undefined) return summarizeAnswer(transcript);
  return sampleOf(request.generationConfig.responseSchema) as object;
}

function between(text: string, tag: string): string | undefined {
  return new RegExp(`<${tag}>\\n([\\s\\S]*?)\\n</${tag}>`).exec(text)?.[1];
}

type Booking = {
  email: string;
  companyDomain: string | null;
  known: Record<string, string>;
  answers: { question: string; answer: string }[];
};

function enrichAnswer({ email, companyDomain, known, answers }: Booking): object {
  const longest = [...answers].sort((a, b) => b.answer.length - a.answer.length)[0]?.answer ?? null;
  const wants = longest !== null && longest.split(/\s+/).length > 3 ? longest : null;
  const [firstName, lastName] = /^([a-z]+)\.([a-z]+)@/.exec(email)?.slice(1).map(capitalize) ?? [];
  return {
    wants,
    fitReason: wants === null ? null : 'They describe a need of a team.',
    fit: wants === null ? 'unknown' : companyDomain === null ? 'fair' : 'strong',
    firstName: firstName ?? null,
    lastName: lastName ?? null,
    company: known.company ?? (companyDomain === null ? null : capitalize(companyDomain.split('.')[0]!)),
    jobTitle: known.jobTitle ?? null,
    industry: companyDomain === null ? null : 'Consumer goods',
    website: companyDomain,
  };
}

type Sentence = { speaker: string; isTheirs: boolean; text: string };

const EVIDENCE: Record<string, RegExp> = {
  metrics: /\d|percent|thousand|hours? (a|per)\b/i,
  economicBuyer: /\b(cfo|ceo|signs|sign off|owns the budget)\b/i,
  decisionCriteria: /\b(must|require|compare|integrat|security|comply)/i,
  decisionProcess: /\b(procurement|trial|pilot|legal|committee|by the end of|steps?)\b/i,
  identifiedPain: /\b(lose|lost|problem|struggl|mess|headache|missed|killing|wrong version)/i,
  champion: /\b(i('ll| will| can) (sell|push|introduce|argue|coordinate)|introduce you)\b/i,
};

function summarizeAnswer(transcript: string): object {
  const sentences = transcript.split('\n').flatMap(sentencesOf);
  const theirs = sentences.filter(({ isTheirs }) => isTheirs);
  const elements = Object.entries(EVIDENCE).flatMap(([element, pattern]) => {
    const said = theirs.find(({ text }) => pattern.test(text))?.text ?? null;
    return [
      [`${element}Quote`, said],
      [element, said === null ? null : `The customer says: ${said}`],
      [`${element}Ask`, `What can you tell us about the ${element}?`],
    ];
  });
  const objection = theirs.find(({ text }) => /expensive|worried|concern|too (much|long)/i.test(text));
  const steps = sentences.filter(({ text }) => /\b(i'll|we'll|i will|let's)\b/i.test(text)).slice(0, 3);
  return {
    ...Object.fromEntries(elements),
    objections: objection ? [{ quote: objection.text, text: 'They are worried about this.' }] : [],
    nextSteps: steps.map(({ speaker, text }) => ({ text, owner: speaker, due: null })),
    summary: `A conversation of ${new Set(sentences.map(({ speaker }) => speaker)).size} people. ${theirs[0]?.text ?? ''}`,
  };
}

function sentencesOf(line: string): Sentence[] {
  const [, speaker, side, words] = /^(.*?) \((customer|us|side unknown)\): (.*)$/.exec(line) ?? [];
  if (speaker === undefined || words === undefined) return [];
  const sentences = words.match(/[^.!?]+[.!?]*/g) ?? [];
  return sentences.map((text) => ({ speaker, isTheirs: side !== 'us', text: text.trim() }));
}

function capitalize(word: string): string {
  return word[0]!.toUpperCase() + word.slice(1);
}

type Schema = { type: string; enum?: string[]; properties?: Record<string, Schema> };

function sampleOf(schema: unknown): unknown {
  const { type, enum: values, properties } = (schema ?? { type: 'object' }) as Schema;
  if (type === 'object') {
    return Object.fromEntries(Object.entries(properties ?? {}).map(([name, inner]) => [name, sampleOf(inner)]));
  }
  if (type === 'array') return [];
  if (type === 'boolean') return false;
  return type === 'string' ? (values?.[0] ?? 'text') : 0;
}
