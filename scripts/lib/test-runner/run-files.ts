/** Runs test files, some of them at once. */
import { availableParallelism } from 'node:os';
import { type FileResult, type RunOptions, runTestFile } from './run-file.js';

/** One more than there are cores, as tests wait more than they compute; with more of them some would be starved. */
export const FILES_AT_ONCE = Math.min(3, availableParallelism() + 1);
/** Twice as many as there are cores: the faults' files wait as long as they compute, and bear to be starved. */
export const FAULT_FILES_AT_ONCE = Math.min(4, 2 * availableParallelism());

export type RunFilesOptions = RunOptions & { atOnce: number };

/** In their order, each begun as soon as there is room. `onResult` is called with each as it is done. */
export async function runTestFiles(
  files: readonly string[],
  { atOnce, ...options }: RunFilesOptions,
  onResult: (result: FileResult) => void,
): Promise<void> {
  const rest = [...files];
  const lanes = Array.from({ length: atOnce }, async () => {
    for (let file = rest.shift(); file !== undefined; file = rest.shift()) {
      onResult(await runTestFile(file, options));
    }
  });
  await Promise.all(lanes);
}
