/** What the entries of one idempotency key say of it: its progress and its marks, whatever the order they are read in. */
import { compareStreamIds, parseEventId, type StreamName, streamIdTime } from './event-id.js';
import { STREAMS } from './events.js';

/** What is kept of an entry while its chain is gathered. */
export type EntryFacts = {
  type: string;
  at: string;
  cause?: string;
  /** `webhook.rejected` of reason `changed`, told of the event whose content it is not. */
  isOtherContent?: true;
  /** Content hash and request id of a webhook. */
  hash?: string;
  request?: string;
  replay?: string;
  /** Of an `event.failed`: the entry had vanished. An unreadable one is settled under the same key. */
  isLost?: true;
};

/** The entries of a chain by event id, and the webhook entries of all revisions of a meeting, for its first key. */
export type Gathered = { entries: Map<string, EntryFacts>; revisions: Map<string, EntryFacts & { revision: number }> };

export type ChainFacts = {
  progress: Record<string, string>;
  /** `idem:seen`. */
  seen?: { eventId: string; at: string };
  /** `idem:processed`; of a replay the one with its id. */
  processed: { replay: string | undefined; at: string }[];
};

/** The chain that an entry belongs to; `undefined` for what belongs to none. */
export function chainKeyOf(eventId: string, stream: StreamName, fields: Record<string, string>): string | undefined {
  if (stream === 'events:operations' || stream === 'events:health') return undefined;
  const { key } = fields;
  // An entry without a key is settled under this name; its failure says of it that it could not be read.
  if (key === undefined) return `lost:${eventId}`;
  if (stream === 'events:failed' && key.startsWith('unreadable:')) return `lost:${key.slice('unreadable:'.length)}`;
  return key;
}

/** The key under which the progress of a failed event stands. */
export function progressKeyOf({ key, eventId }: { key: string; eventId: string }): string {
  return key.startsWith('unreadable:') ? `lost:${eventId}` : key;
}

/** The first key of a meeting and the number of this revision. */
export function revisionOf(key: string): { first: string; revision: number } {
  const match = /^(readai:meeting_completed:.+):r(\d+)$/.exec(key);
  return match === null ? { first: key, revision: 1 } : { first: match[1]!, revision: Number(match[2]) };
}

export function isWebhook(type: string): boolean {
  return /^(calendly\.|readai\.|webhook\.rejected$)/.test(type);
}

export function deriveChain({ entries, revisions }: Gathered): ChainFacts {
  const progress: Record<string, string> = {};
  const processed = new Map<string | undefined, string>();
  let seen: ChainFacts['seen'];
  let failing: string | undefined;
  for (const [eventId, entry] of inOrder(entries)) {
    if (entry.isOtherContent) {
      progress[`changed-${eventId}`] = '';
      continue;
    }
    progress[eventId] = '';
    if (isWebhook(entry.type)) {
      progress.id = eventId;
      seen = { eventId, at: entry.at };
      if (entry.hash !== undefined) progress.hash ??= entry.hash;
      setState(entry.type === 'webhook.rejected' ? 'rejected' : undefined);
    } else if (entry.type === 'lead.synced') {
      setState('processed');
      if (entry.replay !== undefined) delete progress.replayFailed;
      processed.set(entry.replay, entry.at);
    } else if (entry.type === 'event.failed') {
      addFailure(entry);
    } else if (entry.cause !== undefined && entry.cause === failing) {
      // Redriven, and this time it went well.
      setState(undefined);
    } else if (entry.cause !== undefined && entry.cause === progress.replayFailed) {
      delete progress.replayFailed;
    }
  }
  addRevisions(progress, revisions);
  return {
    progress,
    ...(seen === undefined ? {} : { seen }),
    processed: [...processed].map(([replay, at]) => ({ replay, at })),
  };

  function setState(state: string | undefined): void {
    failing = undefined;
    if (state === undefined) delete progress.state;
    else progress.state = state;
  }

  function addFailure({ cause = '', replay, isLost }: EntryFacts): void {
    // A replay that fails does not undo the first time: it stands open beside it.
    if (replay !== undefined && progress.state === 'processed') {
      progress.replayFailed = cause;
      return;
    }
    setState(isLost ? 'lost' : 'failed');
    if (isLost) progress.id = cause;
    else failing = cause;
  }
}

/** As `append.lua` remembers revisions. */
function addRevisions(progress: Record<string, string>, revisions: Gathered['revisions']): void {
  for (const [, { revision, hash, request }] of inOrder(revisions)) {
    progress.rev = String(Math.max(Number(progress.rev ?? 0), revision));
    progress[`h:${hash}`] = String(Math.max(Number(progress[`h:${hash}`] ?? 0), revision));
    if (request !== undefined) progress[`q:${request}`] = String(revision);
  }
}

/**
 * By time; within one millisecond in the order of the flow. What came of an entry comes after it, whatever its id says: when
 * Redis' clock goes back each stream goes on from its own last id, and those differ.
 */
function inOrder<T extends Pick<EntryFacts, 'cause' | 'at'>>(entries: ReadonlyMap<string, T>): [string, T][] {
  const timeOf = (eventId: string, seen: readonly string[] = []): number => {
    const ms = streamIdTime(parseEventId(eventId)!.id);
    const { cause = '' } = entries.get(eventId)!;
    return entries.has(cause) && !seen.includes(cause) ? Math.max(ms, timeOf(cause, [...seen, eventId])) : ms;
  };
  const placed = [...entries].map((entry) => {
    const { stream, id } = parseEventId(entry[0])!;
    const ms = streamIdTime(id);
    const time = timeOf(entry[0]);
    // Of what came late the time of its append tells, as that is the clock's.
    const toldAt = ms < time ? Date.parse(entry[1].at) : 0;
    return { entry, id, rank: STREAMS.indexOf(stream), ms, time, toldAt };
  });
  placed.sort((x, y) => {
    const late = Number(x.ms < x.time) - Number(y.ms < y.time);
    return (
      x.time - y.time || late || x.toldAt - y.toldAt || x.ms - y.ms || x.rank - y.rank || compareStreamIds(x.id, y.id)
    );
  });
  return placed.map(({ entry }) => entry);
}
