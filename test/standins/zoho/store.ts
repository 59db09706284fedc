/** Leads, notes, contacts and deals of one imaginary organisation, in memory. */
import { checkRecord, type Field, type FieldError } from './fields.js';

export type Module = 'Leads' | 'Contacts' | 'Deals';

export type Lead = {
  id: string;
  fields: Record<string, unknown>;
  createdTime: string;
  modifiedTime: string;
  converted?: { contactId: string; dealId: string };
  /** Search sees it from then on, in milliseconds since 1970. */
  indexedAtMs: number;
};

export type Note = {
  id: string;
  module: Module;
  parentId: string;
  title: string;
  content: string;
  createdTime: string;
  modifiedTime: string;
};

/** One entry of a reply's `data`. */
export type RecordReply = {
  status: 'success' | 'error';
  code: string;
  message: string;
  details: Record<string, unknown>;
  action?: 'insert' | 'update';
  duplicate_field?: string | null;
};

export type Store = ReturnType<typeof makeStore>;

const NOTE_TITLE_MAX = 120;
const NOTE_CONTENT_MAX = 65_535;
const USER = { name: 'Sam Standin', id: '572576700000411001' };

/**
 * `indexLagMs` is how long search does not see a new lead, `'manual'` until `flushIndex`; `upsertTakes` which of several open
 * leads of one address an upsert writes.
 */
