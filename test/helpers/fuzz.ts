/**
 * Properties over random input. `FUZZ_RUNS` makes a run long (runs of each property) and its seed a new one, which it says
 * and `FUZZ_SEED` repeats. The short run has always the same seed: what fails in it fails for what was changed.
 */
import fc from 'fast-check';

const runs = process.env.FUZZ_RUNS === undefined ? undefined : Number(process.env.FUZZ_RUNS);
const seed = Number(process.env.FUZZ_SEED ?? (runs === undefined ? 20_260_401 : Math.floor(Math.random() * 2 ** 31)));
const isLong = runs !== undefined && runs > 1_000;
console.log(`FUZZ_SEED=${seed}`);

/** Without `FUZZ_RUNS` so few runs that a whole file takes seconds. Throws with the smallest input that breaks it. */
export async function holds<T>(
  input: fc.Arbitrary<T>,
  property: (value: T) => Promise<void> | void,
  { few }: { few: number },
): Promise<void> {
  const checked = fc.asyncProperty(input, async (value) => {
    await property(value);
  });
  // Making the input smaller costs runs as well; in a short run the first find will do, as the seed repeats it.
  await fc.assert(checked, { seed, numRuns: runs ?? few, ...(isLong ? {} : { endOnFailure: true }) });
}
