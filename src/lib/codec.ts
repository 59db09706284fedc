/**
 * Between an event and its entry: flat fields, so that `redis-cli XRANGE events:calendly - +` reads well. Both directions
 * are checked against the catalogue; nothing untyped crosses a stream.
 */
import { z } from 'zod';
import { NotYetError, TerminalError } from './errors.js';
import { makeEventId, type StreamName } from './event-id.js';
import { catalogue, type EventType, isEventType, type NewEvent, type StoredEvent } from './events.js';
import { upcast } from './upcasters.js';

/** How long an entry of a version that this process does not know yet waits for a newer worker. */
const NEWER_VERSION_WAIT_MS = 5_000;

/**
 * Parses one entry, bringing an older version up to date. Throws `TerminalError` (`malformed_entry`) when it does not fit
 * the catalogue, and `NotYetError` when it was written by a newer version of this service.
 */
export function decodeEntry(stream: StreamName, id: string, fields: Readonly<Record<string, string>>): StoredEvent {
  const eventId = makeEventId(stream, id);
  const type = fields.type ?? '';
  if (!isEventType(type) || catalogue[type].stream !== stream) {
    throw new TerminalError(`${eventId} is of no type that ${stream} may hold`, { code: 'malformed_entry' });
  }
  const version = Number(fields.v);
  const definition = catalogue[type];
  if (version > definition.version) {
    throw new NotYetError(`${eventId} was written by a newer version`, { delayMs: NEWER_VERSION_WAIT_MS });
  }
  const data = definition.data.safeParse(upcast(type, version, parseJson(fields.data)));
  if (!data.success || fields.key === undefined) {
    const first = data.error?.issues[0];
    const path = first === undefined ? 'key' : ['data', ...first.path].join('.');
    throw new TerminalError(`${eventId} does not fit ${type}: ${path} ${first?.message ?? 'is missing'}`, {
      code: 'malformed_entry',
    });
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
    throw new TerminalError(`A ${event.type} that does not fit the catalogue: ${z.prettifyError(parsed.error)}`, {
      code: 'malformed_follow_on',
    });
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
