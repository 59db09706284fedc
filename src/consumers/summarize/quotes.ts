/**
 * Is it true that somebody said this? A quote counts where its words stand one after the other in one turn, whatever the
 * white space, case and punctuation. What is stored is then the transcript's own text, not the model's.
 */
import type { Turn } from './transcript.js';

export type FoundQuote = Pick<Turn, 'speaker' | 'side'> & { text: string };

type Word = { word: string; start: number; end: number };
type IndexedTurn = { turn: Turn; words: Word[] };

/** Fewer prove nothing: "the budget" stands in every transcript. */
const WORDS_MIN = 3;

/** What to look quotes up in. */
export type QuoteIndex = {
  /** The place where it was said; the customer's, where several said it. */
  find: (quote: string) => FoundQuote | undefined;
  /** True where each word of it was said by somebody, in whatever order. */
  hasWords: (text: string) => boolean;
};

export function indexQuotes(turns: readonly Turn[]): QuoteIndex {
  const indexed = turns.map((turn): IndexedTurn => ({ turn, words: wordsOf(turn.text) }));
  const vocabulary = new Set(indexed.flatMap(({ words }) => words.map(({ word }) => word)));
  return {
    find(quote) {
      const wanted = wordsOf(quote).map(({ word }) => word);
      if (wanted.length < WORDS_MIN) return undefined;
      const places = indexed.flatMap((one) => placeIn(one, wanted) ?? []);
      return (
        places.find(({ side }) => side === 'external') ?? places.find(({ side }) => side === 'unknown') ?? places[0]
      );
    },
    hasWords(text) {
      const words = wordsOf(text);
      return words.length > 0 && words.every(({ word }) => vocabulary.has(word));
    },
  };
}

/** True for words meant for a model: a joke or an attack, no evidence of anything. */
export function addressesTheModel(quote: string): boolean {
  return /\b(ignore|disregard|forget|override)\b.{0,40}\b(instruction|prompt|rule|guideline)s?\b|\bsystem prompt\b|[{[]\s*["'“]/i.test(
    quote,
  );
}

function placeIn({ turn, words }: IndexedTurn, wanted: readonly string[]): FoundQuote | undefined {
  for (let at = 0; at + wanted.length <= words.length; at += 1) {
    if (!wanted.every((word, offset) => words[at + offset]!.word === word)) continue;
    const start = words[at]!.start;
    const end = words[at + wanted.length - 1]!.end;
    return { speaker: turn.speaker, side: turn.side, text: withEdges(turn.text, start, end) };
  }
  return undefined;
}

/** A currency sign before, and the end of the sentence after, belong to it. */
function withEdges(text: string, start: number, end: number): string {
  const before = /[$€£¥₹]?$/.exec(text.slice(0, start))![0];
  const after = /^[%.!?…。！？]*/.exec(text.slice(end))![0];
  return before + text.slice(start, end) + after;
}

/** Scripts written without spaces have each character for a word. */
const WORD =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}]|(?:(?![\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}])[\p{L}\p{N}\p{M}])+/gu;

function wordsOf(text: string): Word[] {
  return Array.from(text.matchAll(WORD), (match) => ({
    word: match[0].normalize('NFKC').toLowerCase(),
    start: match.index,
    end: match.index + match[0].length,
  }));
}
