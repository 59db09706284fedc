/**
 * What a refusal of Calendly's API means to the person who asked. Calendly is no provider that the pipeline waits for:
 * only the operators' tool calls it. Source: developer.calendly.com "Create Webhook Subscription", error tables.
 */

export type CalendlyErrorCode =
  | 'calendly_unauthenticated'
  | 'calendly_plan_required'
  | 'calendly_forbidden'
  | 'calendly_not_found'
  | 'calendly_already_exists'
  | 'calendly_refused'
  | 'calendly_rate_limited'
  | 'calendly_unavailable'
  | 'calendly_unreadable_answer';

/** The message is for people: what came back and what to do about it, never the token, a key or a body. */
export class CalendlyError extends Error {
  override readonly name = 'CalendlyError';
  readonly code: CalendlyErrorCode;

  constructor(message: string, code: CalendlyErrorCode) {
    super(message);
    this.code = code;
  }
}

/** `body` is the parsed answer; `asked` as in `POST /webhook_subscriptions`. */
export function errorOfRefusal(asked: string, status: number, body: unknown): CalendlyError {
  const said = `Calendly answered ${status} to ${asked}`;
  switch (status) {
    case 401:
      return new CalendlyError(
        `${said}: CALENDLY_API_TOKEN is wrong, expired or revoked; make a new one at calendly.com/integrations/api_webhooks`,
        'calendly_unauthenticated',
      );
    case 403:
      return forbidden(said, body);
    case 404:
      return new CalendlyError(`${said}: there is no such thing, or this token may not see it`, 'calendly_not_found');
    case 409:
      return new CalendlyError(`${said}: a subscription with this url exists already`, 'calendly_already_exists');
    case 429:
      return new CalendlyError(`${said}: too many requests, try again in a minute`, 'calendly_rate_limited');
    default:
      if (status >= 500) return new CalendlyError(`${said}: try again later`, 'calendly_unavailable');
      return new CalendlyError(`${said}${namesOf(body)}`, 'calendly_refused');
  }
}

/** Calendly tells the two cases apart by its message alone. */
function forbidden(said: string, body: unknown): CalendlyError {
  const { message } = (body ?? {}) as { message?: unknown };
  if (/upgrade/i.test(String(message))) {
    return new CalendlyError(
      `${said}: webhooks need a paid plan (Standard, Teams or Enterprise) on the account that owns the token`,
      'calendly_plan_required',
    );
  }
  return new CalendlyError(
    `${said}: the token's user may not do this; scope organization takes an owner or admin (or use --scope user), and webhooks take a paid plan`,
    'calendly_forbidden',
  );
}

/** Which parameters a 400 complains of; their values stay out. */
function namesOf(body: unknown): string {
  const { details } = (body ?? {}) as { details?: unknown };
  const names = (Array.isArray(details) ? details : [])
    .map((detail) => String((detail as { parameter?: unknown } | null)?.parameter ?? ''))
    .filter((name) => /^[a-z_]{1,40}$/.test(name));
  return names.length === 0 ? '' : `: wrong ${names.join(', ')}`;
}
