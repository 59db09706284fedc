/** Tells apart what each event of a batch came to, once the leads and notes are written. */
import type { Outcome } from '../../lib/consumer.js';
import { TerminalError } from '../../lib/errors.js';
import type { LeadSynced } from '../../lib/events.js';
import { DERIVED } from '../../lib/lead-state.js';
import type { LeadResult } from './look-up.js';
import type { PlannedField } from './plan-lead.js';
import { toWrote } from './receipt.js';
import type { SyncItem } from './sync-batch.js';
import type { LeadNote } from './write-notes.js';

/** One lead that fails for good is one failure that names it; the others are written all the same. */
export function toOutcome(
  item: SyncItem,
  results: ReadonlyMap<string, LeadResult>,
  notes: readonly LeadNote[],
): Outcome<'lead.synced'> {
  const mine = item.leads.map(({ email }) => results.get(email)!);
  const ownNotes = notes.filter((note) => note.event === item.event);
  const errors = [...mine.flatMap(({ error }) => error ?? []), ...ownNotes.flatMap(({ error }) => error ?? [])];
  const error = errors.find((candidate) => !(candidate instanceof TerminalError)) ?? errors[0];
  if (error !== undefined) return { error };
  return { events: [{ type: 'lead.synced', data: toSynced(item, mine, ownNotes) }] };
}

function toSynced(item: SyncItem, mine: readonly LeadResult[], notes: readonly LeadNote[]): LeadSynced {
  const leads = mine.flatMap(({ email, leadId, action, plan, found }) => {
    const own = item.leads.find((lead) => lead.email === email)!;
    const isOwn = ({ order }: PlannedField) => order === own.order;
    const wroteOwn = [...plan.fields.values()].some((field) => isOwn(field) || field.order === DERIVED);
    const hasOwn = wroteOwn || [...plan.standing.values()].some(isOwn);
    return leadId !== null && (action === 'insert' || hasOwn) && found?.converted === undefined
      ? [{ email, leadId, action: action === 'none' ? ('update' as const) : action }]
      : [];
  });
  const matched = mine.flatMap(({ email, leadId, found }) =>
    leadId === null || leads.some((lead) => lead.email === email)
      ? []
      : [{ email, leadId, ...(found?.converted === undefined ? {} : { converted: true }) }],
  );
  const written = notes.filter(({ action }) => action !== 'none');
  const wrote = Object.fromEntries(
    item.leads.map((lead) => [lead.email, toWrote(lead, mine.find(({ email }) => email === lead.email)!)]),
  );
  const isWritten = leads.length > 0 || written.length > 0;
  const reason = reasonOf(notes, mine, isWritten);
  return {
    outcome: isWritten ? 'written' : 'nothing_to_write',
    ...(reason === undefined ? {} : { reason }),
    leads,
    notes: written.map(({ plan, parentId, noteId, action, module }) => ({
      leadId: parentId,
      noteId,
      action: action === 'update' ? ('update' as const) : ('insert' as const),
      ...(module === 'Leads' ? {} : { module }),
      ...{ email: plan.email, noteKey: plan.noteKey, revision: plan.revision },
    })),
    ...(matched.length === 0 ? {} : { matched }),
    wrote,
  };
}

function reasonOf(notes: readonly LeadNote[], mine: readonly LeadResult[], isWritten: boolean): string | undefined {
  if (!isWritten && notes.some(({ isSuperseded }) => isSuperseded)) return 'superseded';
  if (mine.some(({ found }) => found?.converted !== undefined)) return 'lead_converted';
  return isWritten ? undefined : 'unchanged';
}
