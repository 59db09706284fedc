/** What an error code means to the people who sell, and what somebody should do about it. Own words only, no data. */
import type { OutageKind } from '../../lib/errors.js';

export type Explanation = { why: string; next: string };

const REDRIVE = 'then send the event again';

const TOKEN_NEXT =
  'Make a new refresh token as `scripts/zoho_oauth_helper.md` tells, set ZOHO_REFRESH_TOKEN and restart the workers.';
const CENTRE_NEXT =
  'Compare ZOHO_DC and ZOHO_API_URL with the address of the CRM: a sandbox or a developer edition has one of its own. Then restart the workers.';
const CLIENT_NEXT =
  'Compare ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET and ZOHO_DC with the client in the Zoho API console, then restart the workers.';
const SCOPE_NEXT = 'Make a refresh token with all the scopes that `scripts/zoho_oauth_helper.md` lists, and set it.';
const FIELDS_NEXT = `Enter the lead by hand if it is urgent. An engineer compares ZOHO_FIELD_MAP with the lead's fields in Zoho (\`gvi doctor\` shows both), ${REDRIVE}.`;
const BY_HAND_NEXT = 'Enter it in Zoho by hand; an engineer looks into the reason.';
const LATER_NEXT = `Nothing is lost. Once it works again, ${REDRIVE}.`;

const KNOWN: Record<string, Explanation> = {
  zoho_not_configured: {
    why: 'This service has no access to Zoho yet.',
    next: 'Set ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET and ZOHO_REFRESH_TOKEN (or DRY_RUN=true) and restart the workers.',
  },
  zoho_invalid_code: { why: 'Zoho no longer accepts our refresh token.', next: TOKEN_NEXT },
  zoho_invalid_grant: { why: 'Zoho no longer accepts our refresh token.', next: TOKEN_NEXT },
  zoho_access_denied: { why: 'Our refresh token belongs to another client of Zoho.', next: TOKEN_NEXT },
  zoho_invalid_token: { why: 'Zoho gives us access tokens and does not accept them.', next: CENTRE_NEXT },
  zoho_authentication_failure: { why: 'Zoho does not accept our access token.', next: TOKEN_NEXT },
  zoho_invalid_client: { why: 'Zoho does not know this service in its data centre.', next: CLIENT_NEXT },
  zoho_invalid_client_secret: { why: 'Zoho does not accept the secret of this service.', next: CLIENT_NEXT },
  zoho_unauthorized_client: { why: 'Zoho does not let this service in.', next: CLIENT_NEXT },
  zoho_token_refused: { why: "Zoho's server for access tokens turned us away.", next: CLIENT_NEXT },
  zoho_invalid_url_pattern: { why: 'Zoho does not know the address we call.', next: CLIENT_NEXT },
  zoho_oauth_scope_mismatch: { why: 'Our access to Zoho does not cover what we need to write.', next: SCOPE_NEXT },
  zoho_no_permission: {
    why: "The Zoho user behind this service may not write there: that user's profile forbids it.",
    next: `A Zoho administrator allows it in the user's profile, ${REDRIVE}.`,
  },
  zoho_authorization_failed: {
    why: 'The Zoho user behind this service may not write there.',
    next: `A Zoho administrator allows it in the user's profile, ${REDRIVE}.`,
  },
  zoho_invalid_data: { why: 'Zoho did not accept a value in one of the fields.', next: FIELDS_NEXT },
  zoho_pattern_not_matched: { why: 'Zoho did not accept the form of a value.', next: FIELDS_NEXT },
  zoho_mandatory_not_found: { why: 'Zoho demands a field that we know nothing for.', next: FIELDS_NEXT },
  zoho_expected_field_missing: { why: 'Zoho demands a field that we know nothing for.', next: FIELDS_NEXT },
  zoho_dependent_field_missing: { why: 'Zoho demands a field that we know nothing for.', next: FIELDS_NEXT },
  zoho_dependent_mismatch: { why: 'Two fields do not fit together by the rules in Zoho.', next: FIELDS_NEXT },
  zoho_limit_exceeded: { why: 'A text is longer than its field in Zoho.', next: FIELDS_NEXT },
  zoho_multiple_or_multi_errors: { why: 'Zoho did not accept several values at once.', next: FIELDS_NEXT },
  zoho_limit_reached: {
    why: 'Zoho has reached a limit of its own for this lead or its notes.',
    next: `A Zoho administrator sees which one, ${REDRIVE}.`,
  },
  zoho_duplicate_data: {
    why: 'Zoho has another record with the same value in a field that must be unique.',
    next: `Merge the two records in Zoho, ${REDRIVE}.`,
  },
  zoho_another_lead: {
    why: 'Zoho wrote it to another lead, which has the same value in a field that must be unique.',
    next: `Put that lead right in Zoho, its email first, let the service's user read the fields (\`gvi doctor\` tells), ${REDRIVE}.`,
  },
  zoho_record_locked: { why: 'The lead is locked in Zoho.', next: `Unlock it, ${REDRIVE}.` },
  zoho_record_in_blueprint: {
    why: 'A blueprint in Zoho holds the lead.',
    next: `Move it on in the blueprint, ${REDRIVE}.`,
  },
  zoho_already_modified: {
    why: 'Somebody changed the lead in Zoho at the same moment, several times.',
    next: `Nothing is lost: ${REDRIVE}.`,
  },
  zoho_invalid_module: {
    why: 'Zoho shows the user behind this service no such module.',
    next: `A Zoho administrator lets that user see leads, contacts and deals, ${REDRIVE}.`,
  },
  zoho_invalid_query: { why: 'A fault in this service: Zoho did not understand a question.', next: BY_HAND_NEXT },
  zoho_invalid_request_method: {
    why: 'A fault in this service: Zoho did not understand a request.',
    next: BY_HAND_NEXT,
  },
  zoho_no_result: {
    why: 'Zoho did not say what became of the lead, several times.',
    next: `See whether it is there, ${REDRIVE}.`,
  },
  zoho_converted_record: { why: 'The lead was converted meanwhile.', next: BY_HAND_NEXT },
  zoho_id_already_converted: { why: 'The lead was converted meanwhile.', next: BY_HAND_NEXT },
  zoho_token_throttled: {
    why: 'Zoho gave us no new access token for too long, as too many had been asked for.',
    next: `See whether another program uses the same refresh token, ${REDRIVE}.`,
  },
  zoho_too_many_requests: {
    why: "Zoho's limit on calls was used up for too long.",
    next: `See Zoho's API dashboard for what uses it up, ${REDRIVE}.`,
  },
  gemini_key_invalid: {
    why: 'Gemini does not accept our API key.',
    next: 'Set GEMINI_API_KEY to a valid key and restart the workers.',
  },
  gemini_billing: {
    why: 'Gemini wants to be paid: the project has no credit, or no billing in its region.',
    next: 'Settle it in Google AI Studio.',
  },
  gemini_forbidden: {
    why: 'Our API key may not use Gemini.',
    next: 'Check the restrictions of GEMINI_API_KEY in Google AI Studio.',
  },
  gemini_model_unknown: {
    why: 'Google no longer serves the model we ask.',
    next: 'Set GEMINI_MODEL to a model that is served and restart the workers.',
  },
  gemini_quota_exhausted: { why: "Gemini's quota for the day is used up.", next: LATER_NEXT },
  model_blocked: { why: 'Gemini refused to work on the content.', next: BY_HAND_NEXT },
  model_declined: { why: 'Gemini gave no answer, several times.', next: `It often works later: ${REDRIVE}.` },
  model_truncated: { why: 'The answer of the model was too long.', next: BY_HAND_NEXT },
  model_off_schema: { why: 'The model answered in a way we cannot use.', next: `It often works later: ${REDRIVE}.` },
  model_refused_request: { why: 'Gemini refused the request.', next: BY_HAND_NEXT },
  malformed_entry: { why: 'Its data does not have the shape we expect.', next: BY_HAND_NEXT },
  malformed_follow_on: { why: 'A fault in this service.', next: BY_HAND_NEXT },
  entry_lost: {
    why: 'Somebody deleted it from Redis before it was done.',
    next: 'Have the provider send the webhook again; if the lead is in the system already, an engineer replays the stage before.',
  },
  worker_crashed: { why: 'The work on it crashed, several times.', next: BY_HAND_NEXT },
  unexpected: { why: 'A fault in this service that nobody has seen before.', next: BY_HAND_NEXT },
};

