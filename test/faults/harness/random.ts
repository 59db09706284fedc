/** Randomness that can be had again: all choices of a run follow from its seed. */
import { randomInt } from 'node:crypto';

export type Random = {
  /** Of the whole run: what `FAULTS_SEED` is set to for another like it. */
  seed: string;
  /** 0 ≤ next < 1. */
  next: () => number;
  /** A whole number; both ends may come. */
  int: (min: number, max: number) => number;
  chance: (probability: number) => boolean;
  pick: <T>(items: readonly T[]) => T;
  shuffle: <T>(items: readonly T[]) => T[];
  /** Unique within the run, the same in a second run of the same seed. */
  id: (prefix: string) => string;
  /** A stream of its own, so that a further draw here changes nothing there. */
  fork: (name: string) => Random;
};

/** `FAULTS_SEED`, or one that nobody has seen. */
export function seedOfRun(): string {
  return process.env.FAULTS_SEED ?? String(randomInt(1, 1_000_000_000));
}

export function makeRandom(seed: string, path = ''): Random {
  const start = hashOf(`${seed}${path}`);
  const next = makeGenerator(start);
  let ids = 0;
  const int = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return {
    seed,
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (items) => items[int(0, items.length - 1)]!,
    shuffle(items) {
      const rest = [...items];
      for (let i = rest.length - 1; i > 0; i -= 1) {
        const j = int(0, i);
        [rest[i], rest[j]] = [rest[j]!, rest[i]!];
      }
      return rest;
    },
    id(prefix) {
      ids += 1;
      return `${prefix}${start.toString(36)}x${ids.toString(36)}`;
    },
    fork: (name) => makeRandom(seed, `${path}/${name}`),
  };
}

/** Mulberry32. */
function makeGenerator(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  return hash >>> 0;
}
