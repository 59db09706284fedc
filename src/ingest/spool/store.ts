/** The records of a spool: put in at the end, many with one fsync, and taken out at the front, one by one. */
import { basename } from 'node:path';
import type { Logger } from 'pino';
import {
  lookAtShelf,
  openSegments,
  readShelf,
  segmentPath,
  shelveDamage,
  shelveRecord,
  shelveSegment,
} from './directory.js';
import { encodeRecord, type SpooledWebhook, type SpoolRecord } from './format.js';
import {
  appendRecords,
  closeSegment,
  createSegment,
  type Found,
  hasHeldRecords,
  type OpenFile,
  readNext,
  removeSegment,
  type Segment,
  savePosition,
} from './segment.js';

/** The spool did not take the webhook; the message goes to the log. */
export class SpoolRefusedError extends Error {
  override readonly name = 'SpoolRefusedError';
}

export type StoreFigures = {
  records: number;
  /** On disk, what was set aside included. */
  bytes: number;
  /** Files set aside. */
  unreadable: number;
  /** When the record at the front was taken in, where there is one and it was looked at. */
  oldestAtMs: number | undefined;
};

export type SpoolStore = {
  /** Answers the record's number once it is on disk. Throws `SpoolRefusedError`, within `deadlineMs`. */
  put: (webhook: SpooledWebhook, delivery: string) => Promise<number>;
  /** Nothing on disk, nor on its way there. */
  isEmpty: () => boolean;
  /** The record at the front, or undefined. */
  head: () => Promise<SpoolRecord | undefined>;
  /** The head is done. */
  removeHead: () => void;
  /** The head cannot be done: it goes where a person finds it. Answers the file's name. */
  setHeadAside: () => Promise<string>;
  /** Called when there may be something new at the front, or nothing any more. */
  onChange: (listener: () => void) => void;
  health: () => 'accepting' | 'full' | 'failing';
  figures: () => StoreFigures;
  /** Brings to disk what is on its way there, and closes the files. */
  close: () => Promise<void>;
};

export type StoreOptions = {
  dir: string;
  bytesMax: number;
  /** How long a webhook waits for the disk. */
  deadlineMs: number;
  segmentBytesMax: number;
  openFile: OpenFile;
  /** Throws where the directory is another process' by now. */
  confirmOwner: () => Promise<void>;
  log: Logger;
};

type Waiting = { bytes: Buffer; seq: number; resolve: () => void; reject: (error: Error) => void };

const BATCH_BYTES_MAX = 16 * 1024 * 1024;
const FAILING_MS = 5_000;

