/**
 * "What happened to this lead?": the chain of an event, its trail and its status, put together from the streams, the
 * progress of the event and what the groups hold.
 */
import { isDeeperThan, JSON_DEPTH_MAX, tryDecodeEntry } from './codec.js';
import { PROVIDERS, type Provider } from './errors.js';
import { compareStreamIds, isoTime, parseEventId, type StreamName, streamIdTime } from './event-id.js';
import { catalogue, type EventFailed, type GroupName, isEventType, type LeadSynced } from './events.js';
import type { Keys } from './keys.js';
import type { OpenFailure } from './open-failures.js';
import type { RedisClient } from './redis.js';
import { parseRecord, toRecord } from './runtime/entry.js';

export type EventStatus = 'queued' | 'running' | 'retrying' | 'paused' | 'processed' | 'failed' | 'rejected' | 'lost';

export type TrailStep = {
  eventId: string;
  type: string;
  stream: string;
  /** Who wrote the entry: `ingest`, a consumer group, `worker` of a provider's health, or `operator`. */
  group: string;
  at: string;
  /** Attempts that the group needed, and how long the last one took. */
  attempts: number;
  durationMs: number;
  /** Of a `lead.synced` alone: what came of it. */
  outcome?: LeadSynced['outcome'];
  reason?: string;
  /** How many it wrote, or would have. */
  leads?: number;
  notes?: number;
};

export type Chain = {
  /** The chain's first event. */
  eventId: string;
  key: string;
  type: string;
  at: string;
  status: EventStatus;
  event: Record<string, unknown>;
  trail: TrailStep[];
  /** The latest; it may be done with since. */
  failure?: OpenFailure & { isOpen: boolean };
  /** What it waits for now, while it is retrying or paused; after that, until it has ended, what put it off. */
  waiting?: {
    group: GroupName;
    attempts: number;
    dueAt?: string;
    provider?: Provider;
    error: { code: string; message: string };
  };
};

export type IdemState = {
  key: string;
  seen: boolean;
  processed: boolean;
  eventId: string | null;
  status: EventStatus | null;
};

type RawEntry = { eventId: string; stream: StreamName; id: string; fields: Record<string, string> };

