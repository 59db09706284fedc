/** Where our fields go in the CRM, and to whom each belongs. */
import type { FieldMap } from '../../lib/config.js';
import type { LeadField } from '../../lib/events.js';

export type FieldTarget = { field: string; owner: 'service' | 'person' };

/** Zoho's own fields of a lead; a MEDDIC element has no field unless the map names one. */
const DEFAULT_FIELDS: Partial<Record<LeadField, string>> = {
  firstName: 'First_Name',
  lastName: 'Last_Name',
  company: 'Company',
  jobTitle: 'Designation',
  industry: 'Industry',
  website: 'Website',
  phone: 'Phone',
  leadSource: 'Lead_Source',
  description: 'Description',
  status: 'Lead_Status',
};

/** A field belongs to people unless the map says that this service owns it: people's values are never overwritten. */
export function makeFieldMap(overrides: FieldMap): Map<LeadField, FieldTarget> {
  const defaults = Object.entries(DEFAULT_FIELDS).map(([ours, field]): [string, FieldTarget] => [
    ours,
    { field, owner: 'person' },
  ]);
  return new Map([...defaults, ...Object.entries(overrides)] as [LeadField, FieldTarget][]);
}
