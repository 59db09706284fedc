/**
 * Gemini, as far as we use it: one question in, one checked value out. An answer off the schema goes back once with its
 * errors named; a cut-off one gets one more try with more room. Nothing else is repeated here, that is the runtime's.
 */
import type { z } from 'zod';
import { RetryableError, TerminalError } from '../../errors.js';
import type { Gate } from '../../provider-gate.js';
import type { AnswerSchema } from './answer-schema.js';
import { assertAnswers, checkModel } from './check.js';
import { configurationFault } from './errors.js';
import { type Generate, makeGenerate, type Turn } from './generate.js';
import { addTokens, NO_TOKENS, parseAnswer, type Reply, type Tokens } from './reply.js';

export type AskRequest<T> = {
  /** Who the model is and what it is to do. */
  system: string;
  /** The data, delimited. */
  user: string;
  /** What the answer must be; a transform in it may bound what is too long. */
  schema: z.ZodType<T>;
  /** The same for Gemini, which keeps to it but for a few answers in a hundred. */
  responseSchema: AnswerSchema;
  /** [8192] Thinking counts against it. */
  maxOutputTokens?: number;
  signal: AbortSignal;
  /** Gemini was down: whether it answers at all is asked first, as a question may take two minutes, and an answer that it is there none. */
  isProbe?: boolean | undefined;
  /** A sentence added to the request to mend an answer. */
  repairHint?: string;
};

/** `tokens`: of all calls that it took. `model`: which one answered, as Gemini says. */
export type AskResult<T> = { value: T; tokens: Tokens; model: string };

export type Gemini = {
  model: string;
  /**
   * Throws `OutageError` (unreachable, timed out, 5xx, 429; `configuration` for key, billing and model),
   * `RetryableError` (`model_declined`: ended without an answer, which may not happen again) and `TerminalError`
   * (`model_blocked`, `model_truncated`, `model_off_schema`, `model_refused_request`).
   */
  ask: <T>(request: AskRequest<T>) => Promise<AskResult<T>>;
  /** Resolves when key and model are good. Throws like `ask`. Costs no tokens. */
  check: (signal: AbortSignal) => Promise<void>;
};

export type GeminiOptions = {
  apiKey: string;
  model: string;
  baseUrl?: string | undefined;
  /** Of one call; an answer may take up to four. */
  timeoutMs: number;
  gate?: Gate | undefined;
};

const OUTPUT_TOKENS = 8192;

export function makeGemini({ apiKey, model, baseUrl, timeoutMs, gate }: GeminiOptions): Gemini {
  const connection = { apiKey: apiKey.trim(), model, baseUrl, timeoutMs, gate };
  const generate = makeGenerate(connection);
  return {
    model,
    ask: async (request) => {
      assertUsableKey(connection.apiKey);
      if (request.isProbe) await assertAnswers(connection, request.signal);
      return ask(request, generate, model);
    },
    check: async (signal) => {
      assertUsableKey(connection.apiKey);
      return checkModel(connection, signal);
    },
  };
}

/** A header cannot hold such a key, and `Headers` would throw it back at us in its message. */
function assertUsableKey(apiKey: string): void {
  if (/^[\x21-\x7e]+$/.test(apiKey)) return;
  throw configurationFault('gemini_key_invalid', 'GEMINI_API_KEY is empty or holds characters that no key has');
}

async function ask<T>(request: AskRequest<T>, generate: Generate, model: string): Promise<AskResult<T>> {
  const question: Turn = { role: 'user', text: request.user };
  const first = await answerOf([question], request, generate);
  const read = readAnswer(first.text, request.schema);
  if (read.ok) return { value: read.value, tokens: first.tokens, model: first.model ?? model };

  const repair: Turn[] = [
    question,
    { role: 'model', text: first.text },
    { role: 'user', text: repairText(read, request) },
  ];
  const second = await answerOf(repair, request, generate);
  const mended = readAnswer(second.text, request.schema);
  if (!mended.ok) {
    throw new TerminalError(`Gemini answered off the schema twice (${mended.fields.join(', ')})`, {
      code: 'model_off_schema',
      provider: 'gemini',
    });
  }
  return { value: mended.value, tokens: addTokens(first.tokens, second.tokens), model: second.model ?? model };
}

type Answer = { text: string; tokens: Tokens; model: string | undefined };

async function answerOf<T>(turns: Turn[], request: AskRequest<T>, generate: Generate): Promise<Answer> {
  const { system, responseSchema, signal, maxOutputTokens = OUTPUT_TOKENS } = request;
  const common = { system, turns, responseSchema, signal };
  const first = await generate({ ...common, maxOutputTokens, thinking: 'usual' });
  if (first.kind !== 'truncated') return answerOrThrow(first, NO_TOKENS);
  const second = await generate({ ...common, maxOutputTokens: maxOutputTokens * 4, thinking: 'least' });
  return answerOrThrow(second, first.tokens);
}

function answerOrThrow(reply: Reply, spent: Tokens): Answer {
  switch (reply.kind) {
    case 'answer':
      return { text: reply.text, tokens: addTokens(spent, reply.tokens), model: reply.model };
    case 'truncated':
      throw new TerminalError('Gemini cut its answer off, twice', { code: 'model_truncated', provider: 'gemini' });
    case 'blocked':
      throw new TerminalError(`Gemini blocked the request (${reply.reason})`, {
        code: 'model_blocked',
        provider: 'gemini',
      });
    case 'declined':
      throw new RetryableError(`Gemini ended without an answer (${reply.reason})`, {
        code: 'model_declined',
        provider: 'gemini',
      });
  }
}

type ReadAnswer<T> = { ok: true; value: T } | { ok: false; fields: string[]; problems: string[] };

function readAnswer<T>(text: string, schema: z.ZodType<T>): ReadAnswer<T> {
  const json = parseAnswer(text);
  if (json === undefined) return { ok: false, fields: ['no JSON'], problems: ['It is no valid JSON object.'] };
  const parsed = schema.safeParse(json);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issues = parsed.error.issues.map(({ path, message }) => ({ field: path.join('.') || 'the answer', message }));
  return {
    ok: false,
    fields: [...new Set(issues.map(({ field }) => field))],
    problems: issues.map(({ field, message }) => `${field}: ${message}`),
  };
}

function repairText({ problems }: { problems: string[] }, { repairHint }: { repairHint?: string }): string {
  return [
    'Your answer cannot be used:',
    ...problems.map((problem) => `- ${problem}`),
    'Answer the first message again: the whole JSON object that the schema asks for, and nothing else.',
    ...(repairHint === undefined ? [] : [repairHint]),
  ].join('\n');
}