export function makeChains({ redis, keys }: { redis: RedisClient; keys: Keys }) {
  return { findChain, findIdem, findEventId };

  /** By the id of any entry of the chain; `undefined` when there is no such entry. */
  async function findChain(eventId: string): Promise<Chain | undefined> {
    const ref = parseEventId(eventId);
    if (ref === undefined) return undefined;
    const [asked] = await readEntries([eventId]);
    const key = asked?.fields.key ?? `lost:${eventId}`;
    const progress = await redis.hgetall(keys.progress(key));
    const ids = Object.keys(progress).filter((field) => parseEventId(field) !== undefined);
    const own = await readEntries([
      ...new Set([...ids, ...(progress.id ? [progress.id] : []), ...(asked ? [eventId] : [])]),
    ]);
    if (own.length === 0) return undefined;
    const loss = progress.state === undefined ? await findLoss(ids, own) : undefined;
    const entries = loss === undefined ? own : [...own, loss.entry];
    const changed = Object.keys(progress).flatMap((field) => /^changed-(.+)$/.exec(field)?.[1] ?? []);
    const first = rootOf(asked ?? own[0]!, own);
    const found = loss === undefined ? await findStatus(entries, progress) : { status: 'lost' as const };
    const failure = latestFailure(entries, loss?.progress ?? progress);
    return {
      eventId: asked === undefined ? eventId : first.eventId,
      key,
      type: first.fields.type ?? '',
      at: first.fields.at ?? '',
      ...found,
      event: describeEvent(first),
      trail: [...entries, ...(await readEntries(changed))].sort(compareEntries).map(toStep),
      ...(failure === undefined ? {} : { failure }),
    };
  }

  async function findIdem(key: string): Promise<IdemState> {
    const [seen, processed, current] = await Promise.all([
      redis.get(keys.idemSeen(key)),
      redis.exists(keys.idemProcessed(key)),
      redis.hget(keys.progress(key), 'id'),
    ]);
    const eventId = seen ?? current;
    const status = (eventId === null ? undefined : await findChain(eventId))?.status ?? null;
    // The mark lives for a while only; the progress lives as long as the entry.
    const isProcessed = processed === 1 || status === 'processed';
    return { key, seen: eventId !== null, processed: isProcessed, eventId, status };
  }

  /** An event id as it is, or the event id of the current try of an idempotency key. */
  async function findEventId(idOrKey: string): Promise<string | undefined> {
    if (parseEventId(idOrKey) !== undefined) return idOrKey;
    return (await redis.hget(keys.progress(idOrKey), 'id')) ?? (await redis.get(keys.idemSeen(idOrKey))) ?? undefined;
  }

  async function readEntries(eventIds: readonly string[]): Promise<RawEntry[]> {
    const refs = eventIds.map((eventId) => ({ eventId, ...parseEventId(eventId)! }));
    const found = await Promise.all(refs.map(({ stream, id }) => redis.xrange(keys.stream(stream), id, id)));
    return refs
      .flatMap((ref, index) =>
        found[index]?.[0] === undefined ? [] : [{ ...ref, fields: toRecord(found[index][0][1]) }],
      )
      .sort(compareEntries);
  }

  /** What was told of the chain's last step where somebody deleted that: nobody does it any more. */
  async function findLoss(
    ids: readonly string[],
    present: readonly RawEntry[],
  ): Promise<{ entry: RawEntry; progress: Record<string, string> } | undefined> {
    const last = ids.toSorted((a, b) => compareStreamIds(parseEventId(a)!.id, parseEventId(b)!.id)).at(-1);
    if (last === undefined || present.some(({ eventId }) => eventId === last)) return undefined;
    const progress = await redis.hgetall(keys.progress(`lost:${last}`));
    if (progress.state !== 'lost') return undefined;
    const failures = Object.keys(progress).filter((field) => field.startsWith('failed-'));
    const entry = (await readEntries(failures)).at(-1);
    return entry && { entry, progress };
  }

  async function findStatus(
    entries: readonly RawEntry[],
    progress: Record<string, string>,
  ): Promise<Pick<Chain, 'status' | 'waiting'>> {
    const { state } = progress;
    if (state === 'processed' || state === 'failed' || state === 'lost') return { status: state };
    for (const entry of [...entries].reverse()) {
      if (entry.stream === 'events:rejected') return { status: 'rejected' };
      for (const group of readersOf(entry)) {
        if (group !== 'alert') return statusIn(group, entry);
      }
    }
    return findStatusOfNews(entries);
  }

  /** What the service says of itself is done with once people were told of it, or where nobody is to be told. */
  async function findStatusOfNews(entries: readonly RawEntry[]): Promise<Pick<Chain, 'status' | 'waiting'>> {
    const news = entries.findLast((entry) => readersOf(entry).includes('alert'));
    const isTold = entries.some(({ fields }) => fields.type === 'alert.sent');
    if (news !== undefined && !isTold) return statusIn('alert', news);
    return { status: entries.every(({ fields }) => isEventType(fields.type ?? '')) ? 'processed' : 'queued' };
  }

  async function statusIn(
    group: GroupName,
    { eventId, stream, id }: RawEntry,
  ): Promise<Pick<Chain, 'status' | 'waiting'>> {
    const [dueAt, json, pending, waits, pauses] = await Promise.all([
      redis.zscore(keys.parked(group), eventId),
      redis.hget(keys.attempts(group), eventId),
      redis.xpending(keys.stream(stream), group, id, id, 1).catch(() => []) as Promise<unknown[]>,
      Promise.all(PROVIDERS.map((provider) => redis.zscore(keys.waiting(group, provider), eventId))),
      Promise.all(PROVIDERS.map((provider) => redis.exists(keys.pause(provider)))),
    ]);
    const record = parseRecord(json ?? '');
    const place = waits.findIndex((since) => since !== null && since !== undefined);
    // It may be up, and all it waits for is its turn.
    const provider = pauses[place] === 1 ? PROVIDERS[place] : undefined;
    const status: EventStatus =
      provider !== undefined ? 'paused' : dueAt !== null ? 'retrying' : pending.length > 0 ? 'running' : 'queued';
    if (record === undefined) return { status };
    const error = { code: record.code, message: record.message };
    return {
      status,
      waiting: {
        ...{ group, attempts: record.spent, error },
        ...(dueAt === null ? {} : { dueAt: isoTime(Number(dueAt)) }),
        ...(provider === undefined ? {} : { provider }),
      },
    };
  }
}

