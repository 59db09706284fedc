/**
 * Names as the words they are made of, and an index of many. Who sends a meeting chooses how many names there are, so none
 * is compared with all others: a name is looked up by the word of it that the fewest have.
 */

/** Each once; without case, accents, and what meeting software adds: "Karen Liu (Guest)", "Karen Liu | Brightwater". */
export function wordsOf(name: string): string[] {
  const plain = name
    .replace(/\([^)]*\)|\|.*$/g, ' ')
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase();
  return [...new Set(plain.match(/[\p{L}\p{N}]+/gu))];
}

/** The same text for the same words in any order; '' for none. */
export function foldWords(words: readonly string[]): string {
  return [...words].sort().join(' ');
}

export type NameIndex<T> = {
  /** Whose names hold all of these words. */
  holding: (words: readonly string[]) => T[];
  /** Whose names are made of some of these words alone. */
  within: (words: readonly string[]) => T[];
};

export function indexNames<T extends { words: readonly string[] }>(people: readonly T[]): NameIndex<T> {
  const having = new Map<string, T[]>();
  for (const person of people) for (const word of person.words) addTo(having, word, person);
  const countOf = (word: string) => having.get(word)?.length ?? 0;
  const rarestOf = (words: readonly string[]) =>
    words.reduce((a, b) => (countOf(b) < countOf(a) ? b : a), words[0] ?? '');
  const byRarest = new Map<string, T[]>();
  for (const person of people) addTo(byRarest, rarestOf(person.words), person);
  return {
    holding: (words) => (having.get(rarestOf(words)) ?? []).filter((person) => isPartOf(words, person.words)),
    within: (words) =>
      words.flatMap((word) => byRarest.get(word) ?? []).filter((person) => isPartOf(person.words, words)),
  };
}

function isPartOf(words: readonly string[], others: readonly string[]): boolean {
  return words.every((word) => others.includes(word));
}

function addTo<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}
