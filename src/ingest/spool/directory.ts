/** What lies in a spool's directory: made private, owned, read at the start; and the shelf for what cannot be drained. */
import { chmod, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { ConfigError } from '../../lib/config.js';
import { encodeRecord, encodeSegmentHeader, type SpoolRecord } from './format.js';
import {
  closeSegment,
  type OpenFile,
  openSegment,
  removeSegment,
  type Segment,
  syncDirectory,
  writeAll,
} from './segment.js';

const SEGMENT_NAME = /^\d{16}[\w-]*\.spool$/;

/** `unreadable`: what nobody could append or read, kept for a person to look at. */
export type Shelf = {
  dir: string;
  openFile: OpenFile;
  files: number;
  bytes: number;
  /** When it was looked at last, ms since 1970. */
  seenAtMs: number;
};

const LOOK_MS = 5_000;

/** Makes the directory, readable by its owner alone. Throws `ConfigError` where it cannot be used. */
export async function prepareDirectory(dir: string, openFile: OpenFile, log: Logger): Promise<void> {
  for (const path of [resolve(dir), resolve(dir, 'unreadable')]) {
    try {
      const firstMade = (await mkdir(path, { recursive: true, mode: 0o700 })) ?? path;
      await syncAbove(path, resolve(firstMade), openFile);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw unwritableError(code);
    }
    // A mounted volume may belong to somebody else, and its group be what lets us write.
    await chmod(path, 0o700).catch((error: NodeJS.ErrnoException) => {
      log.warn({ code: error.code }, 'the mode of SPOOL_DIR could not be set to 0700');
    });
  }
}

export function unwritableError(code: string | undefined): ConfigError {
  return new ConfigError(`The settings cannot be used:\n  SPOOL_DIR: should be a directory to write to (${code})`);
}

/** Brings the names of the directories from `first` down to `last` to disk. */
async function syncAbove(last: string, first: string, openFile: OpenFile): Promise<void> {
  const above = dirname(last);
  await syncDirectory(above, openFile);
  if (last !== first && above !== last) await syncAbove(above, first, openFile);
}

export function segmentPath(dir: string, firstSeq: number): string {
  return join(dir, `${nameOf(firstSeq)}.spool`);
}

/** The segments with something in them, oldest first; the others are removed. */
export async function openSegments(
  dir: string,
  openFile: OpenFile,
  log: Logger,
): Promise<{ segments: Segment[]; lastSeq: number }> {
  const segments: Segment[] = [];
  let lastSeq = 0;
  for (const name of (await readdir(dir)).filter((name) => SEGMENT_NAME.test(name)).sort()) {
    const opened = await openSegment(join(dir, name), openFile);
    if (opened === undefined) {
      log.error({ file: name }, 'a spool file cannot be read: it is kept whole, and not drained');
      await rename(join(dir, name), join(dir, 'unreadable', name));
      continue;
    }
    const { segment, survey, cutBytes } = opened;
    lastSeq = Math.max(lastSeq, survey.lastSeq);
    if (cutBytes > 0) log.warn({ file: name, cutBytes }, 'the torn end of a spool file was cut off');
    if (segment.position < segment.end) segments.push(segment);
    else await removeSegment(segment, openFile);
  }
  return { segments, lastSeq };
}

export async function readShelf(dir: string, openFile: OpenFile): Promise<Shelf> {
  const shelf: Shelf = { dir: join(dir, 'unreadable'), openFile, files: 0, bytes: 0, seenAtMs: Date.now() };
  await measureShelf(shelf);
  return shelf;
}

async function measureShelf(shelf: Shelf): Promise<void> {
  const sizes: number[] = [];
  for (const name of await readdir(shelf.dir)) sizes.push((await stat(join(shelf.dir, name))).size);
  shelf.files = sizes.length;
  shelf.bytes = sizes.reduce((sum, size) => sum + size, 0);
}

/** Looks, beside all else and now and then, whether a person has taken files away: `onRoom` is then called. */
export function lookAtShelf(shelf: Shelf, onRoom: () => void): void {
  const now = Date.now();
  if (shelf.files === 0 || Math.abs(now - shelf.seenAtMs) < LOOK_MS) return;
  shelf.seenAtMs = now;
  const before = shelf.bytes;
  const measured = measureShelf(shelf).then(() => {
    if (shelf.bytes < before) onRoom();
  });
  // A file that is taken away just now is not there to be measured: it is looked again.
  measured.catch(() => {});
}

/** A segment of its own: moved back into the spool's directory, it is tried again at the next start. */
export function shelveRecord(shelf: Shelf, record: SpoolRecord): Promise<string> {
  const bytes = Buffer.concat([encodeSegmentHeader(), encodeRecord(record)]);
  return shelve(shelf, `${nameOf(record.seq)}-refused.spool`, bytes);
}

export function shelveDamage(shelf: Shelf, segment: Segment, start: number, bytes: Buffer): Promise<string> {
  return shelve(shelf, `${basename(segment.path, '.spool')}-${start}.damaged`, bytes);
}

/** Answers the file's name. Writing it twice is the same as once, as a crash may make it be; a part of it does not stay. */
async function shelve(shelf: Shelf, name: string, bytes: Buffer): Promise<string> {
  const path = join(shelf.dir, name);
  try {
    const file = await shelf.openFile(path, 'w', 0o600);
    try {
      await writeAll(file, bytes, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await syncDirectory(shelf.dir, shelf.openFile);
  } catch (error) {
    await rm(path, { force: true }).catch(() => {});
    throw error;
  }
  shelf.files += 1;
  shelf.bytes += bytes.length;
  return name;
}

/** For a segment that is done: it takes no room on a full disk. Moved back, what was appended is recognised. */
export async function shelveSegment(shelf: Shelf, segment: Segment): Promise<void> {
  const { path, end } = segment;
  try {
    await rename(path, join(shelf.dir, basename(path)));
  } finally {
    await closeSegment(segment);
  }
  shelf.files += 1;
  shelf.bytes += end;
  for (const dir of [shelf.dir, dirname(path)]) await syncDirectory(dir, shelf.openFile);
}

function nameOf(seq: number): string {
  return String(seq).padStart(16, '0');
}
