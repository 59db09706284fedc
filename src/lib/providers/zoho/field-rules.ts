/**
 * What a field takes: Zoho refuses a whole record for one value that is too long or not in a picklist, and drops unknown
 * fields without a word. So a value is made to fit, or left out with the reason, before it is sent.
 */
import type { FieldMetadata } from './fields.js';

export type LeftOut = 'unknown_field' | 'read_only' | 'not_in_picklist' | 'too_long' | 'wrong_type' | 'empty';

export type Fitted = { value: string } | { leftOut: LeftOut };

/** Source: help.zoho.com "Standard modules fields"; what holds while the organisation's own metadata is not known. */
const STANDARD_LENGTHS: Readonly<Record<string, number>> = {
  First_Name: 40,
  Last_Name: 80,
  Company: 100,
  Designation: 100,
  Email: 100,
  Secondary_Email: 100,
  Phone: 30,
  Mobile: 30,
  Fax: 30,
  Website: 120,
  Skype_ID: 50,
  Description: 32_000,
};

const STANDARD_TYPES: Readonly<Record<string, string>> = {
  Email: 'email',
  Secondary_Email: 'email',
  Phone: 'phone',
  Mobile: 'phone',
  Website: 'website',
};

/** A single line that somebody has added holds this much. */
const LENGTH_DEFAULT = 255;

/** The value as the field takes it, or why it can't take it. Without metadata Zoho's standard limits hold. */
export function fitField(field: string, value: string, metadata: readonly FieldMetadata[] | undefined): Fitted {
  const text = value.trim();
  if (text === '') return { leftOut: 'empty' };
  if (!metadata) {
    return fitText(text, STANDARD_TYPES[field] ?? 'text', STANDARD_LENGTHS[field] ?? LENGTH_DEFAULT);
  }
  const known = metadata.find(({ apiName }) => apiName === field);
  if (!known) return { leftOut: 'unknown_field' };
  if (!known.isWritable) return { leftOut: 'read_only' };
  return known.dataType === 'picklist'
    ? fitChoice(text, known.choices)
    : fitText(text, known.dataType, known.length ?? STANDARD_LENGTHS[field] ?? LENGTH_DEFAULT);
}

/** Cuts by code point, so that no character is torn in two. */
export function cutText(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  const points = [...text];
  return points.length <= lengthMax ? text : points.slice(0, lengthMax).join('').trimEnd();
}

/** A choice is found by what people see or by what the API takes, in any case; the API is sent what it takes. */
function fitChoice(text: string, choices: FieldMetadata['choices']): Fitted {
  const same = (other: string) => other.toLowerCase() === text.toLowerCase();
  const found = choices.find(({ actual }) => same(actual)) ?? choices.find(({ shown }) => same(shown));
  return found ? { value: found.actual } : { leftOut: 'not_in_picklist' };
}

function fitText(text: string, dataType: string, lengthMax: number): Fitted {
  switch (dataType) {
    case 'text':
    case 'textarea':
      return { value: cutText(text, lengthMax) };
    case 'email':
    case 'phone':
    case 'website':
      // Half of an address or a number is a wrong one.
      return [...text].length > lengthMax ? { leftOut: 'too_long' } : { value: text };
    case 'datetime':
      return fitTime(text, (time) => `${time.toISOString().slice(0, 19)}+00:00`);
    case 'date':
      return fitTime(text, (time) => time.toISOString().slice(0, 10));
    default:
      return { leftOut: 'wrong_type' };
  }
}

/** Zoho takes an offset and no fraction of a second. */
function fitTime(text: string, format: (time: Date) => string): Fitted {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? { leftOut: 'wrong_type' } : { value: format(time) };
}
