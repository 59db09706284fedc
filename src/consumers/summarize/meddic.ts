/** From what a model found to what may be believed: a finding without a customer's own words behind it is none. */
import { clipLine } from '../../lib/clip.js';
import { type Finding, MEDDIC_ELEMENTS, type MeddicElement, type MeetingSummarized } from '../../lib/events.js';
import { addressesTheModel, type FoundQuote, type QuoteIndex } from './quotes.js';

export const TEXT_MAX = 400;
const QUOTE_MAX = 500;

/** As the model gave it. */
export type Claim = { quote: string | undefined; text: string | undefined };
export type ElementClaim = Claim & { ask: string | undefined };

export type Judged = {
  [K in 'meddic' | 'unknown' | 'objections' | 'unproven']: NonNullable<MeetingSummarized[K]>;
};

export function judge(
  elements: Record<MeddicElement, ElementClaim>,
  objections: readonly Claim[],
  quotes: QuoteIndex,
): Judged {
  const judged: Judged = { meddic: {}, unknown: [], objections: [], unproven: 0 };
  for (const element of MEDDIC_ELEMENTS) {
    const claim = elements[element];
    const found = prove(claim, quotes);
    if (found === 'unproven') judged.unproven += 1;
    else if (found !== 'nothing') judged.meddic[element] = findingOf(found);
    if (judged.meddic[element]?.status !== 'confirmed') {
      judged.unknown.push({ element, ask: clipLine(claim.ask ?? NEXT_QUESTION[element], TEXT_MAX) });
    }
  }
  for (const objection of objections) {
    const found = prove(objection, quotes);
    if (found === 'unproven') judged.unproven += 1;
    else if (found !== 'nothing') {
      const { status: _, ...said } = findingOf(found);
      judged.objections.push(said);
    }
  }
  return judged;
}

type Proven = { text: string; said: FoundQuote };

/** `unproven`: nobody said it, we said it ourselves, or it was said to the model. */
function prove({ quote, text }: Claim, quotes: QuoteIndex): Proven | 'unproven' | 'nothing' {
  if (text === undefined) return 'nothing';
  const said = quote === undefined ? undefined : quotes.find(quote);
  if (said === undefined || said.side === 'internal' || addressesTheModel(said.text)) return 'unproven';
  return { text, said };
}

function findingOf({ text, said }: Proven): Finding {
  return {
    text: clipLine(text, TEXT_MAX),
    quote: clipLine(said.text, QUOTE_MAX),
    speaker: said.speaker,
    status: said.side === 'external' ? 'confirmed' : 'partial',
  };
}

const NEXT_QUESTION: Record<MeddicElement, string> = {
  metrics: 'What does the present way of working cost you in time or money, and what should it be?',
  economicBuyer: 'Who signs off on a purchase like this?',
  decisionCriteria: 'What must a solution do for you to choose it?',
  decisionProcess: 'Which steps and people stand between today and a signature, and by when?',
  identifiedPain: 'What goes wrong today, and what happens if it stays so?',
  champion: 'Who else wins when this works, and would you introduce us?',
};
