/** The bytes of the spool's files: what is written is read, and what is torn or damaged is never taken for a record. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  encodePosition,
  encodeRecord,
  encodeSegmentHeader,
  findRecord,
  readRecord,
  readSegmentHeader,
  SEGMENT_HEADER_BYTES,
  type SpooledWebhook,
  type SpoolRecord,
  surveyRecords,
} from '../../src/ingest/spool/format.js';

const test = suite('the format of the spool');

const OLD_SEGMENT = join(import.meta.dirname, '..', 'fixtures', 'former-versions', 'spool-v1-without-delivery.spool');

const booking: SpooledWebhook = {
  kind: 'event',
  source: 'calendly',
  type: 'calendly.invitee.created',
  key: 'calendly:invitee.created:ADA-1',
  contentHash: 'hash',
  otherContent: 'kept',
  requestId: undefined,
  data: Buffer.from('{ "name":\t"Ada \u{1f9ee}" }\n'),
};
const report: SpooledWebhook = {
  ...booking,
  source: 'readai',
  type: 'readai.meeting_completed',
  otherContent: 'revision',
  requestId: 'R1',
};
const broken: SpooledWebhook = {
  kind: 'rejected',
  source: 'readai',
  reason: 'invalid_json',
  body: Buffer.from([0, 255, 10]),
};

const record = (seq: number, webhook: SpooledWebhook = booking): SpoolRecord => ({
  seq,
  receivedAtMs: 1_763_900_000_000,
  delivery: 'delivery',
  webhook,
});
const three = [record(1), record(2, report), record(3, broken)];
const encoded = three.map(encodeRecord);
const bytes = Buffer.concat(encoded);

test('a webhook comes back as it went in, byte for byte', () => {
  for (const original of three) {
    const line = encodeRecord(original);
    assert.equal(readRecord(line, 0), { kind: 'record', record: original, end: line.length });
  }
});

test('a record of the version that gave deliveries no name gets a lasting one', () => {
  const segment = readFileSync(OLD_SEGMENT);
  const readings = [1, 2].map(() => readRecord(segment, SEGMENT_HEADER_BYTES));
  assert.equal(readings[0], readings[1]);
  const [reading] = readings;
  assert.ok(reading?.kind === 'record');
  assert.is(reading.record.seq, 1_763_900_000_000_000);
  assert.is(reading.record.delivery, 'hd90h1g9a8');
});

test('cut off at any byte of the last record, the records before it are whole and the rest is none', () => {
  const wholeBytes = bytes.length - encoded[2]!.length;
  for (let length = wholeBytes; length < bytes.length; length += 1) {
    const torn = bytes.subarray(0, length);
    const { records, end, damaged } = surveyRecords(torn, 0);
    assert.equal([records, end, damaged], [2, wholeBytes, []], `cut at ${length}`);
    if (length > wholeBytes) assert.is(readRecord(torn, wholeBytes).kind, 'incomplete');
  }
  assert.is(surveyRecords(bytes, 0).end, bytes.length);
});

test('a record with any byte changed is none, and those around it are', () => {
  const start = encoded[0]!.length;
  const end = start + encoded[1]!.length;
  for (let at = start; at < end; at += 1) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 0x40;
    assert.is.not(readRecord(changed, start).kind, 'record', `changed at ${at}`);
    const survey = surveyRecords(changed, 0);
    assert.equal([survey.records, survey.damaged], [2, [{ start, end }]], `changed at ${at}`);
  }
});

test('a body that looks like records is no more than a body', () => {
  const tricky = encodeRecord(record(7, { ...broken, body: bytes }));
  assert.equal(surveyRecords(Buffer.concat([tricky, encoded[0]!]), 0).records, 2);
  assert.is(findRecord(Buffer.concat([Buffer.from('rest of a torn one'), encoded[0]!]), 0), 18);
});

test('the highest number is known, so that none is given twice', () => {
  assert.is(surveyRecords(bytes, 0).lastSeq, 3);
});

test('a header says how far the segment is done; one that is torn says that nothing is', () => {
  const header = encodeSegmentHeader();
  assert.is(header.length, SEGMENT_HEADER_BYTES);
  assert.equal(readSegmentHeader(header), { kind: 'segment', position: SEGMENT_HEADER_BYTES });
  const { at, bytes: position } = encodePosition(12_345);
  position.copy(header, at);
  assert.equal(readSegmentHeader(header), { kind: 'segment', position: 12_345 });
  for (let byte = at; byte < SEGMENT_HEADER_BYTES; byte += 1) {
    const torn = Buffer.from(header);
    torn[byte]! ^= 1;
    assert.equal(readSegmentHeader(torn), { kind: 'segment', position: SEGMENT_HEADER_BYTES });
  }
  assert.equal(readSegmentHeader(header.subarray(0, 10)), { kind: 'segment', position: SEGMENT_HEADER_BYTES });
});

test('the file of another version is told from one that is damaged', () => {
  const header = encodeSegmentHeader();
  header.write('2', 6);
  assert.equal(readSegmentHeader(header), { kind: 'foreign' });
});

test.run();
