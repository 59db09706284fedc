/** One file of a spool. Written at its end by the intake, read from its position by the drain. */
import { type FileHandle, type open, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError } from '../../lib/config.js';
import {
  encodePosition,
  encodeSegmentHeader,
  readRecord,
  readSegmentHeader,
  recordBytesOf,
  SEGMENT_HEADER_BYTES,
  type SpoolRecord,
  type Survey,
  surveyRecords,
} from './format.js';

export type OpenFile = typeof open;

export type Segment = {
  path: string;
  /** Open while it is written to or drained alone: there may be more of them than files may be open. */
  file: FileHandle | undefined;
  /** Up to here the records are done. */
  position: number;
  /** Up to here they are on disk. */
  end: number;
  /** How many lie between the two. */
  records: number;
  /** It holds something to be set aside, and goes to the shelf as a whole; its position on disk stays before that. */
  isKept: boolean;
  /** What was read last; records never change once they are on disk. */
  chunk: { from: number; bytes: Buffer };
};

/** What the drain meets at a segment's position. */
export type Found =
  | { kind: 'record'; record: SpoolRecord; end: number }
  | { kind: 'damaged'; start: number; end: number; bytes: Buffer }
  /** The disk does not give it. */
  | { kind: 'unreadable' };

const READ_BYTES = 256 * 1024;
const NOTHING_READ = { from: 0, bytes: Buffer.alloc(0) };

/** Its name is on disk before anything is written to it that counts. */
export async function createSegment(path: string, openFile: OpenFile): Promise<Segment> {
  const file = await openFile(path, 'wx+', 0o600);
  try {
    await writeAll(file, encodeSegmentHeader(), 0);
    await syncDirectory(dirname(path), openFile);
  } catch (error) {
    await file.close().catch(() => {});
    // A full disk would gather one for each webhook that is refused.
    await rm(path, { force: true }).catch(() => {});
    throw error;
  }
  const ends = { position: SEGMENT_HEADER_BYTES, end: SEGMENT_HEADER_BYTES };
  return { path, file, ...ends, records: 0, isKept: false, chunk: NOTHING_READ };
}

export type Opened = { segment: Segment; survey: Survey; cutBytes: number };

/** A part of the disk that cannot be read this often is not waited for. */
const READS_MAX = 5;
const READ_AGAIN_MS = 100;

/**
 * Opens a segment that an earlier process wrote, and cuts off what cannot be a record. One that is damaged stays, for the drain to
 * set it aside: it may have been answered. Nothing where the disk does not give it.
 */
export async function openSegment(path: string, openFile: OpenFile): Promise<Opened | undefined> {
  const file = await openFile(path, 'r+');
  try {
    const { size } = await file.stat();
    const bytes = await patiently(() => readRange(file, 0, size));
    if (bytes === undefined) return undefined;
    const header = readSegmentHeader(bytes);
    if (header.kind === 'foreign') {
      throw new ConfigError(
        `SPOOL_DIR: ${basename(path)} was written by another version, and should be drained by that one`,
      );
    }
    const position = Math.min(header.position, size);
    const survey = surveyRecords(bytes, position);
    // A file that ends within its header never held a record.
    const isTorn = size < SEGMENT_HEADER_BYTES || isTornOff(bytes.subarray(survey.end));
    const cutBytes = !isTorn ? 0 : size < SEGMENT_HEADER_BYTES ? size : size - survey.end;
    if (cutBytes > 0) {
      await file.truncate(survey.end);
      await file.datasync();
    }
    const end = isTorn ? survey.end : size;
    const segment = {
      path,
      file: undefined,
      position,
      end,
      records: survey.records,
      isKept: false,
      chunk: NOTHING_READ,
    };
    return { segment, survey, cutBytes };
  } finally {
    await file.close();
  }
}

/** Nothing where the disk itself fails again and again, as where a sector is worn out. */
async function patiently<T>(read: () => Promise<T>): Promise<T | undefined> {
  for (let reads = 1; ; reads += 1) {
    try {
      return await read();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
      if (reads === READS_MAX) return undefined;
      await sleep(READ_AGAIN_MS);
    }
  }
}

