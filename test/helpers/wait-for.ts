const PAUSE_MS = 15;

/** Asks until `probe` answers something truthy, and returns that. Throws an error that names `what` when it never does. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | false | undefined | null> | T | false | undefined | null,
  timeoutMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