const NOT_REACHED =
  /_(unreachable|unavailable|unreadable|unreadable_answer|no_answer|timeout|timed_out|rate_limited|connection_lost|http_5\d\d|internal_error)$/;

const PRODUCTS = new Map([
  ['zoho', 'Zoho'],
  ['gemini', 'Gemini'],
  ['model', 'Gemini'],
  ['slack', 'Slack'],
]);

/** Never fails: a code nobody has written a text for gets a general one that says so. */
export function explain(code: string): Explanation {
  const known = Object.hasOwn(KNOWN, code) ? KNOWN[code] : undefined;
  if (known) return known;
  const product = PRODUCTS.get(code.split('_', 1)[0]!);
  if (product !== undefined && NOT_REACHED.test(code)) {
    return { why: `${product} could not be reached for too long.`, next: LATER_NEXT };
  }
  return product === undefined
    ? { why: 'A reason that has no description yet.', next: BY_HAND_NEXT }
    : { why: `${product} refused it, for a reason that has no description yet.`, next: BY_HAND_NEXT };
}

/** Limits that come back by themselves, and that somebody may raise. */
const LIMITS: Record<string, Explanation> = {
  zoho_too_many_requests: {
    why: "Zoho's limit on calls is used up.",
    next: "See Zoho's API dashboard for what uses it up; it renews itself within 24 hours.",
  },
  zoho_token_throttled: {
    why: 'Zoho gives us no new access token for now, as too many were asked for.',
    next: 'See whether another program uses the same refresh token.',
  },
  gemini_quota_exhausted: {
    why: "Gemini's quota for the day is used up.",
    next: 'Raise it in Google AI Studio, or wait until it renews itself.',
  },
};

/**
 * Why a provider is paused, and what somebody can do about it; `undefined` for an outage that nobody but the provider
 * can end. What waits is done by itself afterwards, so nothing is to be sent again or entered by hand.
 */
export function explainPause(kind: OutageKind, reason: string): Explanation | undefined {
  if (Object.hasOwn(LIMITS, reason)) return LIMITS[reason];
  if (kind === 'outage') return undefined;
  const { why, next } = explain(reason);
  return { why, next: next === BY_HAND_NEXT ? 'An engineer looks into the reason.' : next.replace(`, ${REDRIVE}`, '') };
}
