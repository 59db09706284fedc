import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError, RetryableError, TerminalError } from '../../src/lib/errors.js';
import { failureOf } from '../helpers/failure-of.js';
import { connectClient, crmCalls, flat, UPSERT_PATH, wrapped, write } from '../helpers/zoho-client.js';
import type { Fault } from '../standins/http.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite<{ zoho: ZohoStandin }>('what an answer of Zoho means');

test.before(async (context) => {
  context.zoho = await startZoho();
});

test.before.each(({ zoho }) => {
  zoho.faults.clear();
  zoho.calls.length = 0;
});

test.after(({ zoho }) => zoho.stop());

type Row = {
  what: string;
  fault: Fault;
  error: typeof OutageError | typeof RetryableError | typeof TerminalError;
  code: string;
  kind?: 'outage' | 'configuration';
  mayBeDone?: boolean;
};

const outage = { error: OutageError, kind: 'outage' } as const;
const configuration = { error: OutageError, kind: 'configuration', mayBeDone: false } as const;
const terminalCodes = [
  'INVALID_DATA',
  'MANDATORY_NOT_FOUND',
  'EXPECTED_FIELD_MISSING',
  'DUPLICATE_DATA',
  'INVALID_MODULE',
  'INVALID_REQUEST_METHOD',
  'DEPENDENT_FIELD_MISSING',
  'DEPENDENT_MISMATCH',
  'LIMIT_EXCEEDED',
  'RECORD_IN_BLUEPRINT',
  'PATTERN_NOT_MATCHED',
  'MULTIPLE_OR_MULTI_ERRORS',
  'INVALID_QUERY',
  'LIMIT_REACHED',
  'SOMETHING_NEW',
];

const rows: Row[] = [
  ...terminalCodes.map((code) => ({
    what: `400 ${code} for the whole request`,
    fault: { status: 400, body: flat(code) },
    error: TerminalError,
    code: `zoho_${code.toLowerCase()}`,
  })),
  { what: '400 without a body that says why', fault: { status: 400 }, error: TerminalError, code: 'zoho_http_400' },
  {
    what: '400 RECORD_LOCKED',
    fault: { status: 400, body: flat('RECORD_LOCKED') },
    error: RetryableError,
    code: 'zoho_record_locked',
  },
  {
    what: '412 ALREADY_MODIFIED',
    fault: { status: 412, body: flat('ALREADY_MODIFIED') },
    error: RetryableError,
    code: 'zoho_already_modified',
  },
  {
    what: '400 AUTHORIZATION_FAILED',
    fault: { status: 400, body: flat('AUTHORIZATION_FAILED') },
    ...configuration,
    code: 'zoho_authorization_failed',
  },
  {
    what: '401 OAUTH_SCOPE_MISMATCH, flat',
    fault: { status: 401, body: flat('OAUTH_SCOPE_MISMATCH') },
    ...configuration,
    code: 'zoho_oauth_scope_mismatch',
  },
  {
    what: '401 OAUTH_SCOPE_MISMATCH, wrapped',
    fault: { status: 401, body: wrapped('OAUTH_SCOPE_MISMATCH') },
    ...configuration,
    code: 'zoho_oauth_scope_mismatch',
  },
  {
    what: '403 OAUTH_SCOPE_MISMATCH',
    fault: { status: 403, body: flat('OAUTH_SCOPE_MISMATCH') },
    ...configuration,
    code: 'zoho_oauth_scope_mismatch',
  },
  { what: '401 without a code', fault: { status: 401 }, ...configuration, code: 'zoho_http_401' },
  {
    what: '403 NO_PERMISSION',
    fault: { status: 403, body: flat('NO_PERMISSION') },
    ...configuration,
    code: 'zoho_no_permission',
  },
  {
    what: '403 NO_PERMISSION, wrapped',
    fault: { status: 403, body: wrapped('NO_PERMISSION') },
    ...configuration,
    code: 'zoho_no_permission',
  },
  {
    what: '404 INVALID_URL_PATTERN',
    fault: { status: 404, body: flat('INVALID_URL_PATTERN') },
    ...configuration,
    code: 'zoho_invalid_url_pattern',
  },
  { what: '404 with a page', fault: { status: 404 }, ...configuration, code: 'zoho_http_404' },
  {
    what: 'a redirect',
    fault: { status: 302, headers: { location: 'https://elsewhere.example/' } },
    ...configuration,
    code: 'zoho_http_302',
  },
  {
    what: '429 TOO_MANY_REQUESTS',
    fault: { status: 429, body: flat('TOO_MANY_REQUESTS') },
    ...outage,
    code: 'zoho_too_many_requests',
    mayBeDone: false,
  },
  {
    what: '200 TOO_MANY_REQUESTS, wrapped',
    fault: { status: 200, body: wrapped('TOO_MANY_REQUESTS') },
    ...outage,
    code: 'zoho_too_many_requests',
    mayBeDone: false,
  },
  { what: '429 with a page', fault: { status: 429 }, ...outage, code: 'zoho_too_many_requests', mayBeDone: false },
  {
    what: '500 INTERNAL_ERROR',
    fault: { status: 500, body: flat('INTERNAL_ERROR') },
    ...outage,
    code: 'zoho_unavailable',
    mayBeDone: true,
  },
  {
    what: '500 INTERNAL_ERROR, wrapped',
    fault: { status: 500, body: wrapped('INTERNAL_ERROR') },
    ...outage,
    code: 'zoho_unavailable',
    mayBeDone: true,
  },
  { what: '502 with a page', fault: { status: 502 }, ...outage, code: 'zoho_unavailable', mayBeDone: true },
  {
    what: '503 without a body',
    fault: { status: 503, body: '' },
    ...outage,
    code: 'zoho_unavailable',
    mayBeDone: true,
  },
  {
    what: '200 with a page',
    fault: { status: 200, body: '<html></html>' },
    ...outage,
    code: 'zoho_unreadable_answer',
    mayBeDone: true,
  },
  {
    what: '204 to a write',
    fault: { status: 204, body: '' },
    ...outage,
    code: 'zoho_unreadable_answer',
    mayBeDone: true,
  },
  { what: 'a connection that breaks', fault: { reset: true }, ...outage, code: 'zoho_unreachable', mayBeDone: true },
  {
    what: 'an answer that is lost',
    fault: { doneButAnswerLost: true },
    ...outage,
    code: 'zoho_unreachable',
    mayBeDone: true,
  },
];

