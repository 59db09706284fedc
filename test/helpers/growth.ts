/**
 * Does the work grow with the input, or with its square? Told by a ratio of one machine's own CPU times in one go, since a
 * bound on milliseconds would tell the machine's load.
 */

const FACTOR = 16;
const ROUNDS = 5;

/** What an input `FACTOR` times as long may cost at most: seven times its share; the square would be 256. */
export const GROWTH_MAX = 7 * FACTOR;

/** By how much more work an input of `FACTOR` times the size is; the best of several rounds for each. */
export function growthOf<T>(work: (input: T) => unknown, make: (size: number) => T, size: number): number {
  const [small, large] = [make(size), make(size * FACTOR)];
  return costOf(work, large) / costOf(work, small);
}

/** The cost of one input in that of another of its length. */
export function ratioOf<T>(work: (input: T) => unknown, input: T, usual: T): number {
  return costOf(work, input) / costOf(work, usual);
}

function costOf<T>(work: (input: T) => unknown, input: T): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    // Of this process alone: what others do meanwhile costs it nothing.
    const before = process.cpuUsage();
    work(input);
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, user + system);
  }
  return best;
}
