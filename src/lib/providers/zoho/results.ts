/** What became of each record of a write. A 2xx may hold refused records, and a 4xx written ones. */
import { z } from 'zod';

export type RecordResult =
  | {
      ok: true;
      id: string;
      action?: 'insert' | 'update';
      /** By which the record that was updated was found; of an inserted one Zoho's word for it means nothing. */
      duplicateField?: string;
    }
  | {
      ok: false;
      /** Zoho's own, as in `INVALID_DATA`; `CONVERTED_RECORD` whatever way Zoho says it; `NO_RESULT` where it says nothing. */
      code: string;
      /** The API names of the fields at fault, of all where there are several; `id` where there is no such record. */
      fields: readonly string[];
      /** Holds no value of the record. */
      message: string;
      maxLength?: number;
      /** The same record may go through later. */
      retryable: boolean;
      /** The record that already has this value of a unique field. */
      duplicateId?: string;
    };

const RETRYABLE = new Set(['RECORD_LOCKED', 'ALREADY_MODIFIED', 'INTERNAL_ERROR', 'TOO_MANY_REQUESTS', 'NO_RESULT']);
/** Zoho names the field in one edition and says it in words in another. */
const ID_UNKNOWN = /^the id given seems to be invalid/i;
/** One of several faults of a record, as far as it is about a field. */
const fieldFault = z.object({ details: z.object({ api_name: z.string() }) });
const CONVERTED = new Set(['CONVERTED_RECORD', 'ID_ALREADY_CONVERTED']);

const entry = z.object({
  status: z.string().optional(),
  code: z.string().catch('NO_RESULT'),
  message: z.string().catch(''),
  action: z.enum(['insert', 'update']).optional().catch(undefined),
  duplicate_field: z.string().optional().catch(undefined),
  // Ids have 18 to 19 digits, more than a number can hold: anything but a string is none.
  details: z
    .object({
      id: z.string().min(1).optional().catch(undefined),
      api_name: z.string().optional().catch(undefined),
      expected_data_type: z.string().optional().catch(undefined),
      // A string in one edition of the vendor's specification, a number in the other.
      maximum_length: z.coerce.number().int().positive().optional().catch(undefined),
      duplicate_record: z.object({ id: z.string() }).optional().catch(undefined),
      /** Of `MULTIPLE_OR_MULTI_ERRORS`. */
      errors: z.array(fieldFault.optional().catch(undefined)).catch([]),
    })
    .catch({ errors: [] }),
});

/** One result for each of the `count` records that were sent, in their order. */
export function readResults(body: unknown, count: number): RecordResult[] {
  const data = (body as { data?: unknown } | undefined)?.data;
  return Array.from({ length: count }, (_, index) => readResult(Array.isArray(data) ? data[index] : undefined));
}

function readResult(given: unknown): RecordResult {
  const parsed = entry.safeParse(given);
  if (!parsed.success) return noResult();
  const { status, code, message, action, duplicate_field: duplicateField, details } = parsed.data;
  if (status === 'success' || code === 'SUCCESS') {
    if (details.id === undefined) return noResult();
    const isFoundBy = action === 'update' && duplicateField !== undefined;
    return { ok: true, id: details.id, ...(action && { action }), ...(isFoundBy && { duplicateField }) };
  }
  const isConverted = CONVERTED.has(code) || /converted record/i.test(message);
  const ourCode = isConverted ? 'CONVERTED_RECORD' : code;
  const { maximum_length: maxLength, duplicate_record: duplicate, expected_data_type: type } = details;
  const fields = fieldsAtFault(parsed.data);
  const reasons = [
    fields.length > 0 && `in ${fields.join(', ')}`,
    maxLength && `at most ${maxLength} characters`,
    type && `expected ${type}`,
  ];
  return {
    ok: false,
    code: ourCode,
    message: ['Zoho refused the record:', ourCode, ...reasons.filter(Boolean)].join(' '),
    retryable: RETRYABLE.has(ourCode),
    fields,
    ...(maxLength !== undefined && { maxLength }),
    ...(duplicate && { duplicateId: duplicate.id }),
  };
}

function fieldsAtFault({ message, details: { api_name: field, errors } }: z.infer<typeof entry>): string[] {
  if (field !== undefined) return [field];
  if (ID_UNKNOWN.test(message)) return ['id'];
  return [...new Set(errors.flatMap((fault) => fault?.details.api_name ?? []))];
}

function noResult(): RecordResult {
  const message = 'Zoho did not say what became of the record';
  return { ok: false, code: 'NO_RESULT', fields: [], message, retryable: true };
}
