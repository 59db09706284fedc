/**
 * Reads what `generateContent` sent back. The SDK's own `text()` joins the model's thoughts to the answer, hides a cut-off
 * answer and gives `""` for most refusals, so the raw reply is read here: why it ended first, then the text.
 * Source: ai.google.dev/api/generate-content (GenerateContentResponse), SDK 0.24.1.
 */
import { z } from 'zod';

export type Tokens = { prompt: number; output: number; thoughts: number };

export const NO_TOKENS: Tokens = { prompt: 0, output: 0, thoughts: 0 };

export function addTokens(a: Tokens, b: Tokens): Tokens {
  return { prompt: a.prompt + b.prompt, output: a.output + b.output, thoughts: a.thoughts + b.thoughts };
}

/** `blocked`: refused for its content. `declined`: ended without an answer for a reason that may not come again. */
export type Reply = { tokens: Tokens; model: string | undefined } & (
  | { kind: 'answer'; text: string }
  | { kind: 'truncated' }
  | { kind: 'blocked'; reason: string }
  | { kind: 'declined'; reason: string }
);

const count = z.number().nullish().catch(undefined);

const rawReply = z.object({
  candidates: z
    .array(
      z.object({
        content: z
          .object({
            parts: z
              .array(z.object({ text: z.string().nullish().catch(undefined), thought: z.boolean().nullish() }))
              .nullish()
              .catch(undefined),
          })
          .nullish(),
        finishReason: z.string().nullish(),
      }),
    )
    .nullish(),
  promptFeedback: z.object({ blockReason: z.string().nullish() }).nullish(),
  usageMetadata: z
    .object({ promptTokenCount: count, candidatesTokenCount: count, thoughtsTokenCount: count })
    .nullish()
    .catch(undefined),
  modelVersion: z.string().nullish().catch(undefined),
});

const BLOCKED = new Set(['SAFETY', 'PROHIBITED_CONTENT', 'SPII', 'BLOCKLIST', 'LANGUAGE', 'IMAGE_SAFETY']);

/** Tells an answer from the ways in which none came. Reasons are Google's words, lower-cased; `empty` is ours. */
export function readReply(raw: unknown): Reply {
  const parsed = rawReply.safeParse(raw);
  if (!parsed.success) return { kind: 'declined', reason: 'unreadable', tokens: NO_TOKENS, model: undefined };
  const { candidates, promptFeedback, usageMetadata, modelVersion } = parsed.data;
  const common = {
    tokens: {
      prompt: usageMetadata?.promptTokenCount ?? 0,
      output: usageMetadata?.candidatesTokenCount ?? 0,
      thoughts: usageMetadata?.thoughtsTokenCount ?? 0,
    },
    model: modelVersion ?? undefined,
  };
  const candidate = candidates?.[0];
  if (!candidate && promptFeedback?.blockReason) {
    return { ...common, kind: 'blocked', reason: promptFeedback.blockReason.toLowerCase() };
  }
  const reason = candidate?.finishReason ?? 'EMPTY';
  if (reason === 'MAX_TOKENS') return { ...common, kind: 'truncated' };
  if (BLOCKED.has(reason)) return { ...common, kind: 'blocked', reason: reason.toLowerCase() };
  if (reason !== 'STOP') return { ...common, kind: 'declined', reason: reason.toLowerCase() };
  const text = (candidate?.content?.parts ?? []).map((part) => (part.thought ? '' : (part.text ?? ''))).join('');
  return text.trim() === '' ? { ...common, kind: 'declined', reason: 'empty' } : { ...common, kind: 'answer', text };
}

const FENCE = '```';

/**
 * The JSON of an answer, or `undefined`. Models wrap it in a fence or talk before and after it despite JSON mode; beyond
 * taking that away nothing is mended, since a mended answer would be our words.
 */
export function parseAnswer(text: string): unknown {
  for (const find of [(whole: string) => whole, fencedPart, firstObject]) {
    const part = find(text);
    const value = part === undefined ? undefined : parseJson(part);
    if (value !== undefined) return value;
  }
  return undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What stands between the first fence and the next, without the name of its language. */
function fencedPart(text: string): string | undefined {
  const start = text.indexOf(FENCE);
  const end = start < 0 ? -1 : text.indexOf(FENCE, start + FENCE.length);
  return end < 0 ? undefined : text.slice(start + FENCE.length, end).replace(/^[a-z]*/i, '');
}

/** From the first `{` to the brace that closes it; braces within strings do not count. */
function firstObject(text: string): string | undefined {
  const start = text.indexOf('{');
  if (start < 0) return undefined;
  let depth = 0;
  let inString = false;
  for (let i = start; i < text.length; i += 1) {
    const char = text[i];
    if (inString) {
      if (char === '\\') i += 1;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === '{') depth += 1;
    else if (char === '}') {
      depth -= 1;
      if (depth === 0) return text.slice(start, i + 1);
    }
  }
  return undefined;
}
