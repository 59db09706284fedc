/** An entry as a worker holds it, and what is remembered of its earlier attempts. */
import { z } from 'zod';
import type { Provider } from '../errors.js';
import { makeEventId, type StreamName } from '../event-id.js';

const attemptRecord = z.object({
  /** Attempts spent so far: failures that were this event's own. */
  spent: z.number(),
  /** When the first failure came, and the latest that a provider may have been at fault for; Redis time in ms. */
  firstFailureAt: z.number(),
  doubtAt: z.number().exactOptional(),
  /** It has failed together with others, any of which may be at fault: so many go into its next call at the most. */
  batchMax: z.number().exactOptional(),
  /** Milliseconds spent parked or waiting. */
  waitedMs: z.number(),
  parkedAt: z.number(),
  code: z.string(),
  message: z.string(),
});

/** What earlier attempts of an entry were; kept in Redis while it is neither done nor failed. */
export type AttemptRecord = z.infer<typeof attemptRecord>;

export type Entry = {
  stream: StreamName;
  id: string;
  eventId: string;
  fields: Record<string, string>;
  /** True when the pipeline is done with the event already: acknowledge, do nothing. */
  isDone: boolean;
  /** In how many crashes of workers it was started. */
  crashes: number;
  /** A suspect runs alone, as it may be what crashes them; what is condemned runs no more. */
  verdict: 'usual' | 'suspect' | 'condemned';
  record: AttemptRecord | undefined;
  /** When this worker got it, Redis time in ms. */
  takenAt: number;
  /** The provider that this entry is let through to probe. */
  probes: Provider | undefined;
};

/** As the scripts hand it out. */
export type FlatEntry = [id: string, flat: string[], done: number, record?: string, strikes?: string];

export function toEntry(
  stream: StreamName,
  [id, flat, done, record = '', strikes = '']: FlatEntry,
  takenAt: number,
): Entry {
  return {
    stream,
    id,
    eventId: makeEventId(stream, id),
    fields: toRecord(flat),
    isDone: done === 1,
    ...parseStrikes(strikes),
    record: parseRecord(record),
    takenAt,
    probes: undefined,
  };
}

export function toRecord(flat: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < flat.length; i += 2) record[flat[i]!] = flat[i + 1]!;
  return record;
}

/** `crashes:state`, nothing for most. */
function parseStrikes(strikes: string): Pick<Entry, 'crashes' | 'verdict'> {
  const [crashes, state = 'run'] = strikes.split(':');
  const verdict = state === 'condemned' ? state : state === 'run' ? 'usual' : 'suspect';
  return { crashes: Number(crashes), verdict };
}

/** `undefined` for what is none, as somebody may have put there by hand: the attempts are then counted anew. */
export function parseRecord(json: string): AttemptRecord | undefined {
  if (json === '') return undefined;
  try {
    return attemptRecord.parse(JSON.parse(json));
  } catch {
    return undefined;
  }
}
