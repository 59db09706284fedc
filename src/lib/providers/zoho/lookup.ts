/**
 * Finds leads by address. COQL is asked first, as search does not see a lead until it is indexed ("Search Records", v8:
 * use COQL for what was just written). Where the organisation or the token does not let COQL answer, search does.
 *
 * COQL leaves converted leads out unless the query asks for `Converted__s = true`; in some organisations it does not know
 * that column (INVALID_QUERY), and then may show them all the same. The vendor documents neither, public code shows both.
 * So every row tells whether it is converted, and addresses without a row are asked for again among the converted.
 */
import { OutageError, TerminalError } from '../../errors.js';
import type { ZohoCall, ZohoClient } from './client.js';
import { API_PATH } from './requests.js';

/** A lead as the CRM has it. */
export type FoundLead = {
  id: string;
  /** Lower case. */
  email: string;
  /** What was asked for, by API name; `null` where a field is empty. */
  fields: Record<string, unknown>;
  modifiedTime?: string;
  /** The lead was converted, and to what. It can't be written any more. */
  converted?: { contactId?: string; dealId?: string };
};

export type Row = Record<string, unknown>;

/** `fields`: one query. `ids`: a column was unknown to COQL, so it gives ids and the records are read by id. */
type Mode = 'fields' | 'ids' | 'search';

/** Version 8 takes 100 values in a list, older ones 50. */
const IN_VALUES_MAX = 50;
/** Search takes ten criteria. */
const CRITERIA_MAX = 10;
/** Up to 200 rows cost one credit. */
const ROWS_MAX = 200;

const CONVERTED_COLUMNS = ['Converted__s', 'Converted_Contact', 'Converted_Deal'];
const REFUSED_QUERIES = new Set([
  'zoho_invalid_query',
  'zoho_syntax_error',
  'zoho_invalid_data',
  'zoho_limit_exceeded',
]);
const NO_COQL = new Set([
  'zoho_oauth_scope_mismatch',
  'zoho_invalid_url_pattern',
  'zoho_no_permission',
  // A gateway in front of Zoho that lets only some paths through.
  'zoho_http_404',
  'zoho_http_405',
]);

/** `beforeSend` is called right before each request goes out, when all waiting is over; what it throws ends the call. */
export type SendOptions = { signal: AbortSignal; beforeSend?: () => void };

export type LeadLookup = ReturnType<typeof makeLeadLookup>;

