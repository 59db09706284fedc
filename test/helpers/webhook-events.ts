/** Webhook events as a consumer gets them, and the rest of what it is called with. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Context } from '../../src/lib/consumer.js';
import { catalogue, type EventType, type StoredEvent } from '../../src/lib/events.js';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

/** A fixture's body, parsed anew each time, so that a test may change it. */
export function readFixture<Body = Record<string, unknown>>(path: string): Body {
  return JSON.parse(readFileSync(join(FIXTURES, path), 'utf8'));
}

/** The body as an event of its type, read through the catalogue as the runtime does it. */
export function storedEvent<T extends EventType>(type: T, body: unknown, key = 'a:key'): StoredEvent<T> {
  const definition = catalogue[type];
  const id = `${definition.stream.slice('events:'.length)}-1763900000000-0`;
  const at = '2026-11-23T12:13:20.000Z';
  const data = definition.data.parse(body);
  return { id, type, key, at, cause: undefined, data, fields: {} } as unknown as StoredEvent<T>;
}

export function testContext(signal: AbortSignal = new AbortController().signal): Context {
  return {
    signal,
    log: pino({ level: 'silent' }),
    now: () => new Date('2026-11-23T12:13:20.000Z'),
    read: async () => undefined,
  };
}
