/** What is known of the leads of a batch: by this service from its streams, and by the CRM as it is now. */
import type { Intents } from '../../lib/lead-ledger.js';
import { addLeadId, type LeadState, nextTurn } from '../../lib/lead-state.js';
import type { FieldMetadata, FoundLead, Zoho } from '../../lib/providers/zoho/crm.js';
import { fitField } from '../../lib/providers/zoho/field-rules.js';
import { addCertain, leadIdOf, settleDoubts } from './doubt.js';
import type { LeadFacts } from './lead-facts.js';
import { type LeadPlan, planLead } from './plan-lead.js';
import type { SyncDeps, SyncItem } from './sync-batch.js';

/** The lead as it is after the look-up and the write. */
export type LeadResult = {
  email: string;
  plan: LeadPlan;
  /** Of a new lead: what is written by its id once it stands. */
  heldBack: LeadPlan['fields'];
  known: LeadState;
  found: FoundLead | undefined;
  /** Of the write, see `lead-state.ts`. */
  turn: string;
  leadId: string | null;
  action: 'insert' | 'update' | 'none';
  /** What is certain of tries that left no receipt. */
  settled: Intents;
  /** By note key: the notes of ours that stand on the lead, where all of its notes were looked at. */
  stood?: Record<string, string>;
  error?: unknown;
};

export type FactsByEmail = ReadonlyMap<string, readonly LeadFacts[]>;

export type Knowledge = {
  known: ReadonlyMap<string, LeadState>;
  found: ReadonlyMap<string, FoundLead>;
  /** What is left of the intents, see `settleDoubts`. */
  settled: ReadonlyMap<string, Intents>;
  metadata: readonly FieldMetadata[] | undefined;
};

/** The events at hand, lead by lead. */
export function groupByEmail(items: readonly SyncItem[]): Map<string, LeadFacts[]> {
  const grouped = new Map<string, LeadFacts[]>();
  for (const lead of items.flatMap(({ leads }) => leads))
    grouped.set(lead.email, [...(grouped.get(lead.email) ?? []), lead]);
  return grouped;
}

type Asking = Parameters<Zoho['findLeads']>[2];

/** Asks the CRM how the leads are; `folded` and `intentsOf` are what this service knows. */
export async function lookUp(
  emails: readonly string[],
  { folded, intentsOf }: { folded: ReadonlyMap<string, LeadState>; intentsOf: (email: string) => Intents },
  deps: Pick<SyncDeps, 'zoho' | 'fieldMap' | 'readFields'>,
  asking: Asking,
): Promise<Knowledge> {
  const metadata = await deps.readFields();
  const idOf = (email: string) => leadIdOf(folded.get(email) ?? {}, intentsOf(email));
  const found = await findLeads(emails, idOf, deps, asking);
  const settled = new Map(emails.map((email) => [email, settleDoubts(intentsOf(email), found.get(email))]));
  const known = new Map(emails.map((email) => [email, addCertain(folded.get(email) ?? {}, settled.get(email)!)]));
  return { known, found, settled, metadata };
}

/**
 * Decides what to write to each lead; `isRefused` says which values Zoho has refused a moment ago, `demandedOf` which fields
 * it missed, for where it does not tell that.
 */
export function planLeads(
  facts: FactsByEmail,
  { known, found, settled, metadata }: Knowledge,
  { fieldMap, onLeftOut }: Pick<SyncDeps, 'fieldMap' | 'onLeftOut'>,
  {
    leasedAt = 0,
    isRefused = () => false,
    demandedOf = () => [],
  }: {
    leasedAt?: number;
    isRefused?: (email: string, field: string, value: string) => boolean;
    demandedOf?: (email: string) => readonly string[];
  } = {},
): Map<string, LeadResult> {
  const results = new Map<string, LeadResult>();
  for (const [email, own] of facts) {
    const crmLead = found.get(email);
    const state = known.get(email)!;
    const fit = (field: string, value: string) => {
      const fitted = fitField(field, value, metadata);
      if ('value' in fitted) return isRefused(email, field, fitted.value) ? undefined : fitted.value;
      onLeftOut(field, fitted.leftOut);
      return undefined;
    };
    const turn = nextTurn(state, leasedAt);
    // What was written to another lead under the address is not ours in this one.
    const ofThis = crmLead === undefined ? state : addLeadId(state, crmLead.id, turn);
    const plan = planLead({ email, facts: own, known: ofThis, crmLead, fieldMap, fit });
    const mandatory = metadata === undefined ? demandedOf(email) : mandatoryTexts(metadata);
    if (crmLead === undefined) fillMandatory(plan, mandatory, firstOrderOf(own));
    const heldBack = crmLead === undefined ? holdUniqueBack(plan, metadata) : new Map();
    results.set(email, {
      ...{ email, plan, heldBack, known: state, found: crmLead, turn, settled: settled.get(email)! },
      ...{ leadId: crmLead?.id ?? null, action: 'none' as const },
    });
  }
  return results;
}