export function makeLeadLookup(client: ZohoClient) {
  let mode: Mode = 'fields';
  let isConvertedUnknownToCoql = false;

  const send = (call: ZohoCall, { signal, beforeSend }: SendOptions) =>
    client.send({ ...call, ...(beforeSend && { beforeSend }) }, signal);

  async function findLeads(
    emails: readonly string[],
    fields: readonly string[],
    options: SendOptions,
  ): Promise<FoundLead[]> {
    const wanted = [...new Set(emails.map((email) => email.toLowerCase()))];
    const { rows, byCoql } = await findOpen(wanted, fields, options);
    const found = onePerEmail(rows, wanted, fields);
    const missing = wanted.filter((email) => !found.some((lead) => lead.email === email));
    const converted = await findConverted(missing, fields, byCoql, options);
    // They were asked for as converted; the rows of search need not say it.
    const marked = converted.map((row) => ({ ...row, Converted__s: true }));
    return [...found, ...onePerEmail(marked, missing, fields)];
  }

  async function findOpen(
    emails: readonly string[],
    fields: readonly string[],
    options: SendOptions,
  ): Promise<{ rows: Row[]; byCoql: boolean }> {
    if (mode === 'fields') {
      const rows = await tryCoql(() => queryByEmail(emails, [...fields, ...CONVERTED_COLUMNS], '', options));
      if (rows) return { rows, byCoql: true };
    }
    if (mode !== 'search') {
      const rows = await tryCoql(() => queryByEmail(emails, [], '', options));
      // A column was at fault and no odd address: so it will be the next time.
      if (rows) mode = 'ids';
      if (rows) return { rows: await readByIds(rows.map(idOf), fields, options), byCoql: true };
    }
    return { rows: await search(emails, fields, 'false', options), byCoql: false };
  }

  async function findConverted(
    emails: readonly string[],
    fields: readonly string[],
    byCoql: boolean,
    options: SendOptions,
  ): Promise<Row[]> {
    if (emails.length === 0) return [];
    if (byCoql && !isConvertedUnknownToCoql) {
      const columns = [...(mode === 'ids' ? [] : fields), ...CONVERTED_COLUMNS];
      const rows = await tryCoql(() => queryByEmail(emails, columns, ' and Converted__s = true', options));
      if (rows) return mode === 'ids' ? readByIds(rows.map(idOf), fields, options) : rows;
      isConvertedUnknownToCoql = true;
    }
    return search(emails, [...fields, ...CONVERTED_COLUMNS], 'true', options);
  }

  /** `undefined` when COQL can't answer. What the token or the address forbids is not tried again by this process. */
  async function tryCoql(query: () => Promise<Row[]>): Promise<Row[] | undefined> {
    try {
      return await query();
    } catch (error) {
      if (error instanceof TerminalError && REFUSED_QUERIES.has(error.code)) return undefined;
      if (!(error instanceof OutageError) || !NO_COQL.has(error.code)) throw error;
      mode = 'search';
      return undefined;
    }
  }

  async function queryByEmail(
    emails: readonly string[],
    fields: readonly string[],
    and: string,
    options: SendOptions,
  ): Promise<Row[]> {
    const columns = columnsOf(fields).join(', ');
    return inChunks(emails, IN_VALUES_MAX, (chunk) => {
      const list = chunk.map((email) => `'${email.replaceAll("'", "''")}'`).join(', ');
      const select_query = `select ${columns} from Leads where (Email in (${list})${and}) limit ${ROWS_MAX}`;
      return send(
        { method: 'POST', path: `${API_PATH}/coql`, body: { select_query }, writes: false, isPerRecord: false },
        options,
      );
    });
  }

  /** An address that search will not take is one that Zoho has no lead for. */
  async function search(
    emails: readonly string[],
    fields: readonly string[],
    converted: 'true' | 'false',
    options: SendOptions,
  ): Promise<Row[]> {
    const common = { converted, fields: columnsOf(fields).join(',') };
    const ask = (query: Record<string, string>) =>
      send({ method: 'GET', path: `${API_PATH}/Leads/search`, query: { ...query, ...common }, ...READ }, options);
    const unlessRefused = async (query: Record<string, string>): Promise<unknown> => {
      try {
        return await ask(query);
      } catch (error) {
        if (error instanceof TerminalError && REFUSED_QUERIES.has(error.code)) return 'refused';
        throw error;
      }
    };
    return inChunks(emails, CRITERIA_MAX, async (chunk) => {
      const answer = chunk.length > 1 ? await unlessRefused({ criteria: criteriaOf(chunk) }) : 'refused';
      if (answer !== 'refused') return answer;
      const rows = await inChunks(chunk, 1, ([email = '']) => unlessRefused({ email }));
      return { data: rows };
    });
  }

  async function readByIds(ids: readonly string[], fields: readonly string[], options: SendOptions): Promise<Row[]> {
    const columns = columnsOf([...fields, ...CONVERTED_COLUMNS]).join(',');
    return inChunks(ids, 100, (chunk) => {
      const query = { ids: chunk.join(','), fields: columns, converted: 'both' };
      return send({ method: 'GET', path: `${API_PATH}/Leads`, query, ...READ }, options);
    });
  }

  return {
    findLeads,
    async readLeads(ids: readonly string[], fields: readonly string[], options: SendOptions): Promise<FoundLead[]> {
      const rows = await readByIds([...new Set(ids)], fields, options);
      return rows.map((row) => toLead(row, fields));
    },
    usesSearchFallback: () => mode === 'search',
  };
}

