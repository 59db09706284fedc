/**
 * Zoho CRM in our verbs: find, read and write leads, and write and list their notes. It never retries; how many calls run at
 * once is the gate's business. Every verb throws `OutageError`,
 * `RetryableError` or `TerminalError` for the call as a whole; what became of single records is in the results.
 */
import { NotYetError, OutageError } from '../../errors.js';
import type { Gate } from '../../provider-gate.js';
import type { RedisClient } from '../../redis.js';
import { makeZohoClient, type ZohoCall, type ZohoClient } from './client.js';
import { type FieldMetadata, readFields } from './fields.js';
import { type FoundLead, makeLeadLookup, rowsOf, type SendOptions } from './lookup.js';
import {
  API_PATH,
  buildCreateNotesRequest,
  buildUpdateNotesRequest,
  buildUpsertRequest,
  type ChangedNote,
  type NewNote,
  RECORDS_MAX,
  type Trigger,
  type WriteRequest,
} from './requests.js';
import { type RecordResult, readResults } from './results.js';
import { makeZohoToken } from './token.js';

export type { FieldMetadata } from './fields.js';
export type { FoundLead } from './lookup.js';
export { buildCreateNotesRequest, buildUpdateNotesRequest, buildUpsertRequest } from './requests.js';
export type { RecordResult } from './results.js';

type Options = { signal: AbortSignal };

type WriteOptions = SendOptions & Pick<ZohoCall, 'sendBy'>;

export type Zoho = {
  /** One look-up for all addresses: at most one lead for each, an open one before a converted one. */
  findLeads: (emails: readonly string[], fields: readonly string[], options: SendOptions) => Promise<FoundLead[]>;
  /** By id, which finds a lead that was created a moment ago; deleted ones are missing from the answer. */
  readLeads: (ids: readonly string[], fields: readonly string[], options: SendOptions) => Promise<FoundLead[]>;
  /** One call for at most 100 leads, see `buildUpsertRequest`; the results are in the order of the records. */
  upsertLeads: (records: readonly Record<string, unknown>[], options: WriteOptions) => Promise<RecordResult[]>;
  /** One call for at most 100 notes. Zoho adds them again at every call. */
  createNotes: (notes: readonly NewNote[], options: WriteOptions) => Promise<RecordResult[]>;
  updateNotes: (notes: readonly ChangedNote[], options: WriteOptions) => Promise<RecordResult[]>;
  /** The newest, at most `NOTES_LISTED_MAX`. */
  listNotes: (module: NewNote['module'], parentId: string, options: Options) => Promise<ChangedNote[]>;
  /** `undefined` when Zoho will not tell: a lead must never fail for want of it. Throws where it can't tell just now. */
  leadFields: (options: Options) => Promise<FieldMetadata[] | undefined>;
  /** COQL can't be used here: leads are found by search, which does not see a new one for some seconds. */
  usesSearchFallback: () => boolean;
};

export type ZohoOptions = {
  redis: RedisClient;
  keyPrefix: string;
  accountsUrl: string;
  apiUrl: string;
  /** `apiUrl` was set by hand: the token reply's `api_domain` does not count. */
  apiUrlIsFixed: boolean;
  clientId: string;
  clientSecret: string;
  refreshToken: string;
  timeoutMs: number;
  gate?: Gate | undefined;
  /** What Zoho runs after a write [all]. */
  trigger?: readonly Trigger[];
};

const NOTES_PER_PAGE = 200;
const NOTE_PAGES_MAX = 10;
export const NOTES_LISTED_MAX = NOTES_PER_PAGE * NOTE_PAGES_MAX;

export function makeZoho(options: ZohoOptions): Zoho {
  const { timeoutMs, gate } = options;
  const client = makeZohoClient({ token: makeZohoToken(options), timeoutMs, gate });
  const lookup = makeLeadLookup(client);
  return {
    findLeads: lookup.findLeads,
    readLeads: lookup.readLeads,
    upsertLeads: (records, given) => write(client, buildUpsertRequest(records, options.trigger), given),
    createNotes: (notes, given) => write(client, buildCreateNotesRequest(notes), given),
    updateNotes: (notes, given) => write(client, buildUpdateNotesRequest(notes), given),
    listNotes: (module, parentId, { signal }) => listNotes(client, `${API_PATH}/${module}/${parentId}/Notes`, signal),
    leadFields: ({ signal }) => leadFields(client, signal),
    usesSearchFallback: lookup.usesSearchFallback,
  };
}

async function write(
  { send }: ZohoClient,
  { method, url, body }: WriteRequest,
  { signal, ...given }: WriteOptions,
): Promise<RecordResult[]> {
  const count = body.data.length;
  if (count === 0) return [];
  if (count > RECORDS_MAX) throw new RangeError(`Zoho takes ${RECORDS_MAX} records a call, not ${count}`);
  const call = { method, path: url, body, writes: true, isPerRecord: true, ...given };
  return readResults(await send(call, signal), count);
}

async function listNotes({ send }: ZohoClient, path: string, signal: AbortSignal): Promise<ChangedNote[]> {
  const notes: ChangedNote[] = [];
  for (let page = 1; page <= NOTE_PAGES_MAX; page += 1) {
    const query = { fields: 'Note_Title,Note_Content', per_page: String(NOTES_PER_PAGE), page: String(page) };
    const body = await send({ method: 'GET', path, query, writes: false, isPerRecord: false }, signal);
    for (const { id, Note_Title: title, Note_Content: content } of rowsOf(body)) {
      notes.push({ id: String(id), title: String(title ?? ''), content: String(content ?? '') });
    }
    const { info } = (body ?? {}) as { info?: { more_records?: boolean } };
    if (info?.more_records !== true) break;
  }
  return notes;
}

async function leadFields({ send }: ZohoClient, signal: AbortSignal): Promise<FieldMetadata[] | undefined> {
  const path = `${API_PATH}/settings/fields`;
  try {
    return readFields(
      await send({ method: 'GET', path, query: { module: 'Leads' }, writes: false, isPerRecord: false }, signal),
    );
  } catch (error) {
    signal.throwIfAborted();
    const isForNow = error instanceof NotYetError || (error instanceof OutageError && error.kind === 'outage');
    if (isForNow) throw error;
    return undefined;
  }
}