export function makeStore(
  fields: readonly Field[],
  { indexLagMs, upsertTakes }: { indexLagMs: number | 'manual'; upsertTakes: 'oldest' | 'newest' },
) {
  const leads = new Map<string, Lead>();
  /** Ids by address in lower case. */
  const idsByEmail = new Map<string, Set<string>>();
  const notes = new Map<string, Note>();
  const others: Record<'Contacts' | 'Deals', Set<string>> = { Contacts: new Set(), Deals: new Set() };
  let lastId = 572_576_700_000_142_000n;

  const nextId = () => String(++lastId);
  const writable = new Set(fields.map(({ api_name }) => api_name));
  /** Of those an upsert asks after Email. */
  const uniqueFields = fields
    .filter(({ unique }) => unique.casesensitive !== undefined)
    .map(({ api_name }) => api_name);

  function insertLead(record: Record<string, unknown>): Lead {
    const now = zohoTime();
    const indexedAtMs = indexLagMs === 'manual' ? Number.POSITIVE_INFINITY : Date.now() + indexLagMs;
    const lead: Lead = { id: nextId(), fields: {}, createdTime: now, modifiedTime: now, indexedAtMs };
    leads.set(lead.id, lead);
    return assign(lead, record);
  }

  /** Unknown fields are ignored in silence, as Zoho does; `null` clears. */
  function assign(lead: Lead, record: Record<string, unknown>): Lead {
    const before = emailOf(lead);
    for (const [name, value] of Object.entries(record)) {
      if (!writable.has(name)) continue;
      if (value === null || value === '') delete lead.fields[name];
      else lead.fields[name] = value;
    }
    if (emailOf(lead) !== before) noteEmail(lead, before);
    lead.modifiedTime = zohoTime();
    return lead;
  }

  function noteEmail(lead: Lead, before: string): void {
    idsByEmail.get(before)?.delete(lead.id);
    const same = idsByEmail.get(emailOf(lead)) ?? new Set();
    idsByEmail.set(emailOf(lead), same.add(lead.id));
  }

  function openLeadByEmail(email: unknown): Lead | undefined {
    if (typeof email !== 'string') return undefined;
    const ids = [...(idsByEmail.get(email.toLowerCase()) ?? [])];
    const open = ids.map((id) => leads.get(id)!).filter((lead) => !lead.converted);
    return open.at(upsertTakes === 'oldest' ? 0 : -1);
  }

  /** By Email, else by whatever unique field of the record another lead has the value of. */
  function findDuplicate(record: Record<string, unknown>): { lead: Lead; field: string } | undefined {
    const byEmail = openLeadByEmail(record.Email);
    if (byEmail) return { lead: byEmail, field: 'Email' };
    return uniqueFields
      .map((field) => ({ lead: holderOf(field, record[field]), field }))
      .find((found): found is { lead: Lead; field: string } => found.lead !== undefined);
  }

  function holderOf(field: string, value: unknown, except?: Lead): Lead | undefined {
    if (value === undefined || value === null || value === '') return undefined;
    const wanted = String(value).toLowerCase();
    return [...leads.values()].find(
      (lead) => lead !== except && !lead.converted && String(lead.fields[field] ?? '').toLowerCase() === wanted,
    );
  }

  /**
   * By id if given, else by Email among leads that are not converted, a converted one gets a twin; else by a unique field,
   * whosever the lead is that has its value.
   */
  function upsertLead(record: Record<string, unknown>, index: number): RecordReply {
    const { id } = record;
    const byId = typeof id === 'string' ? leads.get(id) : undefined;
    if (id !== undefined && !byId) {
      return refused('INVALID_DATA', 'the id given seems to be invalid', {
        api_name: 'id',
        json_path: `$.data[${index}].id`,
      });
    }
    if (byId?.converted) return refused('INVALID_DATA', "can't update the converted record", { id: byId.id });
    const duplicate = byId ? undefined : findDuplicate(record);
    const existing = byId ?? duplicate?.lead;
    const faults = [
      ...checkRecord(fields, record, { index, isNew: !existing }),
      ...checkUnique(record, index, existing),
    ];
    if (faults.length > 0) return refusedFields(faults);
    const lead = existing ? assign(existing, record) : insertLead(record);
    return {
      code: 'SUCCESS',
      duplicate_field: duplicate?.field ?? null,
      action: existing ? 'update' : 'insert',
      details: stamps(lead),
      message: existing ? 'record updated' : 'record added',
      status: 'success',
    };
  }

  /** What would make a second lead with the same value of a unique field. */
  function checkUnique(record: Record<string, unknown>, index: number, own: Lead | undefined): FieldError[] {
    return uniqueFields.flatMap((name) => {
      const holder = holderOf(name, record[name], own);
      if (!holder) return [];
      const place = { api_name: name, json_path: `$.data[${index}].${name}` };
      const duplicate_record = { id: holder.id, Owner: USER, module: { api_name: 'Leads' } };
      return [{ code: 'DUPLICATE_DATA', message: 'duplicate data', details: { ...place, duplicate_record } }];
    });
  }

  function createNote(module: unknown, parentId: unknown, record: Record<string, unknown>, index: number): RecordReply {
    if (!isModule(module) || typeof parentId !== 'string' || !hasRecord(module, parentId)) {
      const place = { api_name: 'Parent_Id', json_path: `$.data[${index}].Parent_Id` };
      return refused('INVALID_DATA', 'the related id given seems to be invalid', place);
    }
    const fault = checkNote(record, index, true);
    if (fault) return fault;
    const now = zohoTime();
    const note: Note = {
      id: nextId(),
      module,
      parentId,
      title: String(record.Note_Title ?? ''),
      content: String(record.Note_Content),
      createdTime: now,
      modifiedTime: now,
    };
    notes.set(note.id, note);
    return { code: 'SUCCESS', details: stamps(note), message: 'record added', status: 'success' };
  }

  function updateNote(id: unknown, record: Record<string, unknown>, index: number): RecordReply {
    const note = notes.get(String(id));
    if (!note) {
      return refused('INVALID_DATA', 'the id given seems to be invalid', {
        api_name: 'id',
        json_path: `$.data[${index}].id`,
      });
    }
    const fault = checkNote(record, index, false);
    if (fault) return fault;
    if (record.Note_Title !== undefined) note.title = String(record.Note_Title ?? '');
    if (record.Note_Content !== undefined) note.content = String(record.Note_Content);
    note.modifiedTime = zohoTime();
    return { code: 'SUCCESS', details: stamps(note), message: 'record updated', status: 'success' };
  }

  function convertLead(id: string): { contactId: string; dealId: string } {
    const lead = leads.get(id);
    if (!lead) throw new Error(`stand-in: no lead ${id}`);
    lead.converted = { contactId: nextId(), dealId: nextId() };
    others.Contacts.add(lead.converted.contactId);
    others.Deals.add(lead.converted.dealId);
    lead.modifiedTime = zohoTime();
    return lead.converted;
  }

  const hasRecord = (module: Module, id: string) => (module === 'Leads' ? leads.has(id) : others[module].has(id));

  return {
    fields,
    leads,
    notes,
    hasRecord,
    upsertLead,
    createNote,
    updateNote,
    convertLead,
    /** Puts a lead there as it is, found by search at once. */
    seedLead: (record: Record<string, unknown>): Lead => Object.assign(insertLead(record), { indexedAtMs: 0 }),
    /** Changes a lead as a person would on the screen; `null` clears a field. */
    editLead(id: string, record: Record<string, unknown>): Lead {
      const lead = leads.get(id);
      if (!lead) throw new Error(`stand-in: no lead ${id}`);
      return assign(lead, record);
    },
    deleteLead(id: string): void {
      const lead = leads.get(id);
      if (lead !== undefined) idsByEmail.get(emailOf(lead))?.delete(id);
      leads.delete(id);
      for (const note of [...notes.values()]) if (note.parentId === id) notes.delete(note.id);
    },
    flushIndex(): void {
      for (const lead of leads.values()) lead.indexedAtMs = 0;
    },
  };
}

