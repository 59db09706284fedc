/**
 * Finds the entries that are taken before new ones: what was handed out here without being heard of, what dead or stopped
 * workers left, and what was put off and is due: retries, replays, what waited for a provider. Of the last there may be
 * thousands: where they take all the room, new entries come first in the next turn.
 */
import type { Logger } from 'pino';
import { parseEventId, type StreamName } from '../event-id.js';
import type { Deliverer } from './deliverer.js';
import type { Entry } from './entry.js';
import type { GroupStore, Room } from './group-store.js';

export type TakeOver = {
  /** What is to be done now, no more than there is room for. */
  next: () => Promise<Entry[]>;
  /** How long nothing is expected. */
  restMs: () => number;
  /** True while suspects wait for the isolation slot. */
  hasSuspects: () => boolean;
  /** A slot has fallen free. True where something waits for one. */
  freed: () => boolean;
  /** This worker has parked something for so long. */
  parked: (delayMs: number) => void;
  /** Replies may have been lost: look for what they handed out. */
  findStrays: () => void;
};

const RECLAIM_EVERY_MS = 500;
/** So soon it is seen what another worker has parked. */
const DUE_EVERY_MS = 500;
const DUE_EVERY_MS_MIN = 5;
/** While suspects wait for the isolation slot. */
const SUSPECT_EVERY_MS = 20;

export function makeTakeOver(options: {
  store: GroupStore;
  deliverer: Deliverer;
  log: Logger;
  onTime: (redisNow: number) => void;
}): TakeOver {
  const { store, deliverer, log, onTime } = options;
  const cursors = new Map<StreamName, string>();
  let hasStrays = false;
  let suspectsLeft = 0;
  let nextDueAt = 0;
  let isTurnOfNew = false;
  let waitsForRoom = false;
  /** More of what dead workers left is there than there was room for: it comes first, as slots fall free. */
  let isBehind = false;
  let reclaimedAt = Number.NEGATIVE_INFINITY;

  return {
    async next() {
      try {
        return await findNext();
      } catch (error) {
        // What an earlier step has taken stands to our name, and nobody has it in hand.
        hasStrays = true;
        throw error;
      }
    },
    findStrays() {
      hasStrays = true;
    },
    restMs: () => {
      const untilDue = nextDueAt - performance.now();
      const isTurnOfSuspect = suspectsLeft > 0 && deliverer.room().alone > 0;
      const untilReclaim = isTurnOfSuspect ? SUSPECT_EVERY_MS : reclaimedAt + RECLAIM_EVERY_MS - performance.now();
      return Math.max(0, Math.min(untilDue, untilReclaim));
    },
    hasSuspects: () => suspectsLeft > 0,
    freed() {
      if (waitsForRoom) parked(0);
      return waitsForRoom;
    },
    parked,
  };

  async function findNext(): Promise<Entry[]> {
    const entries: Entry[] = [];
    const room = () => roomBeside(deliverer.room(), entries);
    if (hasStrays) entries.push(...(await adopt(room)));
    const isTurnOfSuspect = suspectsLeft > 0 && room().alone > 0;
    const isTurnOfLeft = isBehind && room().free > 0;
    if (isTurnOfSuspect || isTurnOfLeft || performance.now() - reclaimedAt >= RECLAIM_EVERY_MS) {
      reclaimedAt = performance.now();
      await reclaimInto(entries, room);
    }
    if (!isTurnOfNew && room().free > 0 && performance.now() >= nextDueAt) {
      entries.push(...(await takeDue(room())));
      isTurnOfNew = room().free === 0;
    }
    // What room is left now is offered to new entries.
    if (room().free > 0) isTurnOfNew = false;
    return entries;
  }

  function parked(delayMs: number): void {
    nextDueAt = Math.min(nextDueAt, performance.now() + Math.max(delayMs, DUE_EVERY_MS_MIN));
  }

  async function adopt(room: () => Room): Promise<Entry[]> {
    hasStrays = false;
    const found: Entry[] = [];
    for (const stream of store.streams) {
      const held = deliverer.held().filter((entry) => entry.stream === stream);
      const reply = await store.adopt(
        stream,
        held.map(({ id }) => id),
        roomBeside(room(), found),
      );
      tellVanished(stream, reply.vanished);
      found.push(...reply.entries);
      if (reply.left > 0) hasStrays = true;
    }
    if (found.length > 0)
      log.info({ group: store.group, entries: found.length }, 'took in entries whose reply was lost');
    return found;
  }

  async function takeDue(room: Room): Promise<Entry[]> {
    // Set before it is asked: something may be parked meanwhile.
    nextDueAt = performance.now() + DUE_EVERY_MS;
    const due = await store.takeDue(room, deliverer.roomFor);
    waitsForRoom = due.waitsForRoom;
    onTime(due.now);
    for (const eventId of due.vanished) {
      const { stream, id } = parseEventId(eventId)!;
      tellVanished(stream, [id]);
    }
    if (due.nextDueAt !== undefined) parked(due.nextDueAt - due.now);
    return due.entries;
  }

  /** Walks every stream from where the last walk ended, as one reply may be empty with a cursor that goes on. */
  async function reclaimInto(entries: Entry[], room: () => Room): Promise<void> {
    let count = 0;
    suspectsLeft = 0;
    isBehind = false;
    for (const stream of store.streams) {
      const start = cursors.get(stream) ?? '0-0';
      let cursor = start;
      do {
        const { free, alone } = room();
        // For a suspect alone it is not walked whole: the list may be long. What may be there comes first when a slot falls
        // free: new entries would take each of them.
        if (free <= 0 && (alone <= 0 || cursor !== start)) {
          isBehind = true;
          break;
        }
        const reply = await store.reclaim(stream, cursor, { free, alone });
        tellVanished(stream, reply.vanished);
        entries.push(...reply.entries);
        count += reply.entries.length;
        suspectsLeft += reply.left;
        isBehind ||= reply.isBehind;
        cursor = reply.cursor;
      } while (cursor !== '0-0');
      cursors.set(stream, cursor);
    }
    if (count > 0) log.info({ group: store.group, entries: count }, 'took over entries of another worker');
  }

  function tellVanished(stream: StreamName, ids: readonly string[]): void {
    for (const id of ids) log.error({ group: store.group, stream, id }, 'an entry vanished from under the group');
  }
}

function roomBeside({ free, alone }: Room, entries: readonly Entry[]): Room {
  const suspects = entries.filter(({ verdict }) => verdict === 'suspect').length;
  return { free: Math.max(0, free - (entries.length - suspects)), alone: Math.max(0, alone - suspects) };
}
