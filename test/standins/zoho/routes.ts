/** The routes of CRM v8 that this service calls, over the store. */
import type { StandinReply, StandinRequest } from '../http.js';
import { CoqlError, type CoqlQuery, parseCoql } from './coql.js';
import { isModule, type Lead, type RecordReply, readField, type Store } from './store.js';

export type Scope = 'leads' | 'notes' | 'fields' | 'search' | 'coql';

export type Route = {
  scope: Scope;
  /** Credits that the call costs. */
  credits: number;
  run: () => StandinReply;
};

type Body = { data?: unknown; select_query?: unknown } | undefined;

export type RouteOptions = {
  /** `false`: `Converted__s` and its fellows are unknown to COQL, as in some organisations. */
  coqlKnowsConverted: boolean;
  /** COQL shows converted leads without being asked for them. */
  coqlShowsConverted: boolean;
};

const RECORDS_MAX = 100;
const ROWS_A_PAGE = 200;
const NO_CONTENT: StandinReply = { status: 204 };
const CONVERTED_FIELDS = ['Converted__s', 'Converted_Contact', 'Converted_Deal'];
const DOLLAR_FIELDS = ['$converted', '$converted_detail'];

/** `undefined` when there is no such route. */
export function findRoute(store: Store, request: StandinRequest, options: RouteOptions): Route | undefined {
  const parts = request.path.split('/').slice(1);
  if (parts[0] !== 'crm' || parts[1] !== 'v8') return undefined;
  const [first = '', second, third] = parts.slice(2);
  const body = request.body as Body;
  const route = (scope: Scope, run: () => StandinReply, credits = 1): Route => ({ scope, credits, run });
  const writeCredits = Math.ceil(recordsOf(body).length / 10) || 1;

  switch (`${request.method} ${parts.slice(2).map(nameOfPart).join('/')}`) {
    case 'POST Leads/upsert':
      return route('leads', () => eachRecord(body, store.upsertLead), writeCredits);
    case 'GET Leads/search':
      return route('search', () => search(store, request.query));
    case 'POST coql':
      return route('coql', () => coql(store, String(body?.select_query ?? ''), options));
    case 'GET Leads':
      return route('leads', () => readLeads(store, request.query));
    case 'GET Leads/{id}':
      return route('leads', () => leadRows(store, store.leads.has(second!) ? [store.leads.get(second!)!] : [], null));
    case 'POST Notes':
      return route('notes', () => eachRecord(body, (record, index) => createNote(store, record, index)), writeCredits);
    case 'PUT Notes':
      return route('notes', () => eachRecord(body, (record, index) => store.updateNote(record.id, record, index)));
    case 'PUT Notes/{id}':
      return route('notes', () => eachRecord(body, (record, index) => store.updateNote(second, record, index)));
    case 'GET settings/fields':
      return route('fields', () => metadata(store, request.query));
    default:
      if (!isModule(first) || third !== 'Notes' || parts.length !== 5) return undefined;
      if (request.method === 'GET') return route('notes', () => listNotes(store, first, second!, request.query));
      if (request.method !== 'POST') return undefined;
      return route('notes', () => eachRecord(body, (record, index) => store.createNote(first, second, record, index)));
  }
}

/** A request-level error in the flat envelope. */
export function flatError(status: number, code: string, message: string, details: object = {}): StandinReply {
  return { status, body: { code, details, message, status: 'error' } };
}

function nameOfPart(part: string): string {
  return /^\d+$/.test(part) ? '{id}' : part;
}

function recordsOf(body: Body): unknown[] {
  return Array.isArray(body?.data) ? body.data : [];
}

