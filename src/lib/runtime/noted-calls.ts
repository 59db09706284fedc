/**
 * The calls of what was in a crash before, whose starts are noted before they begin: if the worker dies of one, that must be
 * known. They run as usual, one start after the other; a suspect runs alone, in the isolation slot.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { goFirst } from '../provider-gate.js';
import type { Entry } from './entry.js';
import type { GroupStore } from './group-store.js';
import type { Isolation } from './isolation.js';

export type CallOptions = {
  /** Asked once it is known that the call is to be made. */
  begin?: () => Promise<boolean>;
  /** In a slot of its own, beside the usual ones; of a batch consumer as a batch of one. */
  isAlone?: boolean;
};

type Noted = { entry: Entry; isLetGo: boolean };

export type NotedCalls<Item> = {
  /** A call of which these were in a crash before. Resolves when it is over. */
  runInTurn: (items: readonly Item[], noted: readonly Item[]) => Promise<void>;
  suspects: {
    push: (item: Item) => void;
    /** Where the isolation slot is free. */
    start: () => void;
    /** How many more may be taken. */
    room: () => 0 | 1;
    running: () => number;
    /** Takes out what has not begun; one may stand at the door of its slot. */
    clear: () => Item[];
  };
};

const RETRY_MS = 100;
/** So soon a suspect that waits for its start notices that it is to be handed back. */
const DOOR_MS_MAX = 200;

export function makeNotedCalls<Item extends Noted>(options: {
  store: Pick<GroupStore, 'noteStart' | 'noteStopped'>;
  isolation: Isolation;
  runCall: (items: readonly Item[], options: CallOptions) => Promise<void>;
  isHeld: (item: Item) => boolean;
  letGo: (item: Item) => void;
  isAborted: () => boolean;
  /** A suspect is done. */
  onEnd: () => void;
}): NotedCalls<Item> {
  const { store, isolation, runCall, isHeld, letGo, isAborted, onEnd } = options;
  const suspects: Item[] = [];
  let running = 0;
  /** A suspect that has its slot and may not begin yet. */
  let atTheDoor: Item | undefined;
  /** Resolves when the last call of an entry that was in a crash has begun. */
  let begun: Promise<unknown> = Promise.resolve();
  isolation.onFree(() => start());

  return {
    runInTurn,
    suspects: {
      push: (item) => void suspects.push(item),
      start,
      room: () => (isolation.isFree() && suspects.length === 0 ? 1 : 0),
      running: () => running,
      clear: () => [...suspects.splice(0), ...(atTheDoor === undefined ? [] : [atTheDoor])],
    },
  };

  /** What ends its worker as it begins is then the last to be noted, and no neighbour that waits is taken for a culprit. */
  async function runInTurn(items: readonly Item[], noted: readonly Item[]): Promise<void> {
    const before = begun;
    let call: Promise<void> | undefined;
    const beginning = before.then(async () => {
      const isNoted = await Promise.all(noted.map((item) => noteStart(item, 'begun')));
      call = runCall(items, { begin: async () => isNoted.every(Boolean) });
      await nextTurn();
    });
    begun = beginning;
    await beginning;
    await call;
  }

  function start(): void {
    if (suspects.length === 0 || isAborted() || !isolation.enter()) return;
    const item = suspects.shift()!;
    running += 1;
    void runAlone(item).finally(() => {
      running -= 1;
      isolation.leave();
      onEnd();
    });
  }

  /**
   * It is not as much as looked at before its start is noted: that alone may be what crashes a worker. Where a provider's
   * limit is what all wait for, its slot would wait as each of the others does, and those that wait for the slot much longer.
   */
  async function runAlone(item: Item): Promise<void> {
    if (await noteStart(item, 'alone')) await goFirst(() => runCall([item], { isAlone: true }));
    else letGo(item);
    if (item.isLetGo) await noteStopped(item);
  }

  /** Before anything is done. A suspect may have to wait with its slot. */
  async function noteStart(item: Item, state: 'begun' | 'alone'): Promise<boolean> {
    if (state === 'alone') atTheDoor = item;
    try {
      while (!isAborted() && isHeld(item)) {
        const answer = await store.noteStart(item.entry, state).catch(() => RETRY_MS);
        if (answer === 'lost') return false;
        // It may have been handed back meanwhile.
        if (answer === 'noted') return isHeld(item);
        await sleep(Math.min(answer, DOOR_MS_MAX));
      }
      return false;
    } finally {
      if (atTheDoor === item) atTheDoor = undefined;
    }
  }

  /** Before its slot is another's: for the next crash there both would be blamed. */
  async function noteStopped({ entry }: Item): Promise<void> {
    while (!isAborted() && !(await store.noteStopped(entry).catch(() => false))) await sleep(RETRY_MS);
  }
}