/**
 * It ends within the header of a record, or is the emptiness by which a power cut leaves a file longer than what was written. What
 * ends within a record was hardly written to its end either, but may also be one whose length is damaged.
 */
function isTornOff(tail: Buffer): boolean {
  const endsInHeader = readRecord(tail, 0).kind === 'incomplete' && recordBytesOf(tail) === undefined;
  return endsInHeader || tail.every((byte) => byte === 0);
}

export function hasHeldRecords({ end }: Segment): boolean {
  return end > SEGMENT_HEADER_BYTES;
}

/** Appends records and brings them to disk; where that fails, nothing of them counts. */
export async function appendRecords(segment: Segment, records: readonly Buffer[]): Promise<void> {
  const bytes = records.length === 1 ? records[0]! : Buffer.concat(records);
  const file = segment.file!;
  try {
    await writeAll(file, bytes, segment.end);
    await file.datasync();
  } catch (error) {
    await file.truncate(segment.end).catch(() => {});
    throw error;
  }
  segment.end += bytes.length;
  segment.records += records.length;
}

/** What stands at the position; there must be something. */
export async function readNext(segment: Segment, openFile: OpenFile): Promise<Found> {
  segment.file ??= await openUnlessGone(segment.path, openFile);
  const { file, position, end } = segment;
  if (file === undefined) {
    segment.records = 0;
    return { kind: 'damaged', start: position, end, bytes: NOTHING_READ.bytes };
  }
  return (await patiently(() => readOnce(segment, file))) ?? { kind: 'unreadable' };
}

async function openUnlessGone(path: string, openFile: OpenFile): Promise<FileHandle | undefined> {
  return openFile(path, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

async function readOnce(segment: Segment, file: FileHandle): Promise<Found> {
  const { position } = segment;
  let reading = readRecord(segment.chunk.bytes, position - segment.chunk.from);
  if (reading.kind !== 'record') {
    segment.chunk = await readChunk(segment, file);
    reading = readRecord(segment.chunk.bytes, 0);
  }
  if (reading.kind !== 'record') return findDamage(segment, file);
  return { kind: 'record', record: reading.record, end: segment.chunk.from + reading.end };
}

/** What stands at the position: one record at least, where one does. */
async function readChunk({ position, end }: Segment, file: FileHandle): Promise<Segment['chunk']> {
  const bytes = await readRange(file, position, Math.min(end, position + READ_BYTES));
  const length = recordBytesOf(bytes) ?? 0;
  const isCut = length > bytes.length && position + length <= end;
  return { from: position, bytes: isCut ? await readRange(file, position, position + length) : bytes };
}

async function findDamage(segment: Segment, file: FileHandle): Promise<Found> {
  const { position, end, records } = segment;
  const rest = await readRange(file, position, end);
  const survey = surveyRecords(rest, 0);
  // Others may have been appended meanwhile.
  segment.records += survey.records - records;
  const first = survey.damaged[0];
  // Where no record follows that is all of the file, and where it was cut short, what is gone.
  if (survey.records === 0) return { kind: 'damaged', start: position, end, bytes: rest };
  const length = first?.start === 0 ? first.end : 0;
  return { kind: 'damaged', start: position, end: position + length, bytes: rest.subarray(0, length) };
}

/** Writes down how far the segment is done. A process' death does not undo it, a power cut may. */
export async function savePosition(file: FileHandle, position: number): Promise<void> {
  const { at, bytes } = encodePosition(position);
  await writeAll(file, bytes, at);
}

export async function removeSegment(segment: Segment, openFile: OpenFile): Promise<void> {
  try {
    await rm(segment.path, { force: true });
  } finally {
    await closeSegment(segment);
  }
  await syncDirectory(dirname(segment.path), openFile);
}

export async function closeSegment(segment: Segment): Promise<void> {
  const { file } = segment;
  segment.file = undefined;
  await file?.close();
}

export async function syncDirectory(dir: string, openFile: OpenFile): Promise<void> {
  const handle = await openFile(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

/** Fewer bytes where the file ends before. */
async function readRange(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(Math.max(0, to - from));
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, from + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
