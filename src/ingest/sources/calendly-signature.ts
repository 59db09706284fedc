/**
 * `Calendly-Webhook-Signature: t=<unix seconds>,v1=<hex>`: HMAC-SHA256 with the key's UTF-8 bytes over `t`, a full stop
 * and the raw body. Source: developer.calendly.com "Webhook signatures".
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Authenticity, Refusal } from './source.js';

export type CalendlyCheck = {
  /** Several while one is rotated out. */
  signingKeys: readonly string[];
  toleranceS: number;
};

export function checkCalendlySignature(
  rawBody: Buffer,
  header: string | undefined,
  { signingKeys, toleranceS }: CalendlyCheck,
  now: Date,
): Authenticity {
  const refusal = judgeCalendlyHeader(header, { toleranceS }, now);
  if (refusal !== undefined) return refusal.reason;
  const { time, digests } = parseHeader(header ?? '');
  const isSigned = signingKeys.some((key) => {
    const expected = createHmac('sha256', key).update(`${time}.`).update(rawBody).digest();
    return digests.some((digest) => timingSafeEqual(digest, expected));
  });
  return isSigned ? 'authentic' : 'mismatch';
}

/** Why no body could be authentic with this header; `undefined` where the body decides. */
export function judgeCalendlyHeader(
  header: string | undefined,
  { toleranceS }: Pick<CalendlyCheck, 'toleranceS'>,
  now: Date,
): Refusal | undefined {
  if (header === undefined || header.trim() === '') return { reason: 'missing' };
  const { time, digests } = parseHeader(header);
  if (time === undefined || digests.length === 0) return { reason: 'mismatch' };
  const skewS = Math.floor(now.getTime() / 1000) - Number(time);
  return Math.abs(skewS) > toleranceS ? { reason: 'outside_tolerance', skewS } : undefined;
}

/**
 * By key, not by position: other schemes (`v0`, `v2`) may stand beside `v1`, and `v1` may come more than once. Two times
 * make the header unusable: which of them was signed is then a guess.
 */
function parseHeader(header: string): { time: string | undefined; digests: Buffer[] } {
  const times: string[] = [];
  const digests: Buffer[] = [];
  for (const part of header.split(',')) {
    const equals = part.indexOf('=');
    const name = part.slice(0, equals).trim();
    const value = part.slice(equals + 1).trim();
    if (name === 't' && /^\d{1,12}$/.test(value)) times.push(value);
    if (name === 'v1' && /^[0-9a-f]{64}$/i.test(value)) digests.push(Buffer.from(value, 'hex'));
  }
  return { time: times.length === 1 ? times[0] : undefined, digests };
}