export async function openStore(options: StoreOptions): Promise<SpoolStore> {
  const { dir, bytesMax, deadlineMs, segmentBytesMax, openFile, confirmOwner, log } = options;
  const { segments, lastSeq } = await openSegments(dir, openFile, log);
  const shelf = await readShelf(dir, openFile);
  let nextSeq = Math.max(lastSeq + 1, Date.now() * 1_000);
  let queue: Waiting[] = [];
  let queuedBytes = 0;
  let batchBytes = 0;
  let active: Segment | undefined;
  let writing: Promise<void> | undefined;
  let front: { record: SpoolRecord; segment: Segment; end: number } | undefined;
  let saving: Promise<void> = Promise.resolve();
  let isSaving = false;
  let refusedForSpace = false;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let notify = () => {};
  const removals = new Set<Promise<void>>();

  const bytesOnDisk = () => segments.reduce((sum, { end }) => sum + end, shelf.bytes);
  const countRecords = () => segments.reduce((sum, { records }) => sum + records, 0);

  function noteRoom(): void {
    refusedForSpace = false;
  }

  function put(webhook: SpooledWebhook, delivery: string): Promise<number> {
    const seq = nextSeq;
    const bytes = encodeRecord({ seq, receivedAtMs: Date.now(), delivery, webhook });
    if (bytesOnDisk() + queuedBytes + batchBytes + bytes.length > bytesMax) {
      refusedForSpace = true;
      lookAtShelf(shelf, noteRoom);
      return Promise.reject(new SpoolRefusedError('the spool is full'));
    }
    // What was refused may have been a large one.
    refusedForSpace = false;
    nextSeq += 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => giveUp(waiting), deadlineMs);
      const settle = (act: () => void) => {
        clearTimeout(timer);
        act();
      };
      const waiting: Waiting = {
        bytes,
        seq,
        resolve: () => settle(() => resolve(seq)),
        reject: (cause) => settle(() => reject(new SpoolRefusedError(`the spool's disk: ${cause.message}`, { cause }))),
      };
      queue.push(waiting);
      queuedBytes += bytes.length;
      writing ??= writeQueued();
    });
  }

  function giveUp(waiting: Waiting): void {
    failedAtMs = performance.now();
    if (queue.includes(waiting)) {
      queue = queue.filter((other) => other !== waiting);
      queuedBytes -= waiting.bytes.length;
    }
    waiting.reject(new Error(`no answer within ${deadlineMs} ms`));
  }

  async function writeQueued(): Promise<void> {
    // What arrives in the same turn shares the first fsync already.
    await null;
    while (queue.length > 0) await commit(takeBatch());
    writing = undefined;
    dropDone();
    notify();
  }

  function takeBatch(): Waiting[] {
    let count = 0;
    batchBytes = 0;
    while (count < queue.length && (count === 0 || batchBytes + queue[count]!.bytes.length <= BATCH_BYTES_MAX)) {
      batchBytes += queue[count]!.bytes.length;
      count += 1;
    }
    queuedBytes -= batchBytes;
    return queue.splice(0, count);
  }

  async function commit(batch: readonly Waiting[]): Promise<void> {
    try {
      await confirmOwner();
      active ??= await addSegment(batch[0]!.seq);
      await appendRecords(
        active,
        batch.map(({ bytes }) => bytes),
      );
      // Whoever takes the directory over reads what was on disk before, and may have done so already.
      await confirmOwner();
      const isFull = active.end >= segmentBytesMax;
      failedAtMs = Number.NEGATIVE_INFINITY;
      for (const { resolve } of batch) resolve();
      notify();
      if (isFull) await retireActive();
    } catch (error) {
      // After a failed fsync nobody knows what the file holds: it is read as far as it is known, and not written again. A full
      // disk would gather empty ones.
      if (active !== undefined && !hasHeldRecords(active)) remove(active);
      failedAtMs = performance.now();
      for (const { reject } of batch) reject(error as Error);
      await retireActive();
    } finally {
      batchBytes = 0;
    }
  }

  /** It is written to no more, and read when its turn comes: until then it need not be open. */
  async function retireActive(): Promise<void> {
    const segment = active;
    active = undefined;
    if (segment !== undefined && segment !== findFront()) await closeSegment(segment).catch(() => {});
  }

  function findFront(): Segment | undefined {
    return segments.find(({ position, end }) => position < end);
  }

  async function addSegment(firstSeq: number): Promise<Segment> {
    const segment = await createSegment(segmentPath(dir, firstSeq), openFile);
    segments.push(segment);
    return segment;
  }

  /** Removes segments that are done, but for the one that is written to. */
  function dropDone(): void {
    while (segments[0] && segments[0].position >= segments[0].end && !(segments[0] === active && writing)) {
      if (segments[0] === active) active = undefined;
      refusedForSpace = false;
      remove(segments[0]);
    }
  }

  function remove(segment: Segment): void {
    segments.splice(segments.indexOf(segment), 1);
    const removal = (segment.isKept ? shelveSegment(shelf, segment) : removeSegment(segment, openFile))
      .catch(({ code }: NodeJS.ErrnoException) => {
        const file = basename(segment.path);
        log.warn({ file, code }, 'a drained spool file could not be removed; it is tried again at the next start');
      })
      .then(() => void removals.delete(removal));
    removals.add(removal);
  }

  /**
   * Where there is no room for a copy of what has to be set aside, nor any other way to write one, the whole file is, once
   * it is done: nothing is lost, and the drain goes on. Answers the file's name.
   */
  async function setAside(segment: Segment, copy: () => Promise<string>): Promise<string> {
    const file = basename(segment.path);
    if (segment.isKept) return file;
    try {
      return await copy();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      log.error({ file, code }, 'what cannot be drained could not be copied: its spool file is kept whole');
      segment.isKept = true;
      return file;
    }
  }

  async function head(): Promise<SpoolRecord | undefined> {
    for (;;) {
      if (front) return front.record;
      dropDone();
      const segment = findFront();
      if (segment === undefined) return undefined;
      const found = await readNext(segment, openFile);
      if (found.kind === 'record') {
        front = { record: found.record, segment, end: found.end };
      } else if (found.kind === 'damaged') {
        await setDamageAside(segment, found);
        segment.position = found.end;
        savePositions();
      } else {
        keepUnread(segment);
      }
    }
  }

  /** The rest of it is for a person to save, as far as that can be. */
  function keepUnread(segment: Segment): void {
    const file = basename(segment.path);
    log.error({ file, records: segment.records }, 'a spool file cannot be read: it is kept whole, and not drained');
    segment.isKept = true;
    segment.position = segment.end;
    segment.records = 0;
  }

  async function setDamageAside(segment: Segment, { start, end, bytes }: Found & { kind: 'damaged' }): Promise<void> {
    const missing = end - start - bytes.length;
    if (missing > 0) log.error({ file: basename(segment.path), bytes: missing }, 'a spool file was cut short');
    if (bytes.length === 0) return;
    const file = await setAside(segment, () => shelveDamage(shelf, segment, start, bytes));
    log.error({ file, bytes: bytes.length }, 'a damaged part of the spool was set aside');
  }

  function removeHead(): void {
    if (front === undefined) return;
    const { segment, end } = front;
    front = undefined;
    segment.position = end;
    segment.records -= 1;
    dropDone();
    notify();
    savePositions();
  }

  /** Beside the drain, as a write waits for the fsync of what is put in meanwhile. A crash repeats the last few records. */
  function savePositions(): void {
    if (!isSaving) saving = saveUntilSaved();
  }

  async function saveUntilSaved(): Promise<void> {
    isSaving = true;
    let saved: Segment | undefined;
    let savedPosition = 0;
    for (;;) {
      const segment = segments[0];
      // One that is not open was not read from either.
      if (segment?.file === undefined || segment.isKept) break;
      if (segment === saved && segment.position === savedPosition) break;
      saved = segment;
      savedPosition = segment.position;
      await savePosition(segment.file, savedPosition).catch((error: NodeJS.ErrnoException) => {
        // Removed meanwhile, or the disk has failed, which the next webhook finds out.
        if (segments.includes(segment)) log.warn({ code: error.code }, "the spool's position could not be saved");
      });
    }
    isSaving = false;
  }

  return {
    put,
    isEmpty: () => countRecords() === 0 && queue.length === 0 && writing === undefined,
    head,
    removeHead,
    async setHeadAside() {
      const { segment, record } = front!;
      const file = await setAside(segment, () => shelveRecord(shelf, record));
      removeHead();
      return file;
    },
    onChange(listener) {
      notify = listener;
    },
    health() {
      if (performance.now() - failedAtMs < FAILING_MS) return 'failing';
      return refusedForSpace ? 'full' : 'accepting';
    },
    figures() {
      lookAtShelf(shelf, noteRoom);
      return {
        records: countRecords(),
        bytes: bytesOnDisk(),
        unreadable: shelf.files,
        oldestAtMs: front?.record.receivedAtMs,
      };
    },
    async close() {
      await writing;
      await saving;
      await Promise.all(removals);
      for (const segment of segments) await closeSegment(segment);
    },
  };
}
