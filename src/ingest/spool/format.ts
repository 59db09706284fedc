/**
 * The bytes of a spool's file, a segment: a header that holds how far it is done, then records, each with its length and
 * checksum.
 *
 *     segment  = "GVISPL1\n" position(8) checksum of the position(8) records…
 *     record   = mark(8) length of the payload(4) checksum of length and payload(16) payload
 *     payload  = length of the meta(4) meta (JSON) body
 *
 * The position is within one disk sector, so it is written in place. The mark is what is looked for behind damage.
 */
import { createHash } from 'node:crypto';
import type { RejectedWebhook, WebhookEvent } from '../../lib/append.js';

export type SpooledWebhook = WebhookEvent | RejectedWebhook;

export type SpoolRecord = {
  /** Grows with each record of a spool, over restarts too. */
  seq: number;
  /** When it was taken in, in milliseconds since the epoch. */
  receivedAtMs: number;
  /** As the append was told, or will be: a repeat of it, also after a crash, makes no second entry. */
  delivery: string;
  webhook: SpooledWebhook;
};

/** `incomplete`: the bytes end within the record. `damaged`: they are none, or the checksum is not theirs. */
export type Reading = { kind: 'record'; record: SpoolRecord; end: number } | { kind: 'incomplete' | 'damaged' };

const SEGMENT_MARK = Buffer.from('GVISPL1\n');
const RECORD_MARK = Buffer.from('\x93GVREC1\n', 'latin1');
const POSITION_AT = SEGMENT_MARK.length;
export const SEGMENT_HEADER_BYTES = POSITION_AT + 16;
const CHECKSUM_BYTES = 16;
const LENGTH_AT = RECORD_MARK.length;
const CHECKSUM_AT = LENGTH_AT + 4;
const RECORD_HEADER_BYTES = CHECKSUM_AT + CHECKSUM_BYTES;

export function encodeSegmentHeader(): Buffer {
  return Buffer.concat([SEGMENT_MARK, encodePosition(SEGMENT_HEADER_BYTES).bytes]);
}

/** What to write where, to say that the records before `position` are done. */
export function encodePosition(position: number): { at: number; bytes: Buffer } {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(position));
  return { at: POSITION_AT, bytes: Buffer.concat([number, checksumOf(number).subarray(0, 8)]) };
}

/** `foreign` is another version's file; a position that is not readable is the start, as a repeat does no harm. */
export function readSegmentHeader(bytes: Buffer): { kind: 'segment'; position: number } | { kind: 'foreign' } {
  const mark = bytes.subarray(0, POSITION_AT);
  if (!mark.equals(SEGMENT_MARK) && /^GVISPL\d\n$/.test(mark.toString('latin1'))) return { kind: 'foreign' };
  const number = bytes.subarray(POSITION_AT, POSITION_AT + 8);
  const isSound = bytes.subarray(POSITION_AT + 8, SEGMENT_HEADER_BYTES).equals(checksumOf(number).subarray(0, 8));
  if (!isSound) return { kind: 'segment', position: SEGMENT_HEADER_BYTES };
  const position = Number(number.readBigUInt64BE());
  return { kind: 'segment', position: Math.max(SEGMENT_HEADER_BYTES, position) };
}

export function encodeRecord({ webhook, ...about }: SpoolRecord): Buffer {
  const { body, fields } = splitWebhook(webhook);
  const meta = Buffer.from(JSON.stringify({ ...about, webhook: fields }));
  const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + 4 + meta.length + body.length);
  RECORD_MARK.copy(record);
  record.writeUInt32BE(4 + meta.length + body.length, LENGTH_AT);
  record.writeUInt32BE(meta.length, RECORD_HEADER_BYTES);
  meta.copy(record, RECORD_HEADER_BYTES + 4);
  body.copy(record, RECORD_HEADER_BYTES + 4 + meta.length);
  checksumOfRecord(record).copy(record, CHECKSUM_AT);
  return record;
}

