/**
 * Finishes entries: what came of each is appended and the entry acknowledged in one atomic step. Entries that finish
 * while a step is under way go together in the next one, so a backlog costs few commands and a single entry no wait.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { compareStreamIds, type StreamName } from '../event-id.js';
import type { GroupName } from '../events.js';
import type { Keys } from '../keys.js';
import type { RedisClient } from '../redis.js';
import { isGroupMissing, judgeRedisError } from '../redis-errors.js';
import { loadScript } from '../scripts.js';
import type { AttemptRecord, Entry } from './entry.js';

export type Settlement =
  /** `mark`: the pipeline is done with the event; set in the same step, for so many seconds. */
  | { kind: 'done'; events: { stream: StreamName; fields: string[] }[]; mark?: { key: string; ttlS: number } }
  | { kind: 'ack' }
  | { kind: 'fail'; stream: StreamName; fields: string[] }
  | { kind: 'park' | 'wait'; set: string; delayMs: number; record: AttemptRecord };

type Job = { entry: Entry; settlement: Settlement; resolve: (settled: boolean) => void };

export type Settler = {
  /** Resolves to false when another has the claim, or had it and settled it otherwise: then nothing was written. Waits out a Redis that is away. */
  settle: (entry: Entry, settlement: Settlement) => Promise<boolean>;
};

const STEP_MAX = 100;
const RETRY_MS = 250;

export function makeSettler(options: {
  redis: RedisClient;
  keys: Keys;
  group: GroupName;
  consumer: string;
  log: Logger;
  /** Makes the group again: what is held may then still be settled. */
  repair: () => Promise<void>;
  /** Aborted when the worker ends for good: what could not be settled by then is left to a reclaim. */
  signal: AbortSignal;
}): Settler {
  const { redis, keys, group, consumer, log, repair, signal } = options;
  const script = loadScript(redis, 'settle');
  const queues = new Map<StreamName, Job[]>();
  const busy = new Set<StreamName>();

  return {
    settle(entry, settlement) {
      return new Promise((resolve) => {
        const queue = queues.get(entry.stream) ?? [];
        queues.set(entry.stream, queue);
        queue.push({ entry, settlement, resolve });
        // A turn of the event loop lets entries that finish together settle together.
        setImmediate(() => void drain(entry.stream));
      });
    },
  };

  async function drain(stream: StreamName): Promise<void> {
    if (busy.has(stream)) return;
    busy.add(stream);
    try {
      for (let jobs = nextJobs(stream); jobs.length > 0; jobs = nextJobs(stream)) {
        const isAnswered = await sendUntilAnswered(stream, jobs, { isApart: false });
        if (!isAnswered) for (const job of jobs) void sendUntilAnswered(stream, [job], { isApart: true });
      }
    } finally {
      busy.delete(stream);
    }
  }

  function nextJobs(stream: StreamName): Job[] {
    const jobs = queues.get(stream)?.splice(0, STEP_MAX) ?? [];
    return jobs.sort((a, b) => compareStreamIds(a.entry.id, b.entry.id));
  }

  /**
   * The work is done, so its outcome is kept until Redis takes it: a lost outcome would be work done twice. False where Redis
   * will not take one of them as it is: each is then to be sent apart, so that it holds up no other until somebody has mended it.
   */
  async function sendUntilAnswered(
    stream: StreamName,
    jobs: Job[],
    { isApart }: { isApart: boolean },
  ): Promise<boolean> {
    const { keyList, args } = encodeJobs(stream, jobs);
    let settled: number[] = jobs.map(() => 0);
    let isTold = false;
    for (let isAnswered = false; !isAnswered && !signal.aborted; ) {
      try {
        settled = (await script(keyList, args)) as number[];
        isAnswered = true;
      } catch (error) {
        if (!isApart && judgeRedisError(error)?.kind === 'ours') return false;
        if (isGroupMissing(error)) await repair().catch(() => {});
        else if (!isTold) {
          log.error({ err: error, group, stream, entries: jobs.length }, 'could not settle; trying again');
          isTold = true;
        }
        await sleep(RETRY_MS);
      }
    }
    jobs.forEach((job, index) => {
      job.resolve(settled[index] !== 0);
    });
    return true;
  }

  function encodeJobs(stream: StreamName, jobs: Job[]): { keyList: string[]; args: string[] } {
    const places = new Map<string, number>([
      [keys.stream(stream), 1],
      [keys.attempts(group), 2],
      [keys.replay(group), 3],
    ]);
    const placeOf = (key: string): string => {
      if (!places.has(key)) places.set(key, places.size + 1);
      return String(places.get(key));
    };
    const args = [group, consumer, String(jobs.length), ...jobs.flatMap((job) => encodeJob(keys, job, placeOf))];
    return { keyList: [...places.keys()], args };
  }
}

function encodeJob(keys: Keys, { entry, settlement }: Job, placeOf: (key: string) => string): string[] {
  const isRemembered = entry.record !== undefined || entry.crashes > 0 || entry.fields.replay !== undefined;
  const head = [
    ...[entry.id, entry.eventId, settlement.kind, isRemembered ? '1' : '0'],
    placeOf(keys.progress(entry.fields.key ?? `lost:${entry.eventId}`)),
  ];
  switch (settlement.kind) {
    case 'ack':
      return head;
    case 'done': {
      const { mark, events } = settlement;
      const encoded = events.flatMap(({ stream, fields }) => [
        ...[placeOf(keys.stream(stream)), stream.slice('events:'.length), String(fields.length)],
        ...fields,
      ]);
      return [
        ...head,
        mark === undefined ? '0' : placeOf(mark.key),
        String(mark?.ttlS ?? 0),
        String(events.length),
        ...encoded,
      ];
    }
    case 'fail':
      return [...head, placeOf(keys.stream(settlement.stream)), String(settlement.fields.length), ...settlement.fields];
    case 'park':
    case 'wait':
      return [
        ...head,
        placeOf(settlement.set),
        String(Math.max(0, Math.round(settlement.delayMs))),
        JSON.stringify(settlement.record),
      ];
  }
}
