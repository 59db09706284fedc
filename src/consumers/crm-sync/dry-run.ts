/**
 * Works out what would be written, and writes nothing: `lead.synced` holds exactly the requests that would have been sent.
 * They are full of people's data, so the log only counts them. Zoho is read where credentials are set; without them each lead is taken for a new one, and the request says so.
 */
import type { Context, Outcome } from '../../lib/consumer.js';
import type { LeadSynced } from '../../lib/events.js';
import { type LeadState, toNote, toSavedNote } from '../../lib/lead-state.js';
import {
  buildCreateNotesRequest,
  buildUpdateNotesRequest,
  buildUpsertRequest,
  type Zoho,
} from '../../lib/providers/zoho/crm.js';
import { forgetFormer } from './former-notes.js';
import type { CrmEvent } from './lead-facts.js';
import { groupByEmail, type LeadResult, lookUp, needsWrite, planLeads, toRecord, valuesOf } from './look-up.js';
import { noteKeyOf, notesOf } from './notes.js';
import type { SyncDeps, SyncItem } from './sync-batch.js';
import { isToBeRenewed, parentOf } from './write-notes.js';

type Request = NonNullable<LeadSynced['requests']>[number];

const ASSUMES_NEW = 'The lead is taken for a new one: no Zoho credentials are set';

/** Each event by itself, so that its requests are its own. */
export async function rehearse(
  items: readonly SyncItem[],
  options: Omit<SyncDeps, 'zoho'> & { zoho: Zoho | undefined },
  { signal, log, read }: Context,
): Promise<Map<CrmEvent, Outcome<'lead.synced'>>> {
  const deps: SyncDeps = { ...options, zoho: options.zoho ?? emptyCrm };
  const assumes = options.zoho === undefined ? ASSUMES_NEW : undefined;
  const outcomes = new Map<CrmEvent, Outcome<'lead.synced'>>();
  const emails = [...groupByEmail(items).keys()];
  const [intents, folded] = [await deps.ledger.readIntents(emails), await deps.readLeads(emails)];
  const known = { folded, intentsOf: (email: string) => intents.get(email) ?? new Map() };
  const knowledge = await lookUp(emails, known, deps, { signal });
  for (const item of items) {
    const results = [...planLeads(groupByEmail([item]), knowledge, deps).values()];
    for (const result of results) result.known = await forgetFormerOf(result.known, item.event, read);
    const data = describeWrites(item, results, assumes);
    log.info(countsOf(item.event.id, data), 'dry run: nothing was sent');
    outcomes.set(item.event, { events: [{ type: 'lead.synced', data }] });
  }
  return outcomes;
}

async function forgetFormerOf(known: LeadState, event: CrmEvent, read: Context['read']): Promise<LeadState> {
  const noteKey = noteKeyOf(event);
  const saved = known.notes?.[noteKey];
  if (saved === undefined) return known;
  const note = await forgetFormer(toNote(saved), event, read);
  return { ...known, notes: { ...known.notes, [noteKey]: toSavedNote(note) } };
}

function countsOf(eventId: string, { outcome, leads, notes, requests = [] }: LeadSynced): object {
  const counts = { leads: leads.length, notes: notes.length, requests: requests.length };
  return { event: eventId, outcome, ...counts, look: `npm run -s gvi -- show ${eventId}` };
}

/** The requests that would carry the plans out, as `lead.synced` tells them. */
export function describeWrites(
  item: SyncItem,
  results: readonly LeadResult[],
  assumes: string | undefined,
): LeadSynced {
  const toWrite = results.filter(needsWrite);
  // What is held back is written by the id that the lead gets.
  const later = toWrite.filter(({ heldBack }) => heldBack.size > 0);
  const upserts = [
    toWrite.map(toRecord),
    later.map(({ email, heldBack }) => ({ id: null, Email: email, ...valuesOf(heldBack) })),
  ]
    .filter((records) => records.length > 0)
    .map((records) => ({ ...buildUpsertRequest(records), ...(assumes === undefined ? {} : { assumes }) }));
  const notes = notesOf(
    item.event,
    results.map(({ email }) => email),
  );
  const planned = notes.map((note) => {
    const { found, known } = results.find(({ email }) => email === note.email)!;
    const standing = known.notes?.[note.noteKey];
    return {
      note,
      found,
      standingId: standing?.[0] ?? null,
      isSuperseded: standing !== undefined && standing[1] > note.revision,
      isThere: standing !== undefined && standing[0] !== null && !isToBeRenewed(item.event, note, standing[1]),
    };
  });
  const live = planned.filter(({ isSuperseded, isThere }) => !isSuperseded && !isThere);
  const created = live.filter(({ standingId }) => standingId === null);
  const updated = live.filter(({ standingId }) => standingId !== null);
  const requests: Request[] = [
    ...upserts,
    ...(updated.length === 0
      ? []
      : [
          buildUpdateNotesRequest(
            updated.map(({ note, standingId }) => ({ id: standingId!, title: note.title, content: note.content })),
          ),
        ]),
    ...(created.length === 0
      ? []
      : [
          buildCreateNotesRequest(
            created.map(({ note, found }) => ({
              ...parentOf(found?.id ?? null, found?.converted),
              title: note.title,
              content: note.content,
            })),
          ),
        ]),
  ];
  if (requests.length === 0) {
    const reason = planned.some(({ isSuperseded }) => isSuperseded) ? 'superseded' : 'unchanged';
    return { outcome: 'nothing_to_write', reason, leads: [], notes: [] };
  }
  return {
    outcome: 'dry_run',
    leads: toWrite.map(({ email, found }) => ({
      email,
      leadId: null,
      action: found === undefined ? 'insert' : 'update',
    })),
    notes: live.map(({ standingId }) => ({
      leadId: null,
      noteId: null,
      action: standingId === null ? 'insert' : 'update',
    })),
    requests,
  };
}

/** Stands in for the CRM where it can't be read. */
const emptyCrm = {
  findLeads: async () => [],
  readLeads: async () => [],
} as unknown as Zoho;
