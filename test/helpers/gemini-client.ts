/** What the tests of the Gemini client share: a small question, and whole responses as Google sends them. */
import * as assert from 'uvu/assert';
import { z } from 'zod';
import { answerObject, text } from '../../src/lib/providers/gemini/answer-schema.js';
import { type AskRequest, type Gemini, type GeminiOptions, makeGemini } from '../../src/lib/providers/gemini/gemini.js';
import type { GeminiStandin } from '../standins/gemini.js';

export const GREETING = { greeting: 'Hello Ada' };

export const KEY = 'AIza-a-key-of-ours';

/** The real client, pointed at the stand-in. */
export function clientOf({ url }: Pick<GeminiStandin, 'url'>, options: Partial<GeminiOptions> = {}): Gemini {
  const defaults = { apiKey: KEY, model: 'gemini-3.5-flash-lite', baseUrl: url, timeoutMs: 5_000 };
  return makeGemini({ ...defaults, ...options });
}

export function greeting(more: Partial<AskRequest<typeof GREETING>> = {}): AskRequest<typeof GREETING> {
  return {
    system: 'You greet people.',
    user: 'Ada is here.',
    schema: z.object({ greeting: z.string().max(40) }),
    responseSchema: answerObject({ greeting: text('One sentence') }),
    signal: new AbortController().signal,
    ...more,
  };
}

/** What a promise was rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => assert.unreachable('it did not fail'),
    (error: unknown) => error,
  );
}

/** A whole response with one candidate. */
export function candidate(finishReason: string, parts?: object[]): object {
  return { candidates: [{ ...(parts && { content: { parts, role: 'model' } }), finishReason, index: 0 }] };
}

export const usage = (promptTokenCount: number, candidatesTokenCount: number, thoughtsTokenCount: number) => ({
  usageMetadata: { promptTokenCount, candidatesTokenCount, thoughtsTokenCount, totalTokenCount: 9_999 },
});
