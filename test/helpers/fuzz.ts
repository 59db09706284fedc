/**
 * Properties over random input. A run says its seed; `FUZZ_SEED` repeats it, `FUZZ_RUNS` makes it longer (runs of each
 * property).
 */
import fc from 'fast-check';

const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = process.env.FUZZ_RUNS === undefined ? undefined : Number(process.env.FUZZ_RUNS);
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
