/** One call of `generateContent`, with what the model's family allows. The only file that speaks through the SDK. */
import { GoogleGenerativeAI, type ResponseSchema } from '@google/generative-ai';
import type { AnswerSchema } from './answer-schema.js';
import { withDeadline } from './deadline.js';
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

export type Connection = { apiKey: string; model: string; baseUrl: string | undefined; timeoutMs: number };

export function makeGenerate({ apiKey, model, baseUrl, timeoutMs }: Connection): Generate {
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

  return async (request) => {
    const wanted = request.thinking === 'least' ? rules.leastThinking : rules.thinking;
    const thinkingConfig = isThinkingRefused ? undefined : wanted;
    try {
      return await call(request, thinkingConfig);
    } catch (cause) {
      if (thinkingConfig === undefined || !mayBeAboutThinking(cause)) rethrowGemini(cause, model);
    }
    try {
      const reply = await call(request, undefined);
      isThinkingRefused = true;
      return reply;
    } catch (cause) {
      return rethrowGemini(cause, model);
    }
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
