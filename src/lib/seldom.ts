/** The share of time that answers may take. */
const SHARE = 0.01;

/**
 * Asks again only when the last answer took no more than a hundredth of the time since: what anyone may ask for, and what
 * takes longer the more there is, takes a bounded part of this process and of Redis. Who asks at once gets one answer.
 */
export function makeSeldom<T>(ask: () => Promise<T>, now: () => number = () => performance.now()): () => Promise<T> {
  let asked: Promise<T> | undefined;
  let freshUntil = Number.NEGATIVE_INFINITY;

  return () => {
    if (asked !== undefined && now() < freshUntil) return asked;
    const startedAt = now();
    // Until it is answered it is what there is; what failed is asked again.
    freshUntil = Number.POSITIVE_INFINITY;
    asked = ask();
    asked.then(
      () => {
        freshUntil = now() + (now() - startedAt) / SHARE;
      },
      () => {
        freshUntil = Number.NEGATIVE_INFINITY;
      },
    );
    return asked;
  };
}
