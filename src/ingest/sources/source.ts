/**
 * What a source of webhooks is. To add one: a file beside this one, a line in `index.ts`, its events in
 * `lib/events.ts`.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { z } from 'zod';
import type { SourceName, WebhookEvent } from '../../lib/append.js';

/** Why a delivery is not authentic, for the log alone: the sender learns nothing of it. */
export type Authenticity = 'authentic' | 'missing' | 'mismatch' | 'outside_tolerance';

/** `skewS`: by how many seconds our clock is ahead of the time that was signed; negative where it is behind. */
export type Refusal = { reason: Exclude<Authenticity, 'authentic'>; skewS?: number };

export type Issue = { path: string; message: string };

export type Reading =
  | { kind: 'ignored'; reason: 'unhandled_type' | 'test_delivery' }
  | { kind: 'invalid'; issues: Issue[] }
  | WebhookEvent;

export type Source = {
  name: SourceName;
  /** The route it posts to. */
  path: string;
  /** True where a key or secret is configured; then a missing or wrong signature is refused always. */
  isVerifiable: boolean;
  /** The settings that would make it verifiable, for messages to the operator. */
  settings: readonly string[];
  /** What the head alone says: why no body could be authentic with it; `undefined` where the body decides. */
  judgeHeaders: (headers: IncomingHttpHeaders, now: Date) => Refusal | undefined;
  /** Judges the raw bytes, before anything parses them: a re-serialised body is not what the sender signed. */
  checkAuthenticity: (rawBody: Buffer, headers: IncomingHttpHeaders, now: Date) => Authenticity;
  /** Reads a parsed body; `rawBody` is what it was parsed from. */
  read: (json: unknown, rawBody: Buffer) => Reading;
};

const ISSUES_MAX = 20;

/** The issues by path, without any value of the body. */
export function describeIssues(error: z.ZodError): Issue[] {
  return error.issues.slice(0, ISSUES_MAX).map(({ path, message }) => ({ path: path.join('.'), message }));
}

export function invalid(path: string, message: string): Reading {
  return { kind: 'invalid', issues: [{ path, message }] };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * True for what may stand in an idempotency key: short, nothing that breaks a line of a log, steers a terminal or hides,
 * and no half of a surrogate pair, as all of those would become the same key.
 */
export function isUsableId(id: string): boolean {
  return id.length > 0 && id.length <= 256 && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(id);
}
