import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../../src/lib/command-line.js';
import { compareStreamIds, isoTime, makeEventId, type StreamName, streamIdTime } from '../../src/lib/event-id.js';
import { STREAMS } from '../../src/lib/events.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { judgeRedisError } from '../../src/lib/redis-errors.js';
import { toRecord } from '../../src/lib/runtime/entry.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';

/** An entry in short. Nothing of a person is in it. */
type Line = {
  at: string;
  stream: StreamName;
  type: string;
  eventId: string;
  key: string;
  /** Of a failure: why. */
  code?: string;
  /** What else tells entries of a type apart. */
  detail?: string;
};

/** A read ends by itself after this, so that a connection that died unnoticed is found out. */
const BLOCK_MS = 5_000;
/** Entries of one stream in one read: a meeting may be a megabyte. */
const COUNT = 50;
const ERROR_WAIT_MS = 500;

/** Follows the streams until it is stopped. */
export const tail: Command = {
  name: 'tail',
  redis: 'look',
  usage: 'tail [stream] [--since <redis id>]',
  summary: 'follows all streams, or one: a line for each new entry, until Ctrl-C',
  async run(argv, context) {
    const { values, positionals } = parseCommandLine(tail, argv, { since: { type: 'string' } });
    const streams = readStreams(positionals);
    if (values.since !== undefined && !/^\d+(-\d+)?$/.test(values.since)) {
      throw new UsageError('--since: should be a Redis id such as 1763900000000-0; entries after it are shown');
    }
    const positions = await findPositions(context, streams, values.since);
    const show = (line: Line) => context.print(values.json ? JSON.stringify(line) : formatLine(line));
    await follow({ context, streams, positions, show });
    return 0;
  },
};

function readStreams(positionals: readonly string[]): StreamName[] {
  const [given] = positionals;
  if (positionals.length > 1) throw new UsageError(`Usage: gvi ${tail.usage}`);
  if (given === undefined) return STREAMS;
  const found = STREAMS.find((stream) => stream === given || stream === `events:${given}`);
  if (found === undefined) throw new UsageError(`There is no stream ${given}; there are ${STREAMS.join(', ')}`);
  return [found];
}

/** `$` would only do for the first read: what comes to one stream while another is printed would be missed. */
function findPositions(
  { redis, keys }: CommandContext,
  streams: readonly StreamName[],
  since: string | undefined,
): Promise<string[]> {
  return Promise.all(streams.map(async (stream) => since ?? (await readLastId(redis, keys.stream(stream)))));
}

async function readLastId(redis: RedisClient, key: string): Promise<string> {
  try {
    const info = (await redis.xinfo('STREAM', key)) as unknown[];
    return String(info[info.indexOf('last-generated-id') + 1]);
  } catch (error) {
    if (error instanceof Error && /no such key/i.test(error.message)) return '0-0';
    throw error;
  }
}

/** Resolves when the person, or the pipe it prints to, has had enough. Redis may go and come back meanwhile. */
async function follow(options: {
  context: CommandContext;
  streams: readonly StreamName[];
  positions: string[];
  show: (line: Line) => void;
}): Promise<void> {
  const { context, streams, positions, show } = options;
  const blocking = connectRedis({ url: context.config.redisUrl, role: 'blocking', blockMsMax: BLOCK_MS });
  tellWhenAway(blocking);
  let isStopping = false;
  const stop = () => {
    isStopping = true;
    blocking.disconnect();
  };
  // Each time: a Ctrl-C comes from npm as well.
  process.on('SIGINT', stop).on('SIGTERM', stop);
  process.stdout.on('error', stop);
  try {
    while (!isStopping) {
      for (const line of await readNext(blocking, context, streams, positions)) show(line);
    }
  } catch (error) {
    if (!isStopping) throw error;
  } finally {
    process.stdout.off('error', stop);
    blocking.disconnect();
  }
}

function tellWhenAway(blocking: RedisClient): void {
  let isAway = false;
  blocking.on('reconnecting', () => {
    if (!isAway) process.stderr.write('Redis is away; waiting for it\n');
    isAway = true;
  });
  blocking.on('ready', () => {
    if (isAway) process.stderr.write('Redis is back\n');
    isAway = false;
  });
}

/** Waits for new entries, moves the positions past them, and returns them in the order of their ids. */
async function readNext(
  blocking: RedisClient,
  { keys }: CommandContext,
  streams: readonly StreamName[],
  positions: string[],
): Promise<Line[]> {
  const names = streams.map((stream) => keys.stream(stream));
  const watchdog = setTimeout(() => blocking.disconnect(true), BLOCK_MS * 2);
  try {
    const reply = await blocking.xread('COUNT', COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', ...names, ...positions);
    const entries = (reply ?? []).flatMap(([name, items]) => {
      const index = names.indexOf(name);
      positions[index] = items.at(-1)?.[0] ?? positions[index]!;
      return items.map(([id, flat]) => ({ stream: streams[index]!, id, fields: toRecord(flat) }));
    });
    return entries.sort((a, b) => compareStreamIds(a.id, b.id)).map(toLine);
  } catch (error) {
    const kind = judgeRedisError(error)?.kind;
    if (kind !== 'away' && kind !== 'reconnect' && kind !== 'group') throw error;
    await sleep(ERROR_WAIT_MS);
    return [];
  } finally {
    clearTimeout(watchdog);
  }
}

function toLine({ stream, id, fields }: { stream: StreamName; id: string; fields: Record<string, string> }): Line {
  return {
    at: fields.at ?? isoTime(streamIdTime(id)),
    stream,
    type: fields.type ?? '',
    eventId: makeEventId(stream, id),
    key: fields.key ?? '',
    ...detailOf(fields),
  };
}

/** Words of our own alone: nothing that a person or a provider wrote. */
function detailOf({ type, data, reason }: Record<string, string>): Pick<Line, 'code' | 'detail'> {
  if (type === 'webhook.rejected') return { detail: reason ?? '' };
  const parsed = parseObject(data);
  switch (type) {
    case 'event.failed':
      return { code: String((parsed.error as { code?: unknown } | undefined)?.code ?? '') };
    case 'lead.synced':
      return { detail: String(parsed.outcome ?? '') };
    case 'provider.paused':
    case 'provider.resumed':
      return { detail: `${parsed.provider} ${parsed.kind}` };
    case 'alert.sent':
      return { detail: String(parsed.delivery ?? '') };
    case 'operation.done':
      return { detail: `${parsed.operation} ${parsed.count}` };
    default:
      return {};
  }
}

function parseObject(json: string | undefined): Record<string, unknown> {
  try {
    return Object(JSON.parse(json ?? '{}'));
  } catch {
    return {};
  }
}

/** A key holds what a sender chose: it must not steer the terminal. */
function formatLine({ at, stream, type, eventId, key, code, detail }: Line): string {
  return `${at}  ${stream.padEnd(17)}  ${type}  ${eventId}  ${key}  ${code ?? detail ?? ''}`
    .trimEnd()
    .replace(/\p{C}/gu, '?');
}
