/**
 * Restores `progress:*` and `idem:*` from the streams, beside live traffic: what each entry says is gathered by key in this
 * process, and each key is then set in one atomic step. As every entry is appended in one step with its progress, a key to
 * which something came meanwhile shows it, and is read again. Keys of which no entry tells are left alone.
 *
 * A chain may go through streams from one end to the other, so what is gathered must be kept until the last entry is read.
 * Long streams are therefore read several times, each time for another part of the keys: what is held does not grow with them.
 */
import {
  type ChainFacts,
  chainKeyOf,
  deriveChain,
  type EntryFacts,
  type Gathered,
  isWebhook,
  revisionOf,
} from './chain-facts.js';
import { isoTime, makeEventId, type StreamName, streamIdTime } from './event-id.js';
import { readersByStream, STREAMS } from './events.js';
import type { Keys } from './keys.js';
import { makeSkim, type OnProgress, type SkimmedEntry } from './maintenance.js';
import type { RedisClient } from './redis.js';
import { loadScript } from './scripts.js';

export type ChainsReport = {
  /** Keys that the streams tell of. */
  keys: number;
  restored: number;
  /** Changed faster than they could be read: left as they are. */
  left: number;
};

type Answer = 'same' | 'restored' | 'behind';

const ROUNDS_MAX = 20;
const ENTRIES_PER_PASS = 200_000;
const SKIMMED_AT_ONCE = 1_000;
const RESTORED_AT_ONCE = 200;

export type ChainsOptions = {
  redis: RedisClient;
  keys: Keys;
  idempotencyTtlS: number;
  /** [200000] Of so many entries, about, what they say is held at once. */
  entriesPerPass?: number;
};

/** How often streams of so many entries are read. */
export function countPasses(entries: number, entriesPerPass = ENTRIES_PER_PASS): number {
  return Math.max(1, Math.ceil(entries / entriesPerPass));
}

export async function rebuildChains(options: ChainsOptions, onProgress: OnProgress): Promise<ChainsReport> {
  const { redis, keys, idempotencyTtlS, entriesPerPass } = options;
  const restore = loadScript(redis, 'restore-chain');
  const readers = JSON.stringify(readersByStream());
  const skim = makeSkim(options);
  const lengths = await Promise.all(STREAMS.map((stream) => redis.xlen(keys.stream(stream))));
  const passes = countPasses(
    lengths.reduce((total, length) => total + length, 0),
    entriesPerPass,
  );
  const report: ChainsReport = { keys: 0, restored: 0, left: 0 };
  for (let pass = 0; pass < passes; pass += 1) await restorePart(pass);
  return report;

  async function restorePart(pass: number): Promise<void> {
    const lines = new Map<string, string[]>();
    const positions = new Map<StreamName, string>();
    /** How much of each key was read when it was found to be behind. */
    const readOf = new Map<string, number>();
    await gather(onProgress);
    let due = [...lines.keys()];
    report.keys += due.length;
    for (let round = 0; due.length > 0 && round <= ROUNDS_MAX; round += 1) {
      // What came meanwhile.
      if (round > 0) await gather(() => {});
      due = await restoreAll(due, round === 0 ? onProgress : () => {});
    }
    report.left += due.length;

    async function gather(onChunk: OnProgress): Promise<void> {
      for (const stream of STREAMS) {
        const from = `(${positions.get(stream) ?? '0-0'}`;
        for await (const entries of skim(stream, { from, count: SKIMMED_AT_ONCE })) {
          for (const entry of entries) {
            for (const [key, fact] of factsOf(stream, entry)) if (partOf(key, passes) === pass) add(key, fact);
          }
          positions.set(stream, entries.at(-1)!.id);
          onChunk(entries.length);
        }
      }
    }

    /** Nothing has come since it was found to be behind: what is missing was deleted. */
    function isAllRead(key: string): boolean {
      return readOf.get(key) === lines.get(key)!.length;
    }

    /** As text, which takes a fraction of what its objects would. */
    function add(key: string, fact: Fact): void {
      const known = lines.get(key);
      if (known === undefined) lines.set(key, [JSON.stringify(fact)]);
      else known.push(JSON.stringify(fact));
    }

    /** Returns the keys to which something came that is not read yet. */
    async function restoreAll(chainKeys: readonly string[], onRestored: OnProgress): Promise<string[]> {
      const behind: string[] = [];
      for (let from = 0; from < chainKeys.length; from += RESTORED_AT_ONCE) {
        const some = chainKeys.slice(from, from + RESTORED_AT_ONCE);
        const answers = await Promise.all(some.map((key) => restoreOne(key, lines.get(key)!, isAllRead(key))));
        for (const key of some) readOf.set(key, lines.get(key)!.length);
        report.restored += answers.filter((answer) => answer === 'restored').length;
        behind.push(...some.filter((_, index) => answers[index] === 'behind'));
        onRestored(some.reduce((total, key) => total + lines.get(key)!.length, 0));
      }
      return behind;
    }
  }

  async function restoreOne(key: string, lines: readonly string[], isAllRead: boolean): Promise<Answer> {
    const facts = deriveChain(parseGathered(lines));
    return (await restore([keys.progress(key), keys.idemSeen(key)], encode(key, facts, isAllRead))) as Answer;
  }

  function encode(key: string, { progress, seen, processed }: ChainFacts, isAllRead: boolean): (string | number)[] {
    const fields = Object.entries(progress).flat();
    const untilMs = (at: string) => Date.parse(at) + idempotencyTtlS * 1000;
    const marks = processed.flatMap(({ replay, at }) => {
      const mark = keys.idemProcessed(key).slice(keys.prefix.length);
      return [replay === undefined ? mark : `${mark}:replay:${replay}`, untilMs(at)];
    });
    return [
      ...[keys.prefix, isAllRead ? 1 : 0, fields.length, ...fields],
      ...[seen?.eventId ?? '', seen === undefined ? 0 : untilMs(seen.at)],
      readers,
      ...marks,
    ];
  }
}