function eachRecord(body: Body, write: (record: Record<string, unknown>, index: number) => RecordReply): StandinReply {
  const records = recordsOf(body) as Record<string, unknown>[];
  if (records.length === 0) {
    return flatError(400, 'MANDATORY_NOT_FOUND', 'required field not found', { api_name: 'data', json_path: '$.data' });
  }
  if (records.length > RECORDS_MAX) {
    return flatError(400, 'INVALID_DATA', 'invalid data', {
      maximum_length: RECORDS_MAX,
      api_name: 'data',
      json_path: '$.data',
    });
  }
  const data = records.map(write);
  return { status: statusOf(data), body: { data } };
}

function statusOf(data: RecordReply[]): number {
  const failed = data.filter(({ status }) => status === 'error').length;
  if (failed > 0) return failed === data.length ? 400 : 207;
  return data.every(({ message }) => message === 'record added') ? 201 : 200;
}

function createNote(store: Store, record: Record<string, unknown>, index: number): RecordReply {
  const parent = record.Parent_Id as { module?: { api_name?: unknown }; id?: unknown } | undefined;
  return store.createNote(parent?.module?.api_name, parent?.id, record, index);
}

function search(store: Store, query: URLSearchParams): StandinReply {
  const email = query.get('email');
  const criteria = query.get('criteria');
  if (email === null && criteria === null) {
    return flatError(400, 'REQUIRED_PARAM_MISSING', 'One of the expected parameter is missing', { param: 'criteria' });
  }
  const wanted = criteria === null ? undefined : parseCriteria(criteria);
  if (criteria !== null && !wanted)
    return flatError(400, 'INVALID_QUERY', 'Invalid query formed', { reason: 'criteria' });
  const matches = wanted
    ? (lead: Lead) => wanted.some(([field, value]) => textOf(lead, field).includes(value.toLowerCase()))
    : (lead: Lead) => ['Email', 'Secondary_Email'].some((field) => textOf(lead, field) === email?.toLowerCase());
  const found = [...store.leads.values()].filter(
    (lead) => lead.indexedAtMs <= Date.now() && fitsConverted(lead, query.get('converted')) && matches(lead),
  );
  return leadRows(store, found, query.get('fields'));
}

/** `((Email:equals:a@x.example)or(Email:equals:b@x.example))`, at most ten; `equals` finds what contains it, as Zoho's does. */
function parseCriteria(criteria: string): [string, string][] | undefined {
  const parts = [...criteria.matchAll(/\((\w+):equals:((?:\\.|[^()\\])+)\)/g)];
  const bare = parts.map(([part]) => part).join('or');
  if (parts.length === 0 || parts.length > 10 || (criteria !== bare && criteria !== `(${bare})`)) return undefined;
  return parts.map(([, field, value]) => [field!, value!.replace(/\\(.)/g, '$1')]);
}

function fitsConverted(lead: Lead, converted: string | null): boolean {
  return converted === 'both' || (lead.converted !== undefined) === (converted === 'true');
}

function textOf(lead: Lead, field: string): string {
  return String(lead.fields[field] ?? '').toLowerCase();
}

function readLeads(store: Store, query: URLSearchParams): StandinReply {
  const fields = query.get('fields');
  if (fields === null) {
    return flatError(400, 'REQUIRED_PARAM_MISSING', 'One of the expected parameter is missing', { param: 'fields' });
  }
  const ids = query.get('ids')?.split(',') ?? [...store.leads.keys()];
  const leads = ids.flatMap((id) => store.leads.get(id) ?? []);
  return leadRows(store, leads, fields);
}

function leadRows(store: Store, leads: Lead[], fields: string | null): StandinReply {
  if (leads.length === 0) return NO_CONTENT;
  const names = ['id', ...(fields?.split(',') ?? store.fields.map(({ api_name }) => api_name))];
  const shown = leads.slice(0, ROWS_A_PAGE);
  const data = shown.map((lead) => {
    const values = names.flatMap((name) => {
      const value = readField(store.fields, lead, name.trim());
      return value === undefined ? [] : [[name.trim(), value]];
    });
    return Object.fromEntries([...values, ...dollarFields(lead, names, fields)]);
  });
  const info = { per_page: ROWS_A_PAGE, count: data.length, page: 1, more_records: leads.length > ROWS_A_PAGE };
  return { status: 200, body: { data, info } };
}

