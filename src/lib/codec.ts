/**
 * Between an event and its entry: flat fields, so that `redis-cli XRANGE events:calendly - +` reads well. Both directions
 * are checked against the catalogue; nothing untyped crosses a stream.
 */
import type { z } from 'zod';
import { NotYetError, TerminalError } from './errors.js';
import { makeEventId, type StreamName } from './event-id.js';
import { catalogue, type EventType, isEventType, type NewEvent, type StoredEvent } from './events.js';
import { upcast, VERSIONS, type Versions } from './upcasters.js';

/** How long an entry of a version that this process does not know yet waits for a newer worker. */
const NEWER_VERSION_WAIT_MS = 5_000;

/** What is nested deeper can be parsed, but not written as JSON again: that is done by recursion. */
export const JSON_DEPTH_MAX = 200;

/** Versions count up from 1, one for each change of a shape: anything else was written by no version of this service. */
const VERSION = /^[1-9]\d{0,2}$/;

/**
 * Parses one entry, bringing an older version up to date. Throws `TerminalError` (`malformed_entry`) when it does not fit
 * the catalogue, and `NotYetError` when it was written by a newer version of this service.
 */
export function decodeEntry(
  stream: StreamName,
  id: string,
  fields: Readonly<Record<string, string>>,
  versions: Versions = VERSIONS,
): StoredEvent {
  const eventId = makeEventId(stream, id);
  const type = fields.type ?? '';
  if (!isEventType(type) || catalogue[type].stream !== stream) {
    throw new TerminalError(`${eventId} is of no type that ${stream} may hold`, { code: 'malformed_entry' });
  }
  if (!VERSION.test(fields.v ?? '')) {
    throw new TerminalError(`${eventId} has no usable version`, { code: 'malformed_entry' });
  }
  const version = Number(fields.v);
  const definition = catalogue[type];
  if (version > versions.presentOf(type)) {
    throw new NotYetError(`${eventId} was written by a newer version`, { delayMs: NEWER_VERSION_WAIT_MS });
  }
  const data = definition.data.safeParse(upcast(type, version, parseJson(fields.data), versions));
  if (!data.success || fields.key === undefined) {
    const why = data.error === undefined ? 'key is missing' : describeFirstIssue(data.error);
    throw new TerminalError(`${eventId} does not fit ${type}: ${why}`, { code: 'malformed_entry' });
  }
  return {
    id: eventId,
    type,
    key: fields.key,
    at: fields.at ?? '',
    cause: fields.cause,
    data: data.data,
    fields,
  } as StoredEvent;
}

/** For those who only look: `undefined` for what this process cannot read. */
export function tryDecodeEntry(...entry: Parameters<typeof decodeEntry>): StoredEvent | undefined {
  try {
    return decodeEntry(...entry);
  } catch (error) {
    if (error instanceof TerminalError || error instanceof NotYetError) return undefined;
    throw error;
  }
}

/** What the runtime adds to a follow-on event. */
export type Provenance = {
  key: string;
  cause: string;
  attempts: number;
  ms: number;
  waitedMs: number;
  replay: string | undefined;
};

/**
 * The flat fields of a follow-on's entry; `at` is filled in by the server's clock as it is appended. Always the same
 * fields in the same order, as Redis then stores their names once for many entries.
 */
export function encodeFollowOn(event: NewEvent, { key, cause, attempts, ms, waitedMs, replay }: Provenance): string[] {
  const definition = catalogue[event.type];
  const parsed = definition.data.safeParse(event.data);
  if (!parsed.success) {
    const why = describeFirstIssue(parsed.error);
    throw new TerminalError(`A ${event.type} that does not fit the catalogue: ${why}`, { code: 'malformed_follow_on' });
  }
  return [
    ...['type', event.type, 'key', key, 'at', '', 'v', String(definition.version), 'cause', cause],
    ...[
      'data',
      JSON.stringify(parsed.data),
      'attempts',
      String(attempts),
      'ms',
      String(ms),
      'waited',
      String(waitedMs),
    ],
    ...(replay === undefined ? [] : ['replay', replay]),
  ];
}

/** Where and what, without the value. A field of ours has a plain name; any other may be a person's address. */
function describeFirstIssue({ issues }: z.ZodError): string {
  const { path = [], message = '' } = issues[0] ?? {};
  const names = path.map((part) => (/^\w{1,40}$/.test(String(part)) ? String(part) : '*'));
  return `${['data', ...names].join('.')} ${message}`;
}

export function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return depth === 0 || Object.values(value).some((member) => isDeeperThan(member, depth - 1));
}

export function streamOf(type: EventType): StreamName {
  return catalogue[type].stream;
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
}