for (const { what, fault, error, code, kind, mayBeDone } of rows) {
  test(`${what}: ${error.name} ${code}`, async ({ zoho }) => {
    const { send, token } = connectClient(zoho);
    zoho.faults.on({ path: UPSERT_PATH }, fault);
    const failure = await failureOf(send(write));
    assert.instance(failure, error, String(failure));
    assert.is(failure.code, code);
    if (kind) assert.is(failure.kind, kind);
    if (mayBeDone !== undefined) assert.is(failure.mayBeDone, mayBeDone);
    assert.is(crmCalls(zoho).length, 1, 'one request and no retry');
    assert.equal(token.invalidated, [], 'the token is not to blame');
    assert.match(failure.message, 'POST /crm/v8/Leads/upsert');
  });
}

for (const [index, code] of ['INVALID_TOKEN', 'AUTHENTICATION_FAILURE'].entries()) {
  test(`401 ${code}: another token and one more try, which goes through`, async ({ zoho }) => {
    const { send, token } = connectClient(zoho);
    zoho.faults.next({ status: 401, body: index ? wrapped(code) : flat(code) }, { path: UPSERT_PATH });
    assert.ok(await send(write));
    assert.is(token.invalidated.length, 1);
    assert.is(crmCalls(zoho).length, 2);
  });

  test(`401 ${code} with the new token too: a configuration error`, async ({ zoho }) => {
    const { send, token } = connectClient(zoho);
    zoho.faults.on({ path: UPSERT_PATH }, { status: 401, body: flat(code) });
    const failure = await failureOf(send(write));
    assert.equal([failure.kind, failure.code, failure.mayBeDone], ['configuration', 'zoho_invalid_token', false]);
    assert.is(token.invalidated.length, 1);
    assert.is(crmCalls(zoho).length, 2);
    assert.is((await failureOf(send(write))).code, 'zoho_invalid_token');
    assert.is(token.invalidated.length, 1, 'a further try costs none of the few tokens that Zoho gives');
    assert.is(crmCalls(zoho).length, 3);
    zoho.faults.clear();
    assert.ok(await send(write), 'it is how the return of Zoho is found');
  });
}

test.run();
