import { OutageError, TerminalError } from '../../../src/lib/errors.js';
import { makeZohoClient, type ZohoCall, type ZohoClient } from '../../../src/lib/providers/zoho/client.js';
import type { FieldMetadata } from '../../../src/lib/providers/zoho/crm.js';
import { readFields } from '../../../src/lib/providers/zoho/fields.js';
import { rowsOf } from '../../../src/lib/providers/zoho/lookup.js';
import { API_PATH } from '../../../src/lib/providers/zoho/requests.js';
import { makeZohoToken } from '../../../src/lib/providers/zoho/token.js';
import {
  CALL_TIMEOUT_MS,
  type Check,
  type DoctorContext,
  describeFailure,
  type Found,
  type Level,
  ok,
  problem,
  warning,
} from './check.js';
import { inspectFields } from './zoho-fields.js';

/** Token, scopes and field map, live. It reads and never writes: whether it may write shows at the first write. */
export const zoho: Check = {
  name: 'zoho',
  needsRedis: true,
  async run(context, signal) {
    const { zoho: settings, dryRun } = context.config;
    if (settings.credentials === undefined) {
      return [missingCredentials(dryRun), ...inspectFields(settings.fieldMap, undefined)];
    }
    const { client, token } = connect(context, settings.credentials);
    try {
      await token.get(signal);
      const { found, metadata } = await probe(client, signal);
      const good = ok(`Zoho gives a token (data centre ${settings.dataCentre})`);
      return [good, ...found, ...inspectFields(settings.fieldMap, metadata)];
    } catch (error) {
      return [describeFailure(error), ...inspectFields(settings.fieldMap, undefined)];
    }
  },
};

function missingCredentials(dryRun: boolean): Found {
  const fix = 'set ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET and ZOHO_REFRESH_TOKEN (scripts/zoho_oauth_helper.md)';
  return dryRun
    ? warning('No Zoho credentials: a dry run takes each lead for a new one', fix)
    : problem('No Zoho credentials: what is for the CRM waits until they are set', fix);
}

type Credentials = NonNullable<DoctorContext['config']['zoho']['credentials']>;

function connect({ config, redis }: DoctorContext, credentials: Credentials) {
  const { accountsUrl, apiUrl, apiUrlIsFixed } = config.zoho;
  const token = makeZohoToken({
    ...{ redis, keyPrefix: config.keyPrefix, accountsUrl, apiUrl, apiUrlIsFixed, timeoutMs: CALL_TIMEOUT_MS },
    ...credentials,
  });
  return { token, client: makeZohoClient({ token, timeoutMs: CALL_TIMEOUT_MS }) };
}

type Probe = {
  scope: string;
  /** What does not work without it. */
  lost: string;
  level: Exclude<Level, 'ok'>;
  call: Pick<ZohoCall, 'path'> & Partial<ZohoCall>;
};

/** An address that nobody can have. */
const NOBODY = 'doctor@nobody.invalid';

const FIELDS: Probe = {
  scope: 'ZohoCRM.settings.fields.READ',
  lost: "the lengths and picklists of the fields are not known, and Zoho's standard ones are assumed",
  level: 'warning',
  call: { path: `${API_PATH}/settings/fields`, query: { module: 'Leads' } },
};
const LEADS: Probe = {
  scope: 'ZohoCRM.modules.leads.ALL',
  lost: 'no lead can be read or written',
  level: 'problem',
  call: { path: `${API_PATH}/Leads`, query: { fields: 'id', per_page: '1' } },
};
const COQL: Probe = {
  scope: 'ZohoCRM.coql.READ',
  lost: 'leads are found by search, which does not see a new one for some seconds',
  level: 'warning',
  call: {
    method: 'POST',
    path: `${API_PATH}/coql`,
    body: { select_query: `select id from Leads where (Email in ('${NOBODY}')) limit 1` },
  },
};
const SEARCH: Probe = {
  scope: 'ZohoSearch.securesearch.READ',
  lost: 'converted leads may not be found, nor any lead where COQL cannot be used',
  level: 'warning',
  call: { path: `${API_PATH}/Leads/search`, query: { email: NOBODY, fields: 'id' } },
};
/** Without a lead the id is made up: Zoho looks at the scope first. */
const notesOf = (leadId: string): Probe => ({
  scope: 'ZohoCRM.modules.notes.ALL',
  lost: 'no meeting summary can be written',
  level: 'problem',
  call: { path: `${API_PATH}/Leads/${leadId}/Notes`, query: { fields: 'id', per_page: '1' } },
});

/** One call after another: an organisation may allow as few as five at once, and the workers need them. */
async function probe(
  client: ZohoClient,
  signal: AbortSignal,
): Promise<{ found: Found[]; metadata: FieldMetadata[] | undefined }> {
  const fields = await ask(FIELDS, client, signal);
  const leads = await ask(LEADS, client, signal);
  const leadId = String(rowsOf(leads.answer)[0]?.id ?? '1');
  const rest = [];
  for (const each of [notesOf(leadId), COQL, SEARCH]) rest.push(await ask(each, client, signal));
  const missing = [fields, leads, ...rest].flatMap(({ found }) => found);
  return {
    found: missing.length > 0 ? missing : [ok('Every scope that can be tried without writing is there')],
    metadata: readFields(fields.answer),
  };
}

/** Throws what is not about this scope alone. A call that Zoho looked into and refused was allowed. */
async function ask(
  { scope, lost, level, call }: Probe,
  client: ZohoClient,
  signal: AbortSignal,
): Promise<{ answer: unknown; found: Found[] }> {
  try {
    const answer = await client.send({ method: 'GET', writes: false, isPerRecord: false, ...call }, signal);
    return { answer, found: [] };
  } catch (error) {
    if (error instanceof TerminalError) return { answer: undefined, found: [] };
    if (!(error instanceof OutageError) || !REFUSALS.has(error.code)) throw error;
    const isScope = error.code === 'zoho_oauth_scope_mismatch';
    const finding = isScope
      ? `The token lacks the scope ${scope}: ${lost}`
      : `The token's user may not do what ${scope} is for: ${lost}`;
    const fix = isScope
      ? 'make a new ZOHO_REFRESH_TOKEN with it (scripts/zoho_oauth_helper.md)'
      : "see the user's profile in Zoho CRM";
    return { answer: undefined, found: [{ level, finding, fix }] };
  }
}

const REFUSALS = new Set(['zoho_oauth_scope_mismatch', 'zoho_no_permission', 'zoho_authorization_failed']);
