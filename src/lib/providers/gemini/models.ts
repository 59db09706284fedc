/**
 * What may be asked of which model. The rules differ by family and change with it, so they are a table and no code path.
 * Source: ai.google.dev/gemini-api/docs (thinking, models, deprecations), read in November 2026.
 */

/** The cheapest model with no announced end. */
export const DEFAULT_MODEL = 'gemini-3.5-flash-lite';

/** Tokens for thinking (2.5), or a level (3.x). Sending the one to the other family is a 400. */
export type ThinkingConfig = { thinkingBudget: number } | { thinkingLevel: 'minimal' | 'low' };

export type ModelRules = {
  family: string;
  /** What is asked for as a rule. Absent: nothing is said about thinking. */
  thinking?: ThinkingConfig;
  /** The least that the family accepts, for a second try after thinking ate the budget. */
  leastThinking?: ThinkingConfig;
  /** Absent where Google advises against setting it (3.x). */
  temperature?: number;
  /** The most that `maxOutputTokens` may be; thinking counts against it. */
  outputTokensMax: number;
};

const TABLE: readonly (ModelRules & { names: RegExp })[] = [
  {
    family: '2.5 pro: thinking cannot be switched off',
    names: /^gemini-2\.5-pro/,
    thinking: { thinkingBudget: 1024 },
    leastThinking: { thinkingBudget: 128 },
    temperature: 0.2,
    outputTokensMax: 65_535,
  },
  {
    family: '2.5 flash',
    names: /^gemini-2\.5-flash/,
    thinking: { thinkingBudget: 1024 },
    leastThinking: { thinkingBudget: 0 },
    temperature: 0.2,
    outputTokensMax: 65_535,
  },
  {
    family: '3.0 to 3.7 flash',
    names: /^gemini-3(\.[0-7])?-flash/,
    thinking: { thinkingLevel: 'low' },
    leastThinking: { thinkingLevel: 'minimal' },
    outputTokensMax: 65_536,
  },
  {
    family: '3.x pro, and flash from 3.8: no level below low',
    names: /^gemini-3/,
    thinking: { thinkingLevel: 'low' },
    leastThinking: { thinkingLevel: 'low' },
    outputTokensMax: 65_536,
  },
];

const OTHERS: ModelRules = { family: 'unknown', outputTokensMax: 8192 };

/** The rules for a model by its name, with or without `models/` before it. */
export function rulesFor(model: string): ModelRules {
  const name = model.slice(model.lastIndexOf('/') + 1).toLowerCase();
  return TABLE.find(({ names }) => names.test(name)) ?? OTHERS;
}