/** Where the plan asks for a write. What a lead was converted to is not ours to change. */
export function needsWrite({ plan, found }: Pick<LeadResult, 'plan' | 'found'>): boolean {
  return found?.converted === undefined && (plan.fields.size > 0 || found === undefined);
}

/** By id where the lead was found: its address may be another's as well, and so may a value that has to be unique. */
export function toRecord({
  email,
  plan,
  found,
}: Pick<LeadResult, 'email' | 'plan' | 'found'>): Record<string, unknown> {
  const address = typeof found?.fields.Email === 'string' ? found.fields.Email : email;
  return { ...(found && { id: found.id }), Email: address, ...valuesOf(plan.fields) };
}

export function valuesOf(fields: LeadPlan['fields']): Record<string, string> {
  return Object.fromEntries([...fields].map(([field, { value }]) => [field, value]));
}

const TEXT_TYPES = new Set(['text', 'textarea']);

/** An organisation may demand more of a new lead than is known of it; the lead must not be lost for that. */
function fillMandatory(plan: LeadPlan, mandatory: readonly string[], order: string): void {
  for (const field of mandatory) {
    if (!plan.fields.has(field)) plan.fields.set(field, { value: 'Unknown', quality: 0, order });
  }
}

/** Not where the value has to be unique: the second lead with a made-up one would be written over the first. */
function mandatoryTexts(metadata: NonNullable<Knowledge['metadata']>): string[] {
  return metadata.flatMap(({ apiName, isMandatory, isWritable, isUnique, dataType }) =>
    isMandatory && isWritable && !isUnique && TEXT_TYPES.has(dataType) ? [apiName] : [],
  );
}

/**
 * An upsert without an id takes whatever lead has the same value in a unique field for the one that is meant, and writes it
 * over. What is mandatory can't be held back.
 */
function holdUniqueBack(plan: LeadPlan, metadata: Knowledge['metadata']): LeadPlan['fields'] {
  const heldBack: LeadPlan['fields'] = new Map();
  for (const { apiName, isUnique, isMandatory } of metadata ?? []) {
    const planned = plan.fields.get(apiName);
    if (!isUnique || isMandatory || planned === undefined) continue;
    heldBack.set(apiName, planned);
    plan.fields.delete(apiName);
  }
  return heldBack;
}

function firstOrderOf(facts: readonly LeadFacts[]): string {
  return facts.map(({ order }) => order).sort()[0]!;
}

/** A lead that this service has just created may not be in the index yet: it is then read by its id. */
async function findLeads(
  emails: readonly string[],
  idOf: (email: string) => string | undefined,
  { zoho, fieldMap }: Pick<SyncDeps, 'zoho' | 'fieldMap'>,
  asking: Asking,
): Promise<Map<string, FoundLead>> {
  const fields = [...new Set([...fieldMap.values()].map(({ field }) => field))];
  const found = new Map((await zoho.findLeads([...emails], fields, asking)).map((lead) => [lead.email, lead]));
  const missing = emails.flatMap((email) => {
    const leadId = found.has(email) ? undefined : idOf(email);
    return leadId === undefined ? [] : [{ email, leadId }];
  });
  if (missing.length === 0) return found;
  const byId = await zoho.readLeads(
    missing.map(({ leadId }) => leadId),
    fields,
    asking,
  );
  for (const { email, leadId } of missing) {
    const lead = byId.find(({ id }) => id === leadId);
    // Of one whose address a person has cleared it is not said any more that it is theirs, and by address none could be written.
    if (lead !== undefined && typeof lead.fields.Email === 'string' && lead.fields.Email !== '') found.set(email, lead);
  }
  return found;
}