function compareEntries(a: RawEntry, b: RawEntry): number {
  return compareStreamIds(a.id, b.id);
}

/** What was put there by hand may name itself as its cause, or go round in a circle: then where that closes. */
function rootOf(entry: RawEntry, entries: readonly RawEntry[]): RawEntry {
  const byId = new Map(entries.map((each) => [each.eventId, each]));
  const passed = new Set([entry]);
  let root = entry;
  for (;;) {
    const cause = byId.get(root.fields.cause ?? '');
    if (cause === undefined || passed.has(cause)) return root;
    passed.add(cause);
    root = cause;
  }
}

function readersOf({ fields }: RawEntry): readonly GroupName[] {
  const type = fields.type ?? '';
  return isEventType(type) ? catalogue[type].readBy : [];
}

function toStep({ eventId, stream, id, fields }: RawEntry): TrailStep {
  return {
    eventId,
    type: fields.type ?? '',
    stream,
    group: writerOf({ eventId, stream, id, fields }),
    at: fields.at ?? isoTime(streamIdTime(id)),
    attempts: Number(fields.attempts ?? 1),
    durationMs: Number(fields.ms ?? 0),
    ...outcomeOf(stream, id, fields),
  };
}

/** Counts, as the leads are people. */
function outcomeOf(
  stream: StreamName,
  id: string,
  fields: Record<string, string>,
): Pick<TrailStep, 'outcome' | 'reason' | 'leads' | 'notes'> {
  const event = fields.type === 'lead.synced' ? tryDecodeEntry(stream, id, fields) : undefined;
  if (event?.type !== 'lead.synced') return {};
  const { outcome, reason, leads, notes } = event.data;
  return { outcome, ...(reason === undefined ? {} : { reason }), leads: leads.length, notes: notes.length };
}

function writerOf(entry: RawEntry): string {
  const type = entry.fields.type ?? '';
  if (!isEventType(type)) return '';
  return type === 'event.failed' ? (failureOf(entry)?.group ?? '') : catalogue[type].writtenBy[0];
}

function latestFailure(
  entries: readonly RawEntry[],
  { state, replayFailed }: Record<string, string>,
): Chain['failure'] | undefined {
  const entry = entries.findLast(({ fields }) => fields.type === 'event.failed');
  const failure = entry === undefined ? undefined : failureOf(entry);
  if (entry === undefined || failure === undefined) return undefined;
  const { at = '', replay } = entry.fields;
  return {
    ...failure,
    ...{ at, failureId: entry.eventId, ...(replay === undefined ? {} : { replay }) },
    isOpen: state === 'failed' || state === 'lost' || replayFailed === failure.eventId,
  };
}

function failureOf({ stream, id, fields }: RawEntry): EventFailed | undefined {
  const event = tryDecodeEntry(stream, id, fields);
  return event?.type === 'event.failed' ? event.data : undefined;
}

function describeEvent({ fields }: RawEntry): Record<string, unknown> {
  const { data, ...flat } = fields;
  return { ...flat, data: parseShallow(data) ?? data };
}

/** `undefined` for what is no JSON, and for what could not be written as JSON again. Ingest takes nothing so deep. */
function parseShallow(text: string | undefined): unknown {
  try {
    const value: unknown = JSON.parse(text ?? '');
    return isDeeperThan(value, 2 * JSON_DEPTH_MAX) ? undefined : value;
  } catch {
    return undefined;
  }
}
