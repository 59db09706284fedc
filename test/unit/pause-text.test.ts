import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { explain } from '../../src/consumers/alert/error-text.js';
import { pausedMessage } from '../../src/consumers/alert/health-text.js';
import type { ProviderHealth } from '../../src/lib/events.js';
import { pausedEvent } from '../helpers/alert-events.js';

const test = suite('what a pause is told as');

const textOf = (data: Partial<ProviderHealth>) => pausedMessage(pausedEvent(data), false).text;

test('an outage without a known reason asks nobody for anything', () => {
  const text = textOf({ reason: 'zoho_unavailable' });
  assert.match(text, 'Zoho has been out of reach since 12:00 UTC on 23 Nov');
  assert.match(text, 'Nothing; the work goes on by itself');
});

const LIMITS: [reason: string, provider: ProviderHealth['provider'], why: RegExp, next: RegExp][] = [
  ['zoho_too_many_requests', 'zoho', /Zoho's limit on calls/, /API dashboard/],
  ['zoho_token_throttled', 'zoho', /no new access token/, /same refresh token/],
  ['gemini_quota_exhausted', 'gemini', /quota for the day/, /Google AI Studio/],
];
for (const [reason, provider, why, next] of LIMITS) {
  test(`a limit that is used up is told as one, with what can be done: ${reason}`, () => {
    const text = textOf({ reason, provider });
    assert.match(text, why);
    assert.match(text, next);
    assert.not.match(text, /out of reach|Nothing; the work/);
    assert.match(text, 'since 12:00 UTC on 23 Nov');
  });
}

test('where Zoho refuses the tokens that it gives, nobody is sent for another refresh token', () => {
  const text = textOf({ kind: 'configuration', reason: 'zoho_invalid_token' });
  assert.match(text, 'ZOHO_API_URL');
  assert.not.match(text, /refresh token/i);
});

test('what waits is done by itself: no pause asks for anything to be sent again or entered by hand', () => {
  const reasons = [
    ...['zoho_no_permission', 'zoho_authorization_failed', 'zoho_oauth_scope_mismatch', 'zoho_invalid_code'],
    ...['zoho_http_401', 'zoho_http_403', 'zoho_http_404', 'zoho_http_302', 'zoho_a_reason_to_come'],
    ...['gemini_key_invalid', 'gemini_billing', 'gemini_forbidden', 'gemini_model_unknown'],
    ...LIMITS.map(([reason]) => reason),
  ];
  for (const kind of ['configuration', 'outage'] as const) {
    for (const reason of reasons) {
      assert.not.match(textOf({ kind, reason }), /send the event again|by hand/, `${kind} ${reason}`);
    }
  }
});

// Zoho's error table ("HTTP status codes" and the tables of each call, v8), and what we say where it says nothing.
const FATAL = [
  ...['invalid_data', 'mandatory_not_found', 'expected_field_missing', 'duplicate_data', 'invalid_module'],
  ...['invalid_request_method', 'authorization_failed', 'dependent_field_missing', 'dependent_mismatch'],
  ...['limit_exceeded', 'record_locked', 'record_in_blueprint', 'pattern_not_matched', 'multiple_or_multi_errors'],
  ...['invalid_query', 'limit_reached', 'oauth_scope_mismatch', 'no_permission', 'invalid_url_pattern'],
  ...['already_modified', 'too_many_requests', 'internal_error', 'converted_record', 'no_result', 'no_answer'],
];

test('every refusal of Zoho that may end an event has its own words', () => {
  const undescribed = FATAL.filter((code) => /no description yet/.test(explain(`zoho_${code}`).why));
  assert.equal(undescribed, []);
});

test.run();
