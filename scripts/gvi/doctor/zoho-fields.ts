/** The field map in force, held against the fields that the organisation has. */
import { type FieldTarget, makeFieldMap } from '../../../src/consumers/crm-sync/field-map.js';
import { STATUS_TEXTS } from '../../../src/consumers/crm-sync/lead-status.js';
import type { FieldMap } from '../../../src/lib/config.js';
import type { FieldMetadata } from '../../../src/lib/providers/zoho/crm.js';
import { type Found, ok, problem, warning } from './check.js';

/** The types of field that hold a text of ours. */
const USABLE_TYPES = new Set(['text', 'textarea', 'email', 'phone', 'website', 'picklist']);
/** What a picklist must offer: the values that this service chooses itself. */
const CHOSEN: Readonly<Record<string, readonly string[]>> = {
  status: Object.values(STATUS_TEXTS),
  leadSource: ['Calendly'],
};
/** Written to every new lead, whatever the map says. */
const ALWAYS_WRITTEN = ['Email', 'Last_Name'];

type Mapped = { field: string; targets: { ours: string; owner: FieldTarget['owner'] }[]; isChosen: boolean };

/** Pure. Without metadata the map is listed and not judged. */
export function inspectFields(overrides: FieldMap, metadata: readonly FieldMetadata[] | undefined): Found[] {
  const mapped = groupByField(overrides);
  return [...mapped.flatMap((each) => inspectField(each, metadata)), ...inspectMandatory(mapped, metadata ?? [])];
}

/** By the field in the CRM, so that what is wrong with it is said once. */
function groupByField(overrides: FieldMap): Mapped[] {
  const byField = new Map<string, Mapped>();
  for (const [ours, { field, owner }] of makeFieldMap(overrides)) {
    const mapped = byField.get(field) ?? { field, targets: [], isChosen: false };
    mapped.targets.push({ ours, owner });
    mapped.isChosen ||= Object.hasOwn(overrides, ours);
    byField.set(field, mapped);
  }
  return [...byField.values()];
}

function inspectField(mapped: Mapped, metadata: readonly FieldMetadata[] | undefined): Found[] {
  const { field, targets, isChosen } = mapped;
  const names = targets.map(({ ours }) => ours).join(', ');
  if (metadata === undefined) return [ok(describe(mapped, undefined))];
  const known = metadata.find(({ apiName }) => apiName === field);
  const fault = faultOf(known);
  if (known === undefined || fault !== undefined) {
    const text = `${names} → ${field}: ${fault}, so it is never written`;
    const elsewhere = `map ${names} to another field in ZOHO_FIELD_MAP`;
    const fix =
      known === undefined ? `make the field ${field} in Zoho's Leads, of a text type, or ${elsewhere}` : elsewhere;
    return [isChosen ? problem(text, fix) : warning(text, fix)];
  }
  const shared =
    targets.length > 1
      ? [warning(`${names} share the field ${field}: one overwrites the other`, 'give each a field of its own')]
      : [];
  return [ok(describe(mapped, known)), ...shared, ...inspectChoices(mapped, known)];
}

function faultOf(known: FieldMetadata | undefined): string | undefined {
  if (known === undefined) return 'Zoho has no such field';
  if (!known.isWritable) return 'the field cannot be written';
  return USABLE_TYPES.has(known.dataType) ? undefined : `a field of type ${known.dataType} takes no text`;
}

function describe({ field, targets }: Mapped, known: FieldMetadata | undefined): string {
  const sources = targets.map(({ ours, owner }) => `${ours} (owner ${owner})`).join(', ');
  if (known === undefined) return `${sources} → ${field}`;
  const length = known.length === undefined || known.dataType === 'picklist' ? '' : `, ${known.length} characters`;
  return `${sources} → ${field}: ${known.dataType}${length}${known.isCustom ? ', custom' : ''}`;
}

function inspectChoices({ field, targets }: Mapped, { dataType, choices }: FieldMetadata): Found[] {
  if (dataType !== 'picklist') return [];
  const offered = new Set(choices.flatMap(({ shown, actual }) => [shown.toLowerCase(), actual.toLowerCase()]));
  const missing = targets
    .flatMap(({ ours }) => CHOSEN[ours] ?? [])
    .filter((value) => !offered.has(value.toLowerCase()));
  if (missing.length === 0) return [];
  return [
    warning(
      `The picklist ${field} does not offer ${missing.join(', ')}: they are left out`,
      `add them to the picklist in Zoho, or map ${targets.map(({ ours }) => ours).join(', ')} to a text field`,
    ),
  ];
}

function inspectMandatory(mapped: readonly Mapped[], metadata: readonly FieldMetadata[]): Found[] {
  const written = new Set([...ALWAYS_WRITTEN, ...mapped.map(({ field }) => field)]);
  const missing = metadata
    .filter(({ isMandatory, isWritable, apiName }) => isMandatory && isWritable && !written.has(apiName))
    .map(({ apiName }) => apiName);
  if (missing.length === 0) return [];
  return [
    warning(
      `Zoho demands ${missing.join(', ')} of a lead, which this service does not write: new leads may be refused`,
      'make them optional in Zoho, or give them a default there',
    ),
  ];
}