/** Bytes of the whole record that begins with `head`, or undefined where none does. */
export function recordBytesOf(head: Buffer): number | undefined {
  if (head.length < RECORD_HEADER_BYTES || !head.subarray(0, LENGTH_AT).equals(RECORD_MARK)) return undefined;
  return RECORD_HEADER_BYTES + head.readUInt32BE(LENGTH_AT);
}

/** The record at `from`. */
export function readRecord(bytes: Buffer, from: number): Reading {
  const rest = bytes.subarray(from);
  if (!startsLikeRecord(rest)) return { kind: 'damaged' };
  const length = recordBytesOf(rest);
  if (length === undefined || rest.length < length) return { kind: 'incomplete' };
  const record = rest.subarray(0, length);
  if (!checksumOfRecord(record).equals(record.subarray(CHECKSUM_AT, RECORD_HEADER_BYTES))) return { kind: 'damaged' };
  return { kind: 'record', record: decodePayload(record.subarray(RECORD_HEADER_BYTES)), end: from + length };
}

/** Where the next sound record at or after `from` begins, or undefined. */
export function findRecord(bytes: Buffer, from: number): number | undefined {
  for (let at = bytes.indexOf(RECORD_MARK, from); at !== -1; at = bytes.indexOf(RECORD_MARK, at + 1)) {
    if (readRecord(bytes, at).kind === 'record') return at;
  }
  return undefined;
}

/** Where the sound records from `from` on end, how many there are, and what lies between them that is none. */
export type Survey = { records: number; end: number; lastSeq: number; damaged: { start: number; end: number }[] };

export function surveyRecords(bytes: Buffer, from: number): Survey {
  const survey: Survey = { records: 0, end: from, lastSeq: 0, damaged: [] };
  for (let at: number | undefined = from; at !== undefined && at < bytes.length; ) {
    const reading = readRecord(bytes, at);
    if (reading.kind === 'record') {
      survey.records += 1;
      survey.lastSeq = Math.max(survey.lastSeq, reading.record.seq);
      survey.end = reading.end;
      at = reading.end;
      continue;
    }
    const next = findRecord(bytes, at + 1);
    if (next !== undefined) survey.damaged.push({ start: at, end: next });
    at = next;
  }
  return survey;
}

function startsLikeRecord(rest: Buffer): boolean {
  const length = Math.min(rest.length, RECORD_MARK.length);
  return rest.subarray(0, length).equals(RECORD_MARK.subarray(0, length));
}

function splitWebhook(webhook: SpooledWebhook): { body: Buffer; fields: object } {
  if (webhook.kind === 'rejected') {
    const { body, ...fields } = webhook;
    return { body, fields };
  }
  const { data, ...fields } = webhook;
  return { body: data, fields };
}

/**
 * The checksum has shown that these bytes are the ones that were written, so their shape is known. Records were written
 * without `delivery` once; their number is as lasting.
 */
function decodePayload(payload: Buffer): SpoolRecord {
  const metaEnd = 4 + payload.readUInt32BE(0);
  const meta: Omit<SpoolRecord, 'delivery'> & { delivery?: string } = JSON.parse(payload.toString('utf8', 4, metaEnd));
  const { webhook, ...rest } = meta;
  const about = { ...rest, delivery: rest.delivery ?? rest.seq.toString(36) };
  const body = Buffer.from(payload.subarray(metaEnd));
  if (webhook.kind === 'rejected') return { ...about, webhook: { ...webhook, body } };
  return { ...about, webhook: { ...webhook, requestId: webhook.requestId, data: body } };
}

function checksumOfRecord(record: Buffer): Buffer {
  const hash = createHash('sha256').update(record.subarray(LENGTH_AT, CHECKSUM_AT));
  return hash.update(record.subarray(RECORD_HEADER_BYTES)).digest().subarray(0, CHECKSUM_BYTES);
}

function checksumOf(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
