/**
 * JSON as the pipeline can use it: UTF-8 without a byte order mark, and not nested so deep that a recursive reader further
 * down would run out of stack.
 */
import { isDeeperThan, JSON_DEPTH_MAX } from '../lib/codec.js';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `undefined` for what is no usable JSON; JSON itself has no such value. */
export function parseJson(bytes: Buffer): unknown {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return isDeeperThan(value, JSON_DEPTH_MAX) ? undefined : value;
  } catch {
    return undefined;
  }
}
