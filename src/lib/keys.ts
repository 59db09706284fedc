/**
 * The Redis keys of the service, by what they hold, but for the Zoho token's (`token-store.ts`). `KEY_PREFIX` stands before each of them, and only here: never in
 * event ids, entry fields or answers.
 *
 * Streams are the truth, projections (`idem`, `progress`, `lead`, `projector`) follow from them; all else are working
 * keys.
 */
import type { Provider } from './errors.js';
import type { StreamName } from './event-id.js';
import type { GroupName } from './events.js';

export type Keys = ReturnType<typeof makeKeys>;

export function makeKeys(prefix: string) {
  return {
    prefix,
    stream: (stream: StreamName) => `${prefix}${stream}`,
    idemSeen: (key: string) => `${prefix}idem:seen:${key}`,
    idemProcessed: (key: string) => `${prefix}idem:processed:${key}`,
    /**
     * Hash: `id` of the current try, `state`, content `hash`, a field for each event id of the chain, and `replayFailed`:
     * the entry on which a replay of what was processed has failed.
     */
    progress: (key: string) => `${prefix}progress:${key}`,
    /** Hash: request ids of duplicates to the revision they repeated; of a meeting's first key. */
    requests: (key: string) => `${prefix}requests:${key}`,
    /** Written to see whether Redis lets us write. */
    readiness: () => `${prefix}readyz`,
    /** Sorted set: event ids that wait for their next attempt, by the time they are due (ms). */
    parked: (group: GroupName) => `${prefix}parked:${group}`,
    /** Hash: event id to what its attempts so far were (JSON); only for entries that did not succeed at once. */
    attempts: (group: GroupName) => `${prefix}attempts:${group}`,
    /** Hash: event id to the id of the replay that runs it although its event is processed. */
    replay: (group: GroupName) => `${prefix}replay:${group}`,
    /** Hash: event id to the crashes that it was started in (`common.lua`); only for entries of workers that died. */
    strikes: (group: GroupName) => `${prefix}strikes:${group}`,
    /** Hash: worker to its last heartbeat, Redis time in ms. */
    alive: (group: GroupName) => `${prefix}alive:${group}`,
    /** Hash: how far the group was in each stream, for the case that it is destroyed (`common.lua`). */
    cursors: (group: GroupName) => `${prefix}cursors:${group}`,
    /** Set: what a call has just redriven, in case it is sent again. */
    redriven: (call: string) => `${prefix}redriven:${call}`,
    /** Hash: replays that have not come to the end of their range, by id (JSON). */
    replays: () => `${prefix}replays`,
    /** Hash: how many entries trimming has dropped, by stream. */
    trimmed: () => `${prefix}trimmed`,
    /** How many entries others had deleted when last looked, by stream. */
    deletionsSeen: () => `${prefix}deletions:seen`,
    /** Where the automatic trimming goes on (JSON). */
    trimCursor: () => `${prefix}trim:cursor`,
    /** Sorted set: event ids that wait for a provider's return or for their turn with it, by since when (ms). */
    waiting: (group: GroupName, provider: Provider) => `${prefix}waiting:${group}:${provider}`,
    /** Hash: a provider's pause, absent while it is up. */
    pause: (provider: Provider) => `${prefix}pause:${provider}`,
    /** Hash: how much of a provider all workers together may ask, and each one's share. */
    limit: (provider: Provider) => `${prefix}limit:${provider}`,
    /** Hash of leases on leads: email to `owner|until`. */
    leadLeases: () => `${prefix}lease:leads`,
    lease: (name: string) => `${prefix}lease:${name}`,
    /** Hash: email to the CRM values about to be written and not yet in `lead.synced`. */
    intents: () => `${prefix}ledger:leads`,
    noteIntent: (noteKey: string) => `${prefix}ledger:note:${noteKey}`,
    /** How often an alert was handed to Slack, until its outcome is known. */
    alertMark: (eventId: string) => `${prefix}ledger:alert:${eventId}`,
    /** Hash: a storm of failures that the channel was told of and whose end it has yet to hear: since, last. */
    storm: () => `${prefix}ledger:storm`,
    projector: (name: string) => `${prefix}projector:${name}`,
    projection: (name: string, id: string) => `${prefix}${name}:${id}`,
    /** Hash: a projection to how often its states were swapped for rebuilt ones, counted at each begin and each end. */
    swaps: () => `${prefix}swaps`,
  };
}

/**
 * The same keys, but for a second copy of the projections: `checkpoint` holds what was folded before entries were
 * trimmed, `rebuild` is folded anew beside the live ones.
 */
export function keysOfCopy(keys: Keys, copy: 'checkpoint' | 'rebuild'): Keys {
  const { prefix } = keys;
  return {
    ...keys,
    projector: (name) => `${prefix}${copy}:projector:${name}`,
    projection: (name, id) => `${prefix}${copy}:${name}:${id}`,
    // Nothing is folded into what is rebuilt either while it takes the place of the live one.
    swaps: copy === 'rebuild' ? keys.swaps : () => `${prefix}${copy}:swaps`,
  };
}
