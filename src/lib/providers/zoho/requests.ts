/**
 * The requests that write, as they are sent. Pure, so that a dry run shows exactly them. Sources: zoho.com/crm/developer
 * "Upsert Records", "Create Notes" and "Update Notes", v8.
 */

/** `url` is what follows the API's host. */
export type WriteRequest<Body = { data: Record<string, unknown>[] }> = {
  method: 'POST' | 'PUT';
  url: string;
  body: Body;
};

/** What Zoho runs after a write: `workflow`, `approval`, `blueprint`. Left out, it runs all; an empty list, none. */
export type Trigger = 'workflow' | 'approval' | 'blueprint';

export type NewNote = {
  module: 'Leads' | 'Contacts' | 'Deals';
  /** `null` only in a dry run, where the lead does not exist yet. */
  parentId: string | null;
  title: string;
  content: string;
};

export type ChangedNote = { id: string; title: string; content: string };

/** A call takes this many records. */
export const RECORDS_MAX = 100;

export const API_PATH = '/crm/v8';

type UpsertBody = { data: Record<string, unknown>[]; duplicate_check_fields: ['Email']; trigger?: Trigger[] };

/**
 * A record with an `id` is that lead. One without is told apart by Email, and after that by every field that the organisation
 * has made unique, whether it is asked for or not. Only the fields that a record names are written.
 */
export function buildUpsertRequest(
  records: readonly Record<string, unknown>[],
  trigger?: readonly Trigger[],
): WriteRequest<UpsertBody> {
  const body: UpsertBody = { data: [...records], duplicate_check_fields: ['Email'] };
  if (trigger) body.trigger = [...trigger];
  return { method: 'POST', url: `${API_PATH}/Leads/upsert`, body };
}

/** Zoho adds a note at every call: look for the note before a second try. */
export function buildCreateNotesRequest(notes: readonly NewNote[]): WriteRequest {
  const data = notes.map(({ module, parentId, title, content }) => ({
    Note_Title: title,
    Note_Content: content,
    Parent_Id: { module: { api_name: module }, id: parentId },
  }));
  return { method: 'POST', url: `${API_PATH}/Notes`, body: { data } };
}

export function buildUpdateNotesRequest(notes: readonly ChangedNote[]): WriteRequest {
  const data = notes.map(({ id, title, content }) => ({ id, Note_Title: title, Note_Content: content }));
  return { method: 'PUT', url: `${API_PATH}/Notes`, body: { data } };
}
