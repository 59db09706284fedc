/** One call of `generateContent`, with what the model's family allows. The only file that speaks through the SDK. */
import { GoogleGenerativeAI, type ResponseSchema } from '@google/generative-ai';
import { type Gate, OPEN_GATE } from '../../provider-gate.js';
import { withDeadline } from '../deadline.js';
import type { AnswerSchema } from './answer-schema.js';
import { mayBeAboutThinking, rethrowGemini } from './errors.js';
import { type ModelRules, rulesFor } from './models.js';
import { type Reply, readReply } from './reply.js';

export type Turn = { role: 'user' | 'model'; text: string };

export type GenerateRequest = {
  system: string;
  turns: Turn[];
  responseSchema: AnswerSchema;
  maxOutputTokens: number;
  thinking: 'usual' | 'least';
  signal: AbortSignal;
};

export type Generate = (request: GenerateRequest) => Promise<Reply>;

export type Connection = {
  apiKey: string;
  model: string;
  baseUrl: string | undefined;
  timeoutMs: number;
  /** Keeps to the limits that Google has for all callers of a project together. */
  gate?: Gate | undefined;
};

export function makeGenerate({ apiKey, model, baseUrl, timeoutMs, gate = OPEN_GATE }: Connection): Generate {
  const client = new GoogleGenerativeAI(apiKey).getGenerativeModel({ model }, baseUrl === undefined ? {} : { baseUrl });
  const rules = rulesFor(model);
  let isThinkingRefused = false;

  async function call(request: GenerateRequest, thinkingConfig: object | undefined): Promise<Reply> {
    const { system, turns, signal } = request;
    const body = {
      systemInstruction: system,
      contents: turns.map(({ role, text }) => ({ role, parts: [{ text }] })),
      generationConfig: { ...generationConfig(request, rules), ...(thinkingConfig && { thinkingConfig }) },
    };
    const { response } = await withDeadline({ signal, timeoutMs }, (deadline) =>
      client.generateContent(body, { signal: deadline }),
    );
    return readReply(response);
  }

  /** A refusal that may be about the thinking parameters is told by `undefined`. */
  async function tryCall(request: GenerateRequest, thinkingConfig: object | undefined): Promise<Reply | undefined> {
    try {
      return await call(request, thinkingConfig);
    } catch (cause) {
      if (thinkingConfig !== undefined && mayBeAboutThinking(cause)) return undefined;
      return rethrowGemini(cause, model);
    }
  }

  return async (request) => {
    const { signal, turns, thinking } = request;
    const goesOn = turns.length > 1 || thinking === 'least';
    const wanted = thinking === 'least' ? rules.leastThinking : rules.thinking;
    const thinkingConfig = isThinkingRefused ? undefined : wanted;
    const first = await gate.pass(() => tryCall(request, thinkingConfig), { signal, isUrgent: goesOn });
    if (first !== undefined) return first;
    const second = await gate.pass(() => tryCall(request, undefined), { signal, isUrgent: true });
    isThinkingRefused = true;
    return second!;
  };
}

function generationConfig({ responseSchema, maxOutputTokens }: GenerateRequest, rules: ModelRules) {
  return {
    responseMimeType: 'application/json',
    // The SDK types `type` as its own enum; on the wire it is the same lower-case word.
    responseSchema: responseSchema as unknown as ResponseSchema,
    maxOutputTokens: Math.min(maxOutputTokens, rules.outputTokensMax),
    ...(rules.temperature !== undefined && { temperature: rules.temperature }),
  };
}