function dollarFields(lead: Lead, names: string[], fields: string | null): [string, unknown][] {
  if (fields !== null && !DOLLAR_FIELDS.some((name) => names.includes(name))) return [];
  const { converted } = lead;
  const detail = converted ? { contact: converted.contactId, deal: converted.dealId, account: null } : {};
  return [
    ['$converted', converted !== undefined],
    ['$converted_detail', detail],
  ];
}

function coql(store: Store, query: string, options: RouteOptions): StandinReply {
  try {
    return runCoql(store, parseCoql(query), options);
  } catch (error) {
    if (error instanceof CoqlError) return flatError(400, error.code, error.message);
    throw error;
  }
}

function runCoql(
  store: Store,
  query: CoqlQuery,
  { coqlKnowsConverted, coqlShowsConverted }: RouteOptions,
): StandinReply {
  const known = new Set(['id', ...store.fields.map(({ api_name }) => api_name)]);
  if (!coqlKnowsConverted) for (const name of CONVERTED_FIELDS) known.delete(name);
  const unknown = query.mentioned.find((name) => !known.has(name));
  if (query.module !== 'Leads')
    return flatError(400, 'INVALID_QUERY', 'invalid query formed', { module: query.module });
  if (unknown) {
    const details = { column_name: unknown, reason: 'column given seems to be invalid' };
    return flatError(400, 'INVALID_QUERY', 'invalid query formed', details);
  }
  const found = [...store.leads.values()]
    .filter((lead) => coqlShowsConverted || query.asksForConverted || !lead.converted)
    .filter((lead) => query.matches((column) => readField(store.fields, lead, column)));
  const rows = found.slice(0, query.limit);
  if (rows.length === 0) return NO_CONTENT;
  const columns = [...new Set([...query.columns, 'id'])];
  const data = rows.map((lead) =>
    Object.fromEntries(columns.map((name) => [name, readField(store.fields, lead, name)])),
  );
  return { status: 200, body: { data, info: { count: rows.length, more_records: found.length > rows.length } } };
}

function listNotes(store: Store, module: string, parentId: string, query: URLSearchParams): StandinReply {
  const fields = query.get('fields')?.split(',');
  if (!fields)
    return flatError(400, 'REQUIRED_PARAM_MISSING', 'One of the expected parameter is missing', { param: 'fields' });
  if (!isModule(module) || !store.hasRecord(module, parentId)) {
    return flatError(400, 'INVALID_DATA', 'the related id given seems to be invalid', { resource_path_index: 1 });
  }
  const perPage = Math.min(Number(query.get('per_page') ?? ROWS_A_PAGE), ROWS_A_PAGE);
  const page = Number(query.get('page') ?? 1);
  const all = [...store.notes.values()]
    .filter((note) => note.module === module && note.parentId === parentId)
    .reverse();
  const rows = all.slice((page - 1) * perPage, page * perPage);
  if (rows.length === 0) return NO_CONTENT;
  const data = rows.map((note) => {
    const values: Record<string, unknown> = {
      Note_Title: note.title,
      Note_Content: note.content,
      Created_Time: note.createdTime,
      Modified_Time: note.modifiedTime,
    };
    return {
      id: note.id,
      ...Object.fromEntries(fields.filter((name) => name in values).map((name) => [name, values[name]])),
    };
  });
  const info = { per_page: perPage, count: data.length, page, more_records: all.length > page * perPage };
  return { status: 200, body: { data, info } };
}

function metadata(store: Store, query: URLSearchParams): StandinReply {
  if (query.get('module') !== 'Leads')
    return flatError(400, 'INVALID_MODULE', 'The module name given seems to be invalid');
  return { status: 200, body: { fields: store.fields } };
}
