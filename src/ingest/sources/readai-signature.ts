/**
 * `X-Read-Signature: <hex>`: HMAC-SHA256 over the raw body alone; the key that Read.ai shows is base64 of the real one.
 * Source: support.read.ai article 16352415827219. Relays in front of an older service send `X-ReadAI-Secret` instead.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Authenticity, Refusal } from './source.js';

export type ReadaiCheck = {
  /** Base64, as Read.ai shows them; several while one is rotated out. */
  signingKeys: readonly string[];
  sharedSecret: string | undefined;
};

/** Where both are configured, either suffices. */
export function checkReadaiDelivery(
  rawBody: Buffer,
  headers: IncomingHttpHeaders,
  { signingKeys, sharedSecret }: ReadaiCheck,
): Authenticity {
  const refusal = judgeReadaiHeaders(headers, { signingKeys, sharedSecret });
  if (refusal !== undefined) return refusal.reason;
  if (hasSecret(headers, sharedSecret)) return 'authentic';
  const digest = parseSignature(single(headers['x-read-signature']));
  return digest !== undefined && isSigned(rawBody, digest, signingKeys) ? 'authentic' : 'mismatch';
}

/** Why no body could be authentic with these headers; `undefined` where the body decides, or need not. */
export function judgeReadaiHeaders(
  headers: IncomingHttpHeaders,
  { signingKeys, sharedSecret }: ReadaiCheck,
): Refusal | undefined {
  if (hasSecret(headers, sharedSecret)) return undefined;
  const signature = single(headers['x-read-signature']);
  if (signature === undefined && single(headers['x-readai-secret']) === undefined) return { reason: 'missing' };
  const mayBeSigned = signingKeys.length > 0 && parseSignature(signature) !== undefined;
  return mayBeSigned ? undefined : { reason: 'mismatch' };
}

function hasSecret(headers: IncomingHttpHeaders, sharedSecret: string | undefined): boolean {
  const secret = single(headers['x-readai-secret']);
  return sharedSecret !== undefined && secret !== undefined && isSameSecret(secret, sharedSecret);
}

function parseSignature(header = ''): Buffer | undefined {
  const hex = /^\s*(?:sha256\s*=\s*)?([0-9a-f]{64})\s*$/i.exec(header)?.[1];
  return hex === undefined ? undefined : Buffer.from(hex, 'hex');
}

function isSigned(rawBody: Buffer, digest: Buffer, signingKeys: readonly string[]): boolean {
  return signingKeys.some((key) => {
    const expected = createHmac('sha256', Buffer.from(key, 'base64')).update(rawBody).digest();
    return timingSafeEqual(digest, expected);
  });
}

/** Hashed first: only texts of equal length can be compared in constant time. Node reads header bytes as Latin-1. */
function isSameSecret(given: string, secret: string): boolean {
  const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
  return timingSafeEqual(hash(Buffer.from(given, 'latin1')), hash(Buffer.from(secret, 'utf8')));
}

function single(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && header.trim() !== '' ? header : undefined;
}
