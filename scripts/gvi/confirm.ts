import { createInterface } from 'node:readline/promises';
import { UsageError } from '../../src/lib/command-line.js';
import { showLine } from './format.js';

/** Asks the person at the terminal. Throws `UsageError` where there is none: then `--yes` must be said. */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError(`${question} Say --yes to do it.`);
  const ask = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await ask.question(`${showLine(question)} [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } catch (error) {
    // Ctrl-D and Ctrl-C are a no.
    if ((error as Error).name !== 'AbortError') throw error;
    process.stderr.write('\n');
    return false;
  } finally {
    ask.close();
  }
}