/** What an entry adds to a key; `revision` where that is the first key of the meeting that it is a revision of. */
type Fact = [eventId: string, facts: EntryFacts, revision?: number];

function factsOf(stream: StreamName, { id, fields }: SkimmedEntry): [key: string, fact: Fact][] {
  const eventId = makeEventId(stream, id);
  // Of an entry without a key nothing is known but its failure.
  const key = fields.key === undefined ? undefined : chainKeyOf(eventId, stream, fields);
  if (key === undefined) return [];
  const { type = '', cause, hash, request, replay } = fields;
  const facts = {
    ...{ type, at: timeOf(id, fields), cause, hash, request, replay },
    ...(type === 'event.failed' && fields.key === `lost:${cause}` ? { isLost: true } : {}),
  } as EntryFacts;
  if (type === 'webhook.rejected' && fields.of !== undefined) {
    return [
      [key, [eventId, facts]],
      [fields.of, [eventId, { ...facts, isOtherContent: true }]],
    ];
  }
  if (!isWebhook(type) || !key.startsWith('readai:')) return [[key, [eventId, facts]]];
  const { first, revision } = revisionOf(key);
  return [
    [key, [eventId, facts]],
    [first, [eventId, facts, revision]],
  ];
}

/** What somebody wrote by hand may have none. */
function timeOf(id: string, { at = '' }: Record<string, string>): string {
  return Number.isNaN(Date.parse(at)) ? isoTime(streamIdTime(id)) || isoTime(0) : at;
}

function parseGathered(lines: readonly string[]): Gathered {
  const gathered: Gathered = { entries: new Map(), revisions: new Map() };
  for (const line of lines) {
    const [eventId, facts, revision] = JSON.parse(line) as Fact;
    if (revision === undefined) gathered.entries.set(eventId, facts);
    else gathered.revisions.set(eventId, { ...facts, revision });
  }
  return gathered;
}

/** Which of so many parts a key belongs to. */
function partOf(key: string, parts: number): number {
  let hash = 0;
  for (let i = 0; i < key.length; i += 1) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) >>> 0;
  return hash % parts;
}
