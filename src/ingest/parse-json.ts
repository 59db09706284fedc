/**
 * JSON as the pipeline can use it: UTF-8 without a byte order mark, not nested so deep that a recursive reader further down
 * would run out of stack, and not of so many values that to read them holds up everybody else.
 */
import { isDeeperThan, JSON_DEPTH_MAX } from '../lib/codec.js';

/**
 * The report of a meeting of three hours has some 15,000, ten megabytes of such a report 200,000; of very many small ones each
 * megabyte takes a second.
 */
export const JSON_VALUES_MAX = 250_000;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `undefined` for what is no usable JSON; JSON itself has no such value. */
export function parseJson(bytes: Buffer): unknown {
  if (hasTooManyValues(bytes)) return undefined;
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return isDeeperThan(value, JSON_DEPTH_MAX) ? undefined : value;
  } catch {
    return undefined;
  }
}

/** Why `parseJson` made nothing of them, as the sender and the log are told. */
export function whyNoJson(bytes: Buffer): string {
  return hasTooManyValues(bytes) ? `The body has more than ${JSON_VALUES_MAX} values.` : 'The body is no JSON.';
}

/** Counted in the bytes, as to parse them is what takes long: before each value but the first stands one of these. */
function hasTooManyValues(bytes: Buffer): boolean {
  if (bytes.length < JSON_VALUES_MAX) return false;
  let values = 1;
  let isText = false;
  for (let at = 0; at < bytes.length && values <= JSON_VALUES_MAX; at += 1) {
    const byte = bytes[at];
    if (byte === QUOTE) isText = !isText;
    else if (isText) at += byte === BACKSLASH ? 1 : 0;
    else if (byte === COMMA || byte === LIST || byte === OBJECT) values += 1;
  }
  return values > JSON_VALUES_MAX;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const LIST = 0x5b;
const OBJECT = 0x7b;
