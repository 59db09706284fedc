/** The fields of the Leads module as the organisation has them. Source: zoho.com/crm/developer "Fields Metadata", v8. */
import { z } from 'zod';

export type FieldMetadata = {
  apiName: string;
  /** Zoho's word: `text`, `textarea`, `picklist`, `email`, `datetime`, … */
  dataType: string;
  /** In characters; `undefined` where Zoho does not say. */
  length: number | undefined;
  isWritable: boolean;
  isMandatory: boolean;
  isCustom: boolean;
  /** The organisation allows no two leads with the same value. */
  isUnique: boolean;
  /** The choices of a picklist: as people see them, and as the API takes them. Empty for other types. */
  choices: { shown: string; actual: string }[];
};

const choice = z.object({ display_value: z.string().nullish(), actual_value: z.string() });

const field = z.object({
  api_name: z.string(),
  data_type: z.string(),
  length: z.number().int().positive().optional().catch(undefined),
  read_only: z.boolean().catch(false),
  field_read_only: z.boolean().catch(false),
  system_mandatory: z.boolean().catch(false),
  custom_field: z.boolean().catch(false),
  unique: z.record(z.string(), z.unknown()).catch({}),
  operation_type: z.object({ api_create: z.boolean().catch(true), api_update: z.boolean().catch(true) }).nullish(),
  pick_list_values: z.array(choice.nullable().catch(null)).catch([]),
});

/** What cannot be read is left out: metadata is a help, never a condition. */
export function readFields(body: unknown): FieldMetadata[] | undefined {
  const fields = (body as { fields?: unknown } | undefined)?.fields;
  if (!Array.isArray(fields)) return undefined;
  return fields.flatMap((given) => {
    const parsed = field.safeParse(given);
    return parsed.success ? [toMetadata(parsed.data)] : [];
  });
}

function toMetadata(given: z.infer<typeof field>): FieldMetadata {
  const { api_create: canCreate = true, api_update: canUpdate = true } = given.operation_type ?? {};
  return {
    apiName: given.api_name,
    dataType: given.data_type,
    length: given.length,
    isWritable: !given.read_only && !given.field_read_only && canCreate && canUpdate,
    isMandatory: given.system_mandatory,
    isCustom: given.custom_field,
    isUnique: Object.keys(given.unique).length > 0,
    choices: given.pick_list_values.flatMap((value) =>
      value ? [{ shown: value.display_value ?? value.actual_value, actual: value.actual_value }] : [],
    ),
  };
}
