/** What the wire alone can tell: when each worker last read, what it took over from others, and what there was to be seen. */
import { makeEventId, type StreamName } from '../../../src/lib/event-id.js';
import type { Links } from './links.js';
import { parseReply, type RespValue } from './resp.js';
import type { Passage } from './wire.js';

export type Takeover = { at: number; owner: string; group: string; eventId: string };

export type WireLog = {
  /** When a worker's read loop asked in a group and was answered, ms since 1970, the earliest first. */
  readsOf: (owner: string, group: string) => readonly number[];
  /** What Redis handed out of the entries of others, dead or stopped. */
  takeovers: readonly Takeover[];
  /** Scripts and commands to Redis, and calls to providers, as in `take` and `POST /crm/v8/Leads/upsert`. */
  names: ReadonlySet<string>;
};

/** Sent by the read loop and by nobody else: a heartbeat goes on where that stands still. */
export const READS: ReadonlySet<string> = new Set(['take', 'take-due', 'reclaim']);
/** Many a second are no news. */
const READ_EVERY_MS = 20;
const TOOK_SOMETHING = /^\*\d\r\n\$\d+\r\n[\d-]+\r\n\*[1-9]/;
const ERROR = 0x2d;
/** Of the CRM. */
const RECORD_ID = /\b\d{12,}\b/;

export function logWire(links: Links): WireLog {
  const reads = new Map<string, number[]>();
  const takeovers: Takeover[] = [];
  const names = new Set<string>();

  links.onCommand({}, (passage) => {
    const { owner, name, group, when, reply } = passage;
    names.add(name.replace(RECORD_ID, '{id}'));
    if (when === 'before' || group === undefined || !READS.has(name) || reply?.[0] === ERROR) return undefined;
    noteRead(`${owner} ${group}`);
    if (name === 'reclaim' && TOOK_SOMETHING.test(reply!.toString('latin1', 0, 100))) noteTakeovers(passage);
    return undefined;
  });

  function noteRead(reader: string): void {
    const times = reads.get(reader) ?? [];
    reads.set(reader, times);
    if (Date.now() - (times.at(-1) ?? 0) >= READ_EVERY_MS) times.push(Date.now());
  }

  function noteTakeovers({ owner, group, keys, reply }: Passage): void {
    const stream = keys[0]!.slice(keys[0]!.indexOf('events:')) as StreamName;
    const [, entries] = parseReply(reply!) as [string, [id: string, ...RespValue[]][], RespValue];
    for (const [id] of entries) {
      takeovers.push({ at: Date.now(), owner, group: group!, eventId: makeEventId(stream, id) });
    }
  }

  return { readsOf: (owner, group) => reads.get(`${owner} ${group}`) ?? [], takeovers, names };
}
