import { rmSync } from 'node:fs';

/** Of a Redis that was killed a child may go on writing there for some seconds: it is tried again for five. */
export function removeDir(dir: string): void {
  rmSync(dir, { recursive: true, force: true, maxRetries: 10 });
}
