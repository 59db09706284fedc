/** `GET models/{model}`: is the key good, is the model served. The SDK has no such call. */
import { OutageError } from '../../errors.js';
import { withDeadline } from '../deadline.js';
import { errorOfRefusal, isDown, rethrowGemini } from './errors.js';
import type { Connection } from './generate.js';

const GOOGLE_URL = 'https://generativelanguage.googleapis.com';
/** An event that is alone is its own probe: with one that hangs and the next, Gemini's return is noticed within 15 s. */
const ANSWERS_MS = 12_000;

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

/** Throws `OutageError` where Gemini can't be reached, hangs or fails. Whatever else it answers, it is there. */
export async function assertAnswers(connection: Connection, signal: AbortSignal): Promise<void> {
  const timeoutMs = Math.min(connection.timeoutMs, ANSWERS_MS);
  await checkModel({ ...connection, timeoutMs }, signal).catch((error: unknown) => {
    if (isDown(error) || signal.aborted) throw error;
  });
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
