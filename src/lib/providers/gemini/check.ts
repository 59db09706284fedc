/** `GET models/{model}`: is the key good, is the model served. The SDK has no such call. */
import { OutageError } from '../../errors.js';
import { withDeadline } from '../deadline.js';
import { errorOfRefusal, rethrowGemini } from './errors.js';
import type { Connection } from './generate.js';

const GOOGLE_URL = 'https://generativelanguage.googleapis.com';

/** Throws `OutageError`, of kind `configuration` when the settings are at fault. */
export async function checkModel(
  { apiKey, model, baseUrl, timeoutMs }: Connection,
  signal: AbortSignal,
): Promise<void> {
  const name = model.includes('/') ? model : `models/${model}`;
  const url = `${baseUrl ?? GOOGLE_URL}/v1beta/${name}`;
  const { status, body } = await withDeadline({ signal, timeoutMs }, async (deadline) => {
    const response = await fetch(url, { headers: { 'x-goog-api-key': apiKey }, signal: deadline }).catch(rethrowFetch);
    return { status: response.status, body: await response.text().catch(rethrowFetch) };
  }).catch((cause) => rethrowGemini(cause, model));
  if (status === 200) return;
  throw errorOfRefusal({ status, ...readError(body) }, model);
}

function rethrowFetch(cause: unknown): never {
  if (!(cause instanceof TypeError)) throw cause;
  throw new OutageError('Gemini could not be reached, or the connection broke', {
    code: 'gemini_unreachable',
    provider: 'gemini',
  });
}

function readError(body: string): { message: string; details: unknown } {
  try {
    const { error } = JSON.parse(body) as { error?: { message?: unknown; details?: unknown } };
    return { message: String(error?.message ?? ''), details: error?.details };
  } catch {
    return { message: '', details: undefined };
  }
}
