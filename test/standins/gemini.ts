/**
 * Gemini's REST surface as this service uses it: `POST /v1beta/models/{model}:generateContent` and
 * `GET /v1beta/models/{model}`. By default it answers both of our prompts with what it finds in the request, in the shape
 * that the request asks for; tests queue exact answers in `answers`.
 */
import { defaultAnswer } from './gemini-answers.js';
import { apiKeyInvalid, googleError, invalidArgument, isServed, modelNotFound, refusalOf } from './gemini-wire.js';
import { type Standin, type StandinReply, type StandinRequest, startStandin } from './http.js';

/**
 * A string is the answer's raw text. An object is the answer's JSON, unless it is
 * `{status, body}` (any HTTP answer), has `candidates` or `promptFeedback` (a whole response body, with its finishReason)
 * or has `error` (Google's error body, sent with the status that it names; in an array as well).
 */
export type GeminiAnswer = string | object;

export type GeminiRequest = {
  model: string;
  /** The system instruction. */
  system: string;
  /** The text of each turn, the last one being the question. */
  turns: { role: string; text: string }[];
  generationConfig: Record<string, unknown>;
};

export type GeminiStandin = Standin & {
  /** Answers for the next calls, first in first out; the default answer comes after the last of them. */
  answers: GeminiAnswer[];
  /** The requests to `generateContent` that were well-formed, in order of arrival. */
  requests: GeminiRequest[];
  /** Models that Google serves and this one does not any more. */
  retired: Set<string>;
};

export type GeminiStandinOptions = {
  port?: number | undefined;
  /** Replaces the default answer. */
  answer?: ((request: GeminiRequest) => GeminiAnswer) | undefined;
  /** The only key that is good. Without it every key is, but those that begin with `bad`. */
  apiKey?: string | undefined;
  latencyMs?: number | undefined;
};

const ROUTE = /^\/v1beta\/models\/([\w.-]+)(?::(\w+))?$/;

export async function startGemini(options: GeminiStandinOptions = {}): Promise<GeminiStandin> {
  const answers: GeminiAnswer[] = [];
  const requests: GeminiRequest[] = [];
  const retired = new Set<string>();
  const answer = options.answer ?? defaultAnswer;

  function handle({ method, path, headers, body }: StandinRequest): StandinReply {
    const [, model, verb] = ROUTE.exec(path) ?? [];
    if (model === undefined) return googleError(404, 'NOT_FOUND', '');
    const refusal = refuseKey(headers['x-goog-api-key'], options.apiKey);
    if (refusal) return refusal;
    if (!isServed(model) || retired.has(model)) return modelNotFound(model);
    if (method === 'GET' && verb === undefined) return describeModel(model);
    if (method !== 'POST' || verb !== 'generateContent') return googleError(404, 'NOT_FOUND', '');
    const malformed = refusalOf(model, body);
    if (malformed !== undefined) return invalidArgument(malformed);
    const request = readRequest(model, body as WireRequest);
    requests.push(request);
    return replyTo(request, answers.shift() ?? answer(request));
  }

  const standin = await startStandin({
    port: options.port,
    latencyMs: options.latencyMs,
    handle,
    control: {
      'POST answers': ({ body }) => ({ answers: answers.push(...(body as { answers: GeminiAnswer[] }).answers) }),
      'GET requests': () => ({ requests }),
    },
  });
  return { ...standin, answers, requests, retired };
}

type WireTurn = { role?: string; parts: { text: string }[] };
type WireRequest = {
  contents: WireTurn[];
  systemInstruction?: WireTurn;
  generationConfig?: Record<string, unknown>;
};

function readRequest(model: string, { contents, systemInstruction, generationConfig }: WireRequest): GeminiRequest {
  const textOf = ({ parts }: WireTurn) => parts.map(({ text }) => text).join('');
  return {
    model,
    system: systemInstruction ? textOf(systemInstruction) : '',
    turns: contents.map((turn) => ({ role: turn.role ?? 'user', text: textOf(turn) })),
    generationConfig: generationConfig ?? {},
  };
}

function refuseKey(given: string | undefined, expected: string | undefined): StandinReply | undefined {
  if (given === undefined || given === '') {
    return googleError(403, 'PERMISSION_DENIED', "Method doesn't allow unregistered callers. Please use an API key.");
  }
  return (expected === undefined ? given.startsWith('bad') : given !== expected) ? apiKeyInvalid() : undefined;
}

function describeModel(model: string): StandinReply {
  return {
    status: 200,
    body: {
      name: `models/${model}`,
      version: '001',
      displayName: model,
      inputTokenLimit: 1_048_576,
      outputTokenLimit: 65_536,
      supportedGenerationMethods: ['generateContent', 'countTokens'],
    },
  };
}

function replyTo(request: GeminiRequest, answer: GeminiAnswer): StandinReply {
  if (typeof answer === 'string') return { status: 200, body: completion(request, answer) };
  if ('status' in answer && 'body' in answer) return answer as StandinReply;
  const first: object = Array.isArray(answer) ? (answer[0] ?? {}) : answer;
  if ('error' in first) return { status: (first.error as { code: number }).code, body: answer };
  if ('candidates' in answer || 'promptFeedback' in answer) return { status: 200, body: answer };
  return { status: 200, body: completion(request, JSON.stringify(answer)) };
}

const CHARS_PER_TOKEN = 4;
const THOUGHTS = 40;

/** A whole response; cut off where thoughts and answer are more than `maxOutputTokens`. */
function completion({ model, system, turns, generationConfig }: GeminiRequest, text: string): object {
  const promptTokenCount = Math.ceil((system + turns.map((turn) => turn.text).join('')).length / CHARS_PER_TOKEN);
  const thoughtsTokenCount = 'thinkingConfig' in generationConfig ? THOUGHTS : 0;
  const roomTokens = Number(generationConfig.maxOutputTokens ?? 65_536) - thoughtsTokenCount;
  const isCut = Math.ceil(text.length / CHARS_PER_TOKEN) > roomTokens;
  const sent = isCut ? text.slice(0, Math.max(0, roomTokens) * CHARS_PER_TOKEN) : text;
  const candidatesTokenCount = Math.ceil(sent.length / CHARS_PER_TOKEN);
  return {
    candidates: [
      {
        content: { ...(sent !== '' && { parts: [{ text: sent }] }), role: 'model' },
        finishReason: isCut ? 'MAX_TOKENS' : 'STOP',
        index: 0,
      },
    ],
    usageMetadata: {
      promptTokenCount,
      candidatesTokenCount,
      ...(thoughtsTokenCount > 0 && { thoughtsTokenCount }),
      totalTokenCount: promptTokenCount + candidatesTokenCount + thoughtsTokenCount,
      promptTokensDetails: [{ modality: 'TEXT', tokenCount: promptTokenCount }],
    },
    modelVersion: model,
    responseId: 'c3RhbmRpbg',
  };
}
