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

/** Of the leads that fail for good so many are named in one failure. */
const NAMED_MAX = 10;

/** Leads that fail for good are one failure that names them; the others are written all the same. */
export function toOutcome(
  item: SyncItem,
  results: ReadonlyMap<string, LeadResult>,
  notes: readonly LeadNote[],
): Outcome<'lead.synced'> {
  const mine = item.leads.map(({ email }) => results.get(email)!);
  const ownNotes = notes.filter((note) => note.event === item.event);
  const errors = [...mine.flatMap(({ error }) => error ?? []), ...ownNotes.flatMap(({ error }) => error ?? [])];
  const passing = errors.find((error) => !(error instanceof TerminalError));
  if (passing !== undefined) return { error: passing };
  if (errors.length > 0) return { error: toOneFailure(errors as TerminalError[]) };
  return { events: [{ type: 'lead.synced', data: toSynced(item, mine, ownNotes) }] };
}

/** What an event failed of: a single fault, or those that `toOutcome` has made one failure of. */
export function faultsOf(outcome: Outcome<'lead.synced'> | undefined): readonly unknown[] {
  if (outcome === undefined || !('error' in outcome)) return [];
  const { error } = outcome;
  return error instanceof TerminalError && error.cause instanceof AggregateError ? error.cause.errors : [error];
}

function toOneFailure(errors: readonly TerminalError[]): TerminalError {
  const [first] = errors as [TerminalError];
  if (errors.length === 1) return first;
  const named = errors.slice(0, NAMED_MAX).map(({ message }) => message);
  const more = errors.length > NAMED_MAX ? [`and ${errors.length - NAMED_MAX} more`] : [];
  const { code, provider } = first;
  const cause = new AggregateError(errors);
  return new TerminalError([...named, ...more].join('; '), { code, cause, ...(provider && { provider }) });
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
