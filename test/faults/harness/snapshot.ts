/** All that stands in the streams, read by a client of the suite's own. */
import type { StreamName } from '../../../src/lib/event-id.js';
import { catalogue, type EventFailed, isEventType, STREAMS } from '../../../src/lib/events.js';
import { toRecord } from '../../../src/lib/runtime/entry.js';
import { groupBy } from './history.js';
import type { World } from './world.js';

export type SnapshotEntry = {
  eventId: string;
  stream: StreamName;
  id: string;
  /** Of Redis, ms since 1970. */
  at: number;
  type: string;
  key: string;
  cause: string | undefined;
  replay: string | undefined;
  fields: Record<string, string>;
};

export type Snapshot = {
  entries: readonly SnapshotEntry[];
  byStream: (stream: StreamName) => readonly SnapshotEntry[];
  byKey: Map<string, SnapshotEntry[]>;
  byCause: Map<string, SnapshotEntry[]>;
  /** What ingest took in. */
  webhooks: readonly SnapshotEntry[];
  /** The streams' own failures, parsed. */
  failures: readonly (EventFailed & { failureId: string })[];
};

const PAGE = 1_000;

export async function readSnapshot({ client, keys }: Pick<World, 'client' | 'keys'>): Promise<Snapshot> {
  const entries: SnapshotEntry[] = [];
  for (const stream of STREAMS) {
    for (let from = '-'; ; ) {
      const page = await client.xrange(keys.stream(stream), from, '+', 'COUNT', PAGE);
      for (const [id, flat] of page) entries.push(toSnapshotEntry(stream, id, flat));
      if (page.length < PAGE) break;
      from = `(${page.at(-1)![0]}`;
    }
  }
  const byStream = groupBy(entries, ({ stream }) => stream);
  const failures = (byStream.get('events:failed') ?? []).map(({ eventId, fields }) => ({
    ...catalogue['event.failed'].data.parse(JSON.parse(fields.data ?? 'null')),
    failureId: eventId,
  }));
  return {
    entries,
    byStream: (stream) => byStream.get(stream) ?? [],
    byKey: groupBy(entries, ({ key }) => key),
    byCause: groupBy(
      entries.filter(({ cause }) => cause !== undefined),
      ({ cause }) => cause!,
    ),
    webhooks: entries.filter(({ type }) => isEventType(type) && /^(calendly|readai)\./.test(type)),
    failures,
  };
}

/** All entries that an entry has caused, however indirectly. */
export function descendants(snapshot: Snapshot, { eventId }: SnapshotEntry): SnapshotEntry[] {
  const own = snapshot.byCause.get(eventId) ?? [];
  return own.flatMap((entry) => [entry, ...descendants(snapshot, entry)]);
}

function toSnapshotEntry(stream: StreamName, id: string, flat: string[]): SnapshotEntry {
  const fields = toRecord(flat);
  return {
    eventId: `${stream.slice('events:'.length)}-${id}`,
    ...{ stream, id, fields },
    at: Number(id.split('-')[0]),
    type: fields.type ?? '',
    key: fields.key ?? '',
    cause: fields.cause,
    replay: fields.replay,
  };
}
