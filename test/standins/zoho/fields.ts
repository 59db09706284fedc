/** The fields of the Leads module as `GET /crm/v8/settings/fields` describes them, and how a record is checked by them. */

export type Field = {
  id: string;
  api_name: string;
  field_label: string;
  data_type: string;
  length: number;
  system_mandatory: boolean;
  custom_field: boolean;
  read_only: boolean;
  visible: boolean;
  json_type: string;
  /** `{}`, or `{ casesensitive }` where the organisation allows no duplicate values. */
  unique: { casesensitive?: string };
  operation_type: { web_create: boolean; web_update: boolean; api_create: boolean; api_update: boolean };
  pick_list_values: { display_value: string; actual_value: string; id: string }[];
};

export type FieldError = {
  code: string;
  message: string;
  details: {
    api_name: string;
    json_path: string;
    maximum_length?: number;
    expected_data_type?: string;
    duplicate_record?: object;
  };
};

type Shape = Partial<
  Pick<Field, 'data_type' | 'length' | 'system_mandatory' | 'custom_field' | 'read_only' | 'unique'>
> & {
  values?: readonly string[];
};

const LEAD_STATUS = [
  'Attempted to Contact',
  'Contact in Future',
  'Contacted',
  'Junk Lead',
  'Lost Lead',
  'Not Contacted',
  'Pre-Qualified',
  'Not Qualified',
  'Meeting Booked',
  'Meeting Canceled',
  'No Show',
];

const LEAD_SOURCE = [
  'Advertisement',
  'Cold Call',
  'Employee Referral',
  'External Referral',
  'Partner',
  'Trade Show',
  'Web Download',
  'Web Research',
  'Chat',
  'Calendly',
  'Read.ai',
];

const INDUSTRY = [
  'ASP (Application Service Provider)',
  'Data/Telecom OEM',
  'ERP (Enterprise Resource Planning)',
  'Government/Military',
  'Large Enterprise',
  'ManagementISV',
  'MSP (Management Service Provider)',
  'Network Equipment Enterprise',
  'Non-management ISV',
  'Optical Networking',
  'Service Provider',
  'Small/Medium Enterprise',
  'Storage Equipment',
  'Storage Service Provider',
  'Systems Integrator',
  'Wireless Industry',
  'Financial Services',
  'Education',
  'Technology',
  'Real Estate',
  'Consulting',
  'Healthcare',
];

const readOnly = { read_only: true } as const;

const SHAPES: Record<string, Shape> = {
  Owner: { data_type: 'ownerlookup', length: 120 },
  Company: { length: 100 },
  First_Name: { length: 40 },
  Last_Name: { length: 80, system_mandatory: true },
  Full_Name: { length: 80, ...readOnly },
  Designation: { length: 100 },
  Email: { data_type: 'email', length: 100 },
  Secondary_Email: { data_type: 'email', length: 100 },
  Phone: { data_type: 'phone', length: 30 },
  Mobile: { data_type: 'phone', length: 30 },
  Fax: { length: 30 },
  Website: { data_type: 'website', length: 120 },
  Skype_ID: { length: 50 },
  Street: { length: 250 },
  City: { length: 100 },
  State: { length: 100 },
  Zip_Code: { length: 30 },
  Country: { length: 100 },
  Description: { data_type: 'textarea', length: 32_000 },
  Lead_Source: { data_type: 'picklist', length: 120, values: LEAD_SOURCE },
  Lead_Status: { data_type: 'picklist', length: 120, values: LEAD_STATUS },
  Industry: { data_type: 'picklist', length: 120, values: INDUSTRY },
  Rating: { data_type: 'picklist', length: 120, values: ['Acquired', 'Active', 'Market Failed', 'Project Cancelled'] },
  No_of_Employees: { data_type: 'integer', length: 9 },
  Annual_Revenue: { data_type: 'currency', length: 16 },
  Email_Opt_Out: { data_type: 'boolean', length: 5 },
  Created_Time: { data_type: 'datetime', length: 120, ...readOnly },
  Modified_Time: { data_type: 'datetime', length: 120, ...readOnly },
  Converted__s: { data_type: 'boolean', length: 5, ...readOnly },
  Converted_Contact: { data_type: 'lookup', length: 120, ...readOnly },
  Converted_Deal: { data_type: 'lookup', length: 120, ...readOnly },
  Meeting_Time: { data_type: 'datetime', length: 120, custom_field: true },
  Time_Zone: { length: 255, custom_field: true },
  MEDDIC_Economic_Buyer: { length: 255, custom_field: true },
  MEDDIC_Metrics: { data_type: 'textarea', length: 2_000, custom_field: true },
};

