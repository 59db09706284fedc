/**
 * How work fails, told apart at the edge where it happens. The runtime (`runtime/`) decides what becomes of each:
 *
 * | error            | meaning                                                     | what happens                          |
 * | ---------------- | ----------------------------------------------------------- | ------------------------------------- |
 * | `RetryableError` | this event may go through later                             | parked, costs one attempt             |
 * | `OutageError`    | a provider is down, limited or misconfigured                | parked, the provider is paused        |
 * | `TerminalError`  | no repetition can cure it                                   | `event.failed`                        |
 * | anything else    | a bug or a surprise                                         | like `RetryableError`, code `unexpected` |
 *
 * Messages say what was asked and what came back. They are shown to people and stored, so they never hold a secret, a
 * person's data or a provider's raw body.
 */

/** The outside systems that can be down, in the order in which the scripts are told of them. */
export const PROVIDERS = ['gemini', 'zoho', 'slack'] as const;
export type Provider = (typeof PROVIDERS)[number];

type ErrorDetails = {
  cause?: unknown;
  /** Machine-readable, snake_case, stable: it becomes `error.code` of `event.failed`. */
  code: string;
};

type RefusalDetails = ErrorDetails & {
  /** Whose answer it is: who refuses one request is up. Absent where the fault was found here. */
  provider?: Provider;
};

/** This event may go through later: its own attempt is spent. */
export class RetryableError extends Error {
  override readonly name = 'RetryableError';
  readonly code: string;
  readonly provider: Provider | undefined;
  /** What the provider asked us to wait, in milliseconds, when it said so. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, details: RefusalDetails & { retryAfterMs?: number | undefined }) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.provider = details.provider;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** `outage`: refused, timed out, 5xx, 429. `configuration`: token, scope, model; it takes a person to mend it. */
export type OutageKind = 'outage' | 'configuration';

/**
 * What a provider asks for while it is an outage is waited no longer: a limit of the day may be lifted before its end, and a
 * refused token must not be tried more than ten times in ten minutes.
 */
export const ASKED_MS_MAX = 75_000;

/** The provider, not this event, is at fault: work that needs the provider waits and burns no attempt. */
export class OutageError extends Error {
  override readonly name = 'OutageError';
  readonly code: string;
  readonly provider: Provider;
  readonly kind: OutageKind;
  readonly retryAfterMs: number | undefined;
  /** True when the provider may have done the work although no good answer came: look before a second try. */
  readonly mayBeDone: boolean;

  constructor(
    message: string,
    details: ErrorDetails & {
      provider: Provider;
      kind?: OutageKind;
      retryAfterMs?: number | undefined;
      mayBeDone?: boolean;
    },
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.provider = details.provider;
    this.kind = details.kind ?? 'outage';
    this.retryAfterMs = details.retryAfterMs;
    this.mayBeDone = details.mayBeDone ?? false;
  }
}

/** No repetition can cure it: bad input, refused content, a rule broken. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
  readonly code: string;
  readonly provider: Provider | undefined;

  constructor(message: string, { code, cause, provider }: RefusalDetails) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.provider = provider;
  }
}

/** Not a failure: the work must wait (another worker holds the lead, an outage is not yet ten minutes old). Costs no attempt. */
export class NotYetError extends Error {
  override readonly name = 'NotYetError';
  readonly delayMs: number;

  constructor(reason: string, { delayMs }: { delayMs: number }) {
    super(reason);
    this.delayMs = delayMs;
  }
}
