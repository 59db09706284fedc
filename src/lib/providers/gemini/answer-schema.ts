/**
 * The shape that Gemini is asked to answer in: the flat part of its OpenAPI subset that it keeps to. Deep schemas and
 * large enums are refused with a 400. The answer's fields come in the order of `required`, so what a field rests on
 * stands before it. Source: ai.google.dev/gemini-api/docs/structured-output.
 */

export type AnswerField =
  | { type: 'string'; description?: string; nullable?: boolean }
  | { type: 'string'; format: 'enum'; enum: string[]; description?: string }
  | { type: 'array'; items: AnswerSchema; maxItems?: number; description?: string };

export type AnswerSchema = {
  type: 'object';
  properties: Record<string, AnswerField>;
  required: string[];
};

/** An object whose fields are all demanded, in the order given. */
export function answerObject(properties: Record<string, AnswerField>): AnswerSchema {
  return { type: 'object', properties, required: Object.keys(properties) };
}

export function text(description: string): AnswerField {
  return { type: 'string', description };
}

/** Null is the answer where the data does not say it. */
export function textOrNull(description: string): AnswerField {
  return { type: 'string', description, nullable: true };
}

export function oneOf(values: readonly string[], description: string): AnswerField {
  return { type: 'string', format: 'enum', enum: [...values], description };
}

export function listOf(items: AnswerSchema, maxItems: number, description: string): AnswerField {
  return { type: 'array', items, maxItems, description };
}