function emailOf({ fields }: Lead): string {
  return String(fields.Email ?? '').toLowerCase();
}

/** A field's value as Zoho shows it: `null` where it is empty, `undefined` where the organisation has no such field. */
export function readField(fields: readonly Field[], lead: Lead, name: string): unknown {
  if (name === 'id') return lead.id;
  if (name === 'Created_Time') return lead.createdTime;
  if (name === 'Modified_Time') return lead.modifiedTime;
  if (name === 'Converted__s') return lead.converted !== undefined;
  if (name === 'Full_Name') return [lead.fields.First_Name, lead.fields.Last_Name].filter(Boolean).join(' ');
  if (name === 'Converted_Contact') return lead.converted ? { id: lead.converted.contactId } : null;
  if (name === 'Converted_Deal') return lead.converted ? { id: lead.converted.dealId } : null;
  if (!fields.some(({ api_name }) => api_name === name)) return undefined;
  return lead.fields[name] ?? null;
}

export function isModule(name: unknown): name is Module {
  return name === 'Leads' || name === 'Contacts' || name === 'Deals';
}

function checkNote(record: Record<string, unknown>, index: number, isNew: boolean): RecordReply | undefined {
  const place = (name: string) => ({ api_name: name, json_path: `$.data[${index}].${name}` });
  const { Note_Title: title, Note_Content: content } = record;
  if (isNew && (content === undefined || content === null || content === '')) {
    return refused('MANDATORY_NOT_FOUND', 'required field not found', place('Note_Content'));
  }
  if ([...String(title ?? '')].length > NOTE_TITLE_MAX) {
    return refused('INVALID_DATA', 'invalid data', { maximum_length: NOTE_TITLE_MAX, ...place('Note_Title') });
  }
  if ([...String(content ?? '')].length > NOTE_CONTENT_MAX) {
    return refused('INVALID_DATA', 'invalid data', { maximum_length: NOTE_CONTENT_MAX, ...place('Note_Content') });
  }
  return undefined;
}

function refused(code: string, message: string, details: Record<string, unknown>): RecordReply {
  return { code, details, message, status: 'error' };
}

function refusedFields(faults: readonly FieldError[]): RecordReply {
  const errors = faults.map(({ code, message, details }) => refused(code, message, details));
  if (errors.length === 1) return errors[0]!;
  return refused('MULTIPLE_OR_MULTI_ERRORS', 'multiple or multi errors have occurred', { errors });
}

function stamps({ id, createdTime, modifiedTime }: Lead | Note): Record<string, unknown> {
  return { Modified_Time: modifiedTime, Modified_By: USER, Created_Time: createdTime, id, Created_By: USER };
}

/** Seconds, with an offset and no `Z`, as Zoho writes it. */
function zohoTime(): string {
  return `${new Date().toISOString().slice(0, 19)}+00:00`;
}
