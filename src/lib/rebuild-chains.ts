/**
 * Restores `progress:*` and `idem:*` from the streams, beside live traffic: what each entry says is gathered by key under
 * `rebuild:chain:…`, and each key is then set in one atomic step. As every entry is appended in one step with its progress,
 * a key to which something came meanwhile shows it, and is read again. Keys of which no entry tells are left alone.
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
import { makeEventId, type StreamName } from './event-id.js';
import { readersByStream, STREAMS } from './events.js';
import { type Keys, keysOfCopy } from './keys.js';
import { deleteKeys, makeSkim, type OnProgress, type SkimmedEntry, scanKeys } from './maintenance.js';
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
const REVISION_MARK = 'revision ';
/** In the position: everything is restored and what was gathered may go. */
const DONE = 'done';

export async function rebuildChains(
  options: { redis: RedisClient; keys: Keys; idempotencyTtlS: number },
  onProgress: OnProgress,
): Promise<ChainsReport> {
  const { redis, keys, idempotencyTtlS } = options;
  const copy = keysOfCopy(keys, 'rebuild');
  const position = copy.projector('chain');
  const gatheredAt = (key: string) => copy.projection('chain', key);
  const restore = loadScript(redis, 'restore-chain');
  const readers = JSON.stringify(readersByStream());
  const skim = makeSkim(options);

  if (!(await canResume())) await clear();
  await gather(onProgress);
  const report = await restoreAll();
  await redis.hset(position, DONE, '1');
  await clear();
  return report;

  /** A run that was killed is taken up where it stood, unless it had only to tidy up. */
  async function canResume(): Promise<boolean> {
    return (await redis.exists(position)) === 1 && (await redis.hexists(position, DONE)) === 0;
  }

  async function clear(): Promise<void> {
    await deleteKeys(redis, gatheredAt(''));
    await redis.del(position);
  }

  async function gather(onChunk: OnProgress): Promise<void> {
    for (const stream of STREAMS) {
      const from = (await redis.hget(position, stream)) ?? '0-0';
      for await (const entries of skim(stream, { from: `(${from}` })) {
        const pipeline = redis.pipeline();
        for (const entry of entries) {
          for (const [key, field, facts] of factsOf(stream, entry)) {
            pipeline.hset(gatheredAt(key), field, JSON.stringify(facts));
          }
        }
        // Gathering an entry twice changes nothing, so the position may follow after.
        pipeline.hset(position, stream, entries.at(-1)!.id);
        for (const [error] of (await pipeline.exec()) ?? []) if (error !== null) throw error;
        onChunk(entries.length);
      }
    }
  }

  async function restoreAll(): Promise<ChainsReport> {
    const counts = { same: 0, restored: 0 };
    let behind = new Set<string>();
    const start = gatheredAt('');
    for await (const found of scanKeys(redis, start)) {
      await restoreSome(found.map((name) => name.slice(start.length)));
    }
    for (let round = 0; behind.size > 0 && round < ROUNDS_MAX; round += 1) {
      const again = [...behind];
      behind = new Set();
      await gather(() => {});
      await restoreSome(again);
    }
    return { keys: counts.same + counts.restored + behind.size, restored: counts.restored, left: behind.size };

    async function restoreSome(chainKeys: readonly string[]): Promise<void> {
      const answers = await Promise.all(chainKeys.map(restoreOne));
      answers.forEach((answer, index) => {
        if (answer === 'behind') behind.add(chainKeys[index]!);
        else counts[answer] += 1;
      });
    }
  }

  async function restoreOne(key: string): Promise<Answer> {
    const facts = deriveChain(parseGathered(await redis.hgetall(gatheredAt(key))));
    return (await restore([keys.progress(key), keys.idemSeen(key)], encode(key, facts))) as Answer;
  }

  function encode(key: string, { progress, seen, processed }: ChainFacts): (string | number)[] {
    const fields = Object.entries(progress).flat();
    const untilMs = (at: string) => Date.parse(at) + idempotencyTtlS * 1000;
    const marks = processed.flatMap(({ replay, at }) => {
      const mark = keys.idemProcessed(key).slice(keys.prefix.length);
      return [replay === undefined ? mark : `${mark}:replay:${replay}`, untilMs(at)];
    });
    return [
      ...[keys.prefix, fields.length, ...fields],
      ...[seen?.eventId ?? '', seen === undefined ? 0 : untilMs(seen.at)],
      readers,
      ...marks,
    ];
  }
}

/** What an entry adds, to which key. */
function factsOf(stream: StreamName, { id, fields }: SkimmedEntry): [key: string, field: string, facts: EntryFacts][] {
  const eventId = makeEventId(stream, id);
  // Of an entry without a key nothing is known but its failure.
  const key = fields.key === undefined ? undefined : chainKeyOf(eventId, stream, fields);
  if (key === undefined) return [];
  const { type = '', at = '', cause, hash, request, replay } = fields;
  const facts = {
    ...{ type, at, cause, hash, request, replay },
    ...(type === 'event.failed' && fields.key === `lost:${cause}` ? { isLost: true } : {}),
  } as EntryFacts;
  if (!isWebhook(type) || !key.startsWith('readai:')) return [[key, eventId, facts]];
  return [
    [key, eventId, facts],
    [revisionOf(key).first, `${REVISION_MARK}${revisionOf(key).revision} ${eventId}`, facts],
  ];
}

function parseGathered(flat: Record<string, string>): Gathered {
  const gathered: Gathered = { entries: new Map(), revisions: new Map() };
  for (const [field, json] of Object.entries(flat)) {
    const facts = JSON.parse(json) as EntryFacts;
    if (!field.startsWith(REVISION_MARK)) gathered.entries.set(field, facts);
    else {
      const [, revision, eventId] = field.split(' ');
      gathered.revisions.set(eventId!, { ...facts, revision: Number(revision) });
    }
  }
  return gathered;
}