export const LEAD_FIELDS: readonly Field[] = Object.entries(SHAPES).map(([name, shape], index) =>
  makeField(name, shape, index),
);

/** A field that a test adds to the organisation, `{ api_name, data_type, length, … }`. */
export function makeField(api_name: string, { values, ...shape }: Shape, index = 900): Field {
  const writable = !shape.read_only;
  return {
    id: `55000000${String(index).padStart(10, '0')}`,
    api_name,
    field_label: api_name.replaceAll('_', ' '),
    data_type: 'text',
    length: 255,
    system_mandatory: false,
    custom_field: false,
    read_only: false,
    visible: true,
    json_type: shape.data_type === 'boolean' ? 'boolean' : 'string',
    unique: {},
    operation_type: { web_create: writable, web_update: writable, api_create: writable, api_update: writable },
    pick_list_values: pickListOf(values, index),
    ...shape,
  };
}

/**
 * All faults of a record. Zoho ignores unknown fields, refuses the whole record for an over-long
 * value, and takes an unlisted picklist value as wrong data.
 */
export function checkRecord(
  fields: readonly Field[],
  record: Record<string, unknown>,
  { index, isNew }: { index: number; isNew: boolean },
): FieldError[] {
  const path = (name: string) => `$.data[${index}].${name}`;
  return fields.flatMap((field): FieldError[] => {
    const value = record[field.api_name];
    const place = { api_name: field.api_name, json_path: path(field.api_name) };
    const missing = field.system_mandatory && (value === null || value === '' || (isNew && value === undefined));
    if (missing) return [{ code: 'MANDATORY_NOT_FOUND', message: 'required field not found', details: place }];
    if (value === undefined || value === null) return [];
    const fault = faultOf(field, value);
    return fault ? [{ code: 'INVALID_DATA', message: 'invalid data', details: { ...fault, ...place } }] : [];
  });
}

function faultOf(field: Field, value: unknown): { maximum_length?: number; expected_data_type?: string } | undefined {
  if (field.read_only || !fitsType(field, value)) return { expected_data_type: field.data_type };
  if (typeof value !== 'string') return undefined;
  return [...value].length > field.length ? { maximum_length: field.length } : undefined;
}

function fitsType({ data_type, pick_list_values }: Field, value: unknown): boolean {
  switch (data_type) {
    case 'picklist':
      return pick_list_values.some(({ actual_value }) => actual_value === value);
    case 'email':
      return typeof value === 'string' && /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'integer':
    case 'currency':
      return typeof value === 'number';
    case 'datetime':
      return typeof value === 'string' && /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})$/.test(value);
    case 'ownerlookup':
    case 'lookup':
      return typeof value === 'object' || typeof value === 'string';
    default:
      return typeof value === 'string';
  }
}

function pickListOf(values: readonly string[] | undefined, index: number): Field['pick_list_values'] {
  if (!values) return [];
  return ['-None-', ...values].map((value, position) => ({
    display_value: value,
    actual_value: value,
    id: `55${String(index).padStart(4, '0')}${String(position).padStart(12, '0')}`,
  }));
}
