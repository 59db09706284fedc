/** Odd answers of providers where no other test looks: single records that are refused, token replies, Slack's spellings. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError } from '../../src/lib/errors.js';
import { makeSlack } from '../../src/lib/providers/slack/slack.js';
import { failureOf } from '../helpers/failure-of.js';
import { lead, setUpZoho } from '../helpers/zoho-crm.js';
import { at, refusedRecord as refused } from '../helpers/zoho-refusals.js';
import { SLACK_CHANNEL, SLACK_TOKEN, slackFaults, startSlack } from '../standins/slack.js';

const UPSERT = '/crm/v8/Leads/upsert';
const signal = new AbortController().signal;

const records = suite('a single record in an answer of Zoho');
const setting = setUpZoho(records);

const refusals: [what: string, status: number, record: object, expected: object][] = [
  ['412, changed meanwhile', 412, refused('ALREADY_MODIFIED', { id: '57257' }), { retryable: true }],
  ['400, locked', 400, refused('RECORD_LOCKED'), { retryable: true }],
  [
    '400, too long, in digits',
    400,
    refused('INVALID_DATA', { maximum_length: 40, ...at('First_Name') }),
    { maxLength: 40 },
  ],
  [
    '202, too long, in text',
    202,
    refused('INVALID_DATA', { maximum_length: '40', ...at('First_Name') }),
    { maxLength: 40 },
  ],
  [
    '400, not in the picklist',
    400,
    refused('INVALID_DATA', at('Lead_Status')),
    { fields: ['Lead_Status'], retryable: false },
  ],
  ['202, a field missing', 202, refused('MANDATORY_NOT_FOUND', at('Region')), { fields: ['Region'], retryable: false }],
  [
    '400, a unique value that another lead has',
    400,
    refused('DUPLICATE_DATA', { ...at('Phone'), duplicate_record: { id: '57258', Owner: { id: '57250' } } }),
    { fields: ['Phone'], duplicateId: '57258' },
  ],
  [
    '400, several fields at once',
    400,
    refused('MULTIPLE_OR_MULTI_ERRORS', {
      errors: [refused('INVALID_DATA', at('Lead_Status')), refused('DUPLICATE_DATA', at('Phone')), 'and more'],
    }),
    { fields: ['Lead_Status', 'Phone'], retryable: false },
  ],
  [
    '400, converted, said in words',
    400,
    refused('INVALID_DATA', { id: '57257' }, "can't update the converted record"),
    { code: 'CONVERTED_RECORD' },
  ],
  ['202, converted, said in a code', 202, refused('ID_ALREADY_CONVERTED'), { code: 'CONVERTED_RECORD' }],
];

for (const [what, status, record, expected] of refusals) {
  records(`${what}: it is the record's own, and the call is no failure`, async () => {
    setting.standin.faults.next({ status, body: { data: [record] } }, { path: UPSERT });
    const [result] = await setting.connect().upsertLeads([lead('a@acme.example')], { signal });
    assert.is(result?.ok, false);
    for (const [name, value] of Object.entries(expected)) {
      assert.equal((result as Record<string, unknown>)[name], value, name);
    }
  });
}

records('207: an insert that names a duplicate field is an insert, and its neighbour is refused alone', async () => {
  const inserted = {
    ...{ code: 'SUCCESS', status: 'success', action: 'insert', duplicate_field: 'Email', message: 'record added' },
    details: { id: '572576700000999001', Created_Time: '2026-11-10T01:10:47-07:00' },
  };
  const body = { data: [inserted, refused('INVALID_DATA', { expected_data_type: 'text', api_name: 'Company' })] };
  setting.standin.faults.next({ status: 207, body }, { path: UPSERT });
  const [first, second] = await setting
    .connect()
    .upsertLeads([lead('a@acme.example'), lead('b@acme.example')], { signal });
  assert.equal(first, { ok: true, id: '572576700000999001', action: 'insert' });
  assert.ok(second && !second.ok && second.fields[0] === 'Company');
});

records('a token reply without scope and refresh token is good, and its token type is not believed', async () => {
  await setting.connect().leadFields({ signal });
  const [, call] = setting.standin.calls;
  assert.match(call!.headers.authorization!, /^Zoho-oauthtoken /);
  const body = {
    access_token: '1000.x.y',
    expires_in: 3600,
    api_domain: 'https://www.zohoapis.eu',
    token_type: 'Bearer',
  };
  setting.standin.faults.next({ status: 200, body }, { path: '/oauth/v2/token' });
  const other = setting.connect({ keyPrefix: 'other:' });
  // The stand-in has not given this token, so it is refused once, and then fetched anew.
  assert.ok((await other.upsertLeads([lead('a@acme.example')], { signal }))[0]?.ok);
});

const slack = suite('Slack’s other spellings');

for (const [name, fault, code, mayBeDone, retryAfterMs] of [
  [
    'rate_limited with 429, as older methods say it',
    { status: 429, headers: { 'retry-after': '1' }, body: { retry_after: 1, ok: false, error: 'rate_limited' } },
    ...(['slack_rate_limited', false, 1_000] as const),
  ],
  ['rate_limited with 200', slackFaults.refusal('rate_limited'), 'slack_rate_limited', false, 30_000],
  [
    'a redirect',
    { status: 302, headers: { location: 'https://elsewhere.example/' } },
    ...(['slack_connection_lost', true, undefined] as const),
  ],
] as const) {
  slack(`${name} is an outage`, async () => {
    const standin = await startSlack();
    standin.faults.next(fault);
    const { post } = makeSlack({ token: SLACK_TOKEN, channel: SLACK_CHANNEL, apiUrl: standin.apiUrl });
    const error = await failureOf(post({ text: 'Hello', blocks: [], signal }));
    const calls = standin.calls.length;
    await standin.stop();
    assert.instance(error, OutageError);
    assert.equal([error.kind, error.code, error.mayBeDone], ['outage', code, mayBeDone]);
    assert.equal([error.retryAfterMs, calls], [retryAfterMs, 1]);
  });
}

records.run();
slack.run();