const READ = { writes: false, isPerRecord: false } as const;

async function inChunks<T>(
  items: readonly T[],
  sizeMax: number,
  ask: (chunk: readonly T[]) => Promise<unknown>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (let start = 0; start < items.length; start += sizeMax)
    rows.push(...(await askWhole(items.slice(start, start + sizeMax), ask)));
  return rows;
}

/** A full answer may have left an address out altogether, whose lead would then be taken for a new one. */
async function askWhole<T>(chunk: readonly T[], ask: (chunk: readonly T[]) => Promise<unknown>): Promise<Row[]> {
  const rows = rowsOf(await ask(chunk));
  if (rows.length < ROWS_MAX || chunk.length === 1) return rows;
  const middle = Math.ceil(chunk.length / 2);
  return [...(await askWhole(chunk.slice(0, middle), ask)), ...(await askWhole(chunk.slice(middle), ask))];
}

/** The records of an answer; none where there was no content. */
export function rowsOf(body: unknown): Row[] {
  const data = (body as { data?: unknown } | undefined)?.data;
  if (!Array.isArray(data)) return [];
  return data.filter((row: unknown): row is Row => typeof (row as Row | null)?.id === 'string');
}

/**
 * Equality is judged here: search also finds by Secondary_Email, and its `equals` finds what contains the address. Of
 * duplicates an open one counts before a converted one, then the oldest, ids growing with time.
 */
function onePerEmail(rows: readonly Row[], emails: readonly string[], fields: readonly string[]): FoundLead[] {
  const oldestFirst = [...rows].sort((a, b) => compareIds(idOf(a), idOf(b)));
  return emails.flatMap((email) => {
    const same = oldestFirst.filter((candidate) => emailOf(candidate) === email);
    const row = same.find((candidate) => !isConverted(candidate)) ?? same[0];
    return row ? [toLead(row, fields)] : [];
  });
}

function toLead(row: Row, fields: readonly string[]): FoundLead {
  const { Modified_Time: modifiedTime } = row;
  return {
    id: idOf(row),
    email: emailOf(row),
    fields: Object.fromEntries(['Email', ...fields].filter((name) => name in row).map((name) => [name, row[name]])),
    ...(typeof modifiedTime === 'string' && { modifiedTime }),
    ...(isConverted(row) && { converted: conversionOf(row) }),
  };
}

/** Where a lead went stands in look-up fields, or in `$converted_detail` ("Search Records", v8). */
function conversionOf(row: Row): { contactId?: string; dealId?: string } {
  const detail = (row.$converted_detail ?? {}) as Row;
  const contactId = lookupId(row.Converted_Contact) ?? lookupId(detail.contact);
  const dealId = lookupId(row.Converted_Deal) ?? lookupId(detail.deal);
  return { ...(contactId !== undefined && { contactId }), ...(dealId !== undefined && { dealId }) };
}

function isConverted(row: Row): boolean {
  return row.Converted__s === true || row.$converted === true || Object.keys(conversionOf(row)).length > 0;
}

function lookupId(value: unknown): string | undefined {
  const id = typeof value === 'object' && value !== null ? (value as Row).id : value;
  return typeof id === 'string' && id !== '' ? id : undefined;
}

function idOf(row: Row): string {
  return String(row.id);
}

/** Ids are digits, and more of them than a number can hold. */
function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : 1);
}

function emailOf(row: Row): string {
  return String(row.Email ?? '').toLowerCase();
}

/** Names from the settings go into a query: only what can be an API name does. */
function columnsOf(fields: readonly string[]): string[] {
  return [...new Set(['id', 'Email', 'Modified_Time', ...fields.filter((name) => /^[A-Za-z]\w*$/.test(name))])];
}

/** Brackets, commas and backslashes in a value are escaped ("Search Records", v8). */
function criteriaOf(emails: readonly string[]): string {
  return `(${emails.map((email) => `(Email:equals:${email.replace(/[\\(),]/g, '\\$&')})`).join('or')})`;
}
