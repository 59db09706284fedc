/**
 * An event id names a stream entry: `<stream without "events:">-<redis id>`, as in `calendly-1763900000000-0`.
 * Redis ids stay strings and are compared part by part as BigInt: they exceed what a number can hold.
 */

/** A stream by its name without prefix, as in `events:calendly`. */
export type StreamName = `events:${string}`;

export type EventRef = { stream: StreamName; id: string };

const EVENT_ID = /^([a-z]+)-(\d+-\d+)$/;

export function makeEventId(stream: StreamName, id: string): string {
  return `${stream.slice('events:'.length)}-${id}`;
}

/** `undefined` when the text is no event id. */
export function parseEventId(text: string): EventRef | undefined {
  const match = EVENT_ID.exec(text);
  return match ? { stream: `events:${match[1]!}`, id: match[2]! } : undefined;
}

/** Negative, zero or positive, as `a` is before, the same as, or after `b`. */
export function compareStreamIds(a: string, b: string): number {
  const [aMs, aSequence] = splitId(a);
  const [bMs, bSequence] = splitId(b);
  if (aMs !== bMs) return aMs < bMs ? -1 : 1;
  return aSequence === bSequence ? 0 : aSequence < bSequence ? -1 : 1;
}

/** By the ids in their streams, and those of one id by the names of the streams: one order for all. */
export function compareEventIds(a: string, b: string): number {
  const [aId, bId] = [a, b].map((eventId) => eventId.slice(eventId.indexOf('-') + 1));
  return compareStreamIds(aId!, bId!) || (a < b ? -1 : a > b ? 1 : 0);
}

/** As ISO 8601; '' for a time that no calendar holds, as an id or a score that was set by hand may say. */
export function isoTime(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? '' : date.toISOString();
}

/** The time part of a stream id, in milliseconds since 1970. */
export function streamIdTime(id: string): number {
  return Number(splitId(id)[0]);
}

function splitId(id: string): [bigint, bigint] {
  const [ms = '0', sequence = '0'] = id.split('-');
  return [BigInt(ms), BigInt(sequence)];
}
