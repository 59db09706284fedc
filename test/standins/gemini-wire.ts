/** What Google's API refuses, and in which words. Source: ai.google.dev/gemini-api/docs/api-errors, and seen answers. */
import type { StandinReply } from './http.js';

const SERVED = [
  /^gemini-2\.5-(pro|flash|flash-lite)$/,
  /^gemini-3\.1-(flash-lite|pro-preview)$/,
  /^gemini-3\.5-flash(-lite)?$/,
  /^gemini-3\.[678]-flash$/,
];

export function isServed(model: string): boolean {
  return SERVED.some((name) => name.test(model));
}

export function googleError(code: number, status: string, message: string, details?: object[]): StandinReply {
  return { status: code, body: { error: { code, message, status, ...(details && { details }) } } };
}

export function apiKeyInvalid(): StandinReply {
  return googleError(400, 'INVALID_ARGUMENT', 'API key not valid. Please pass a valid API key.', [
    {
      '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
      reason: 'API_KEY_INVALID',
      domain: 'googleapis.com',
      metadata: { service: 'generativelanguage.googleapis.com' },
    },
  ]);
}

export function modelNotFound(model: string): StandinReply {
  return googleError(
    404,
    'NOT_FOUND',
    `models/${model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods.`,
  );
}

/** A 429 for requests per minute or per day, with the wait that Google names. */
export function quotaExceeded(per: 'Minute' | 'Day', retryDelay: string): StandinReply {
  const details = [
    {
      '@type': 'type.googleapis.com/google.rpc.QuotaFailure',
      violations: [
        {
          quotaMetric: 'generativelanguage.googleapis.com/generate_content_free_tier_requests',
          quotaId: `GenerateRequestsPer${per}PerProjectPerModel-FreeTier`,
          quotaDimensions: { location: 'global', model: 'gemini-3.5-flash-lite' },
          quotaValue: '10',
        },
      ],
    },
    { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay },
  ];
  return googleError(429, 'RESOURCE_EXHAUSTED', 'You exceeded your current quota.', details);
}

export function invalidArgument(message: string): StandinReply {
  return googleError(400, 'INVALID_ARGUMENT', message);
}

const BODY_KEYS = new Set(['contents', 'systemInstruction', 'generationConfig', 'safetySettings', 'tools']);
const CONFIG_KEYS = new Set([
  ...['candidateCount', 'stopSequences', 'maxOutputTokens', 'temperature', 'topP', 'topK'],
  ...['responseMimeType', 'responseSchema', 'thinkingConfig'],
]);
const SCHEMA_KEYS = new Set([
  ...['type', 'format', 'description', 'nullable', 'enum', 'items', 'maxItems', 'minItems'],
  ...['properties', 'required', 'propertyOrdering'],
]);
const OPAQUE = 'Request contains an invalid argument.';

/** Google's message where it would refuse the request. */
export function refusalOf(model: string, body: unknown): string | undefined {
  if (!isObject(body)) return 'Invalid JSON payload received.';
  const { contents, generationConfig } = body;
  const unknownKey = Object.keys(body).find((key) => !BODY_KEYS.has(key));
  if (unknownKey !== undefined) return unknownName(unknownKey);
  if (!Array.isArray(contents) || contents.length === 0) return '* GenerateContentRequest.contents: is not specified';
  if (!contents.every(isTurn)) return OPAQUE;
  return isObject(generationConfig) ? configRefusal(model, generationConfig) : undefined;
}

function configRefusal(model: string, config: Record<string, unknown>): string | undefined {
  const unknownKey = Object.keys(config).find((key) => !CONFIG_KEYS.has(key));
  if (unknownKey !== undefined) return unknownName(unknownKey);
  if (Number(config.maxOutputTokens ?? 1) > 65_536) return OPAQUE;
  if (config.responseSchema !== undefined && config.responseMimeType !== 'application/json') return OPAQUE;
  return schemaRefusal(config.responseSchema) ?? thinkingRefusal(model, config.thinkingConfig);
}

function thinkingRefusal(model: string, config: unknown): string | undefined {
  if (!isObject(config)) return undefined;
  const isOld = model.startsWith('gemini-2.5');
  if (isOld && 'thinkingLevel' in config) return 'Thinking level is not supported for this model.';
  if (!isOld && 'thinkingBudget' in config) return OPAQUE;
  const knowsMinimal = !/^gemini-3\.(8|\d+-pro)/.test(model);
  return config.thinkingLevel === 'minimal' && !knowsMinimal ? OPAQUE : undefined;
}

function schemaRefusal(schema: unknown): string | undefined {
  if (schema === undefined) return undefined;
  if (!isObject(schema) || typeof schema.type !== 'string') return OPAQUE;
  const unknownKey = Object.keys(schema).find((key) => !SCHEMA_KEYS.has(key));
  if (unknownKey !== undefined) return unknownName(unknownKey);
  const fields = isObject(schema.properties) ? schema.properties : {};
  if (Array.isArray(schema.required) && schema.required.some((key) => !(String(key) in fields))) return OPAQUE;
  for (const inner of [...Object.values(fields), ...(schema.items === undefined ? [] : [schema.items])]) {
    const refusal = schemaRefusal(inner);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

function unknownName(key: string): string {
  return `Invalid JSON payload received. Unknown name "${key}": Cannot find field.`;
}

function isTurn(turn: unknown): boolean {
  if (!isObject(turn) || !Array.isArray(turn.parts) || turn.parts.length === 0) return false;
  const isKnownRole = turn.role === undefined || turn.role === 'user' || turn.role === 'model';
  return isKnownRole && turn.parts.every((part) => isObject(part) && typeof part.text === 'string');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
