/** A disk of its own that can be full: a tmpfs, which only root may mount. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type SmallDisk = {
  dir: string;
  /** Nothing more can be written. Returns what makes room again. */
  fill: () => () => void;
};

const SIZE_MB = 48;
const PART = Buffer.alloc(65_536);

export const mayMount = process.platform === 'linux' && process.getuid?.() === 0;

/** It is unmounted when the process ends. */
export function mountSmallDisk(): SmallDisk {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MB}m`, 'gvi-tests', dir]);
  process.once('exit', () => {
    execFileSync('umount', ['--lazy', dir]);
    rmSync(dir, { recursive: true });
  });
  return {
    dir,
    fill() {
      const filler = join(dir, 'filler');
      const file = openSync(filler, 'w');
      try {
        while (writeSync(file, PART) === PART.length);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      } finally {
        closeSync(file);
      }
      return () => rmSync(filler);
    },
  };
}
