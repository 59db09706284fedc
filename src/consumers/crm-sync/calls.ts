/** Zoho takes a hundred records a call; a batch of meetings may concern more leads than that. */
export const RECORDS_MAX = 100;

/** Calls for a hundred at a time, one after another; the answers stand in the order of the items. */
export async function inCalls<Item, Answer>(
  items: readonly Item[],
  call: (part: readonly Item[]) => Promise<readonly Answer[]>,
): Promise<(Answer | undefined)[]> {
  const answers: (Answer | undefined)[] = [];
  for (let start = 0; start < items.length; start += RECORDS_MAX) {
    const part = items.slice(start, start + RECORDS_MAX);
    const given = await call(part);
    answers.push(...part.map((_, index) => given[index]));
  }
  return answers;
}

/** Runs for each item, so many at once; ends with the first failure. */
export async function inParallel<Item>(
  items: readonly Item[],
  parallelMax: number,
  run: (item: Item) => Promise<void>,
): Promise<void> {
  const left = [...items];
  const next = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await run(item);
  };
  await Promise.all(Array.from({ length: Math.min(parallelMax, items.length) }, next));
}
