/**
 * Notes from before their meeting was trimmed. A meeting that is pushed again after that is numbered from one anew, so the
 * revision of its note says nothing any more: whatever comes now came later.
 */
import type { Context } from '../../lib/consumer.js';
import { compareEventIds, makeEventId } from '../../lib/event-id.js';
import { type NoteState, splitPlace } from '../../lib/lead-state.js';
import { type CrmEvent, entryOf } from './lead-facts.js';

/**
 * The note with revision 0 where it is such a one, so that any revision is later. It is told by its webhook's entry, which
 * is gone: what there is of a meeting is trimmed as a whole or not at all. An older entry that is still there has the same
 * numbering, as when a failed revision is delivered again.
 */
export async function forgetFormer(note: NoteState, event: CrmEvent, read: Context['read']): Promise<NoteState> {
  const { revision, place } = note;
  if (event.type !== 'meeting.summarized' || event.cause === undefined) return note;
  if (place === undefined || revision < event.data.revision) return note;
  const webhook = makeEventId('events:readai', entryOf(splitPlace(place).order));
  const isFormer = compareEventIds(webhook, event.cause) < 0 && (await read(webhook)) === undefined;
  return isFormer ? { ...note, revision: 0 } : note;
}
