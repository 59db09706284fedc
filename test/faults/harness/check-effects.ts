/** What the service has done outside, told by the stand-in's calls, and what it remembers of it in its ledger. */
import type { LeadSynced } from '../../../src/lib/events.js';
import type { Call } from '../../standins/http.js';
import { firstKeyOf } from './check-streams.js';
import type { FaultLog, InjectedFault } from './fault-log.js';
import { groupBy } from './history.js';
import { sized } from './scenario.js';
import { descendants, type Snapshot, type SnapshotEntry } from './snapshot.js';
import type { Violation } from './violation.js';
import type { World } from './world.js';

/** One record of a call that writes. */
type Write = { at: number; doneAt: number | undefined; email?: string; noteKey?: string; record: string };

/** What the CRM was asked: every look-up, and when calls came to nothing. */
type Asked = { looks: { at: number; text: string }[]; failedAt: number[]; stalledAt: number[] };

/** The last end of any event that concerns a lead or a note, and how many ends there are. */
type Ends = { count: number; lastAt: number };

/** Of clocks that are read in two processes. */
const CLOCKS_MS = 50;
/** A worker that was hit may have written this long before, or hear of it so late: that a link is dead it notices after three seconds. */
const HIT_MS = 4_000;
/** From a write to its receipt. */
const RECEIPT_MS = 2_000;
/** What is tidied up after a receipt is so soon; a worker that hangs instead is ended within that time, too. */
const TIDY_MS = 5_000;
/** A starved machine takes its time. */
const TIDY_WAIT_MS = sized(20_000, 3_000);
const STALLED = '"msg":"no heartbeat for as long as claims hold';
/** Faults after which Redis knows nothing of what it held. */
const FORGETFUL = /FLUSHALL|restarted empty|tail not replicated|power cut/;

/**
 * Nothing is written to the CRM after the receipt of the last event that asks for it, nothing is written twice that was done the
 * first time, and no more often than there are events, faults, and calls that came to nothing. `inDoubt`: leads of whom that
 * cannot be said, as what was done for them is forgotten.
 */
export function checkEffects(world: World, snapshot: Snapshot, inDoubt: ReadonlySet<string>): Violation[] {
  const emailByKey = new Map(world.history.sent.map(({ delivery: { key, email } }) => [key, email.toLowerCase()]));
  const writes = world.zoho.calls.flatMap(toWrites);
  const asked = findAsked(world);
  const ends = findEnds(snapshot, emailByKey);
  const violations: Violation[] = [];
  const looks: [what: string, all: Map<string, Write[]>, ends: Map<string, Ends>][] = [
    ['the lead', groupBy(writes.filter(isOfLead), ({ email }) => email!), ends.byEmail],
    ['the note', groupBy(writes.filter(isOfNote), ({ noteKey }) => noteKey!), ends.byNoteKey],
  ];
  for (const [what, all, own] of looks) {
    for (const [name, sent] of all) {
      const email = what === 'the lead' ? name : emailByKey.get(name);
      if (email === undefined || inDoubt.has(email)) continue;
      violations.push(...checkWrites(world, asked, `${what} ${name}`, sent, own.get(name) ?? { count: 0, lastAt: 0 }));
    }
  }
  return violations;
}

/** The leads that were written in one of these times, whose receipts may be gone: such values it takes for a person's. */
export function findWritten({ zoho, history }: World, spans: readonly { from: number; to: number }[]): string[] {
  if (spans.length === 0) return [];
  const emailByKey = new Map(history.sent.map(({ delivery: { key, email } }) => [key, email.toLowerCase()]));
  const isWithin = (at: number) => spans.some(({ from, to }) => at >= from - RECEIPT_MS && at <= to);
  const written = zoho.calls.flatMap(toWrites).filter(({ at }) => isWithin(at));
  return written.flatMap(({ email, noteKey = '' }) => email ?? emailByKey.get(noteKey) ?? []);
}

/** When a worker said that it had stood still and let go of what it held: a starved machine is a fault that nobody injected. */
export function findStalls({ everyPart }: World): number[] {
  const lines = everyPart().flatMap((part) => part.lines().filter((line) => line.includes(STALLED)));
  return lines.map((line) => Number(/"time":(\d+)/.exec(line)?.[1]));
}

function findAsked(world: World): Asked {
  const ofCrm = world.zoho.calls.filter(isCrmCall);
  return {
    stalledAt: findStalls(world),
    looks: ofCrm
      .filter(({ path }) => path === '/crm/v8/coql')
      .map(({ at, body }) => ({ at: Date.parse(at), text: JSON.stringify(body) })),
    failedAt: ofCrm.filter((call) => !wasAnswered(call)).map(({ at }) => Date.parse(at)),
  };
}

function checkWrites(
  { faultLog }: World,
  asked: Asked,
  what: string,
  writes: readonly Write[],
  ends: Ends,
): Violation[] {
  const violations: Violation[] = [];
  const wrong = (text: string) => violations.push({ rule: 'effects', text: `${what} ${text}`, doubled: 1 });
  const late = writes.find(({ at }) => at > ends.lastAt + CLOCKS_MS);
  if (late !== undefined) wrong(`was written ${late.at - ends.lastAt} ms after the receipt`);
  const done = writes.filter(({ doneAt }) => doneAt !== undefined);
  const again = done.find((write, index) => index > 0 && isSuperfluous(asked, write, done[index - 1]!));
  if (again !== undefined) wrong(`was written with the same values again at ${new Date(again.at).toISOString()}`);
  const most = ends.count + countDisturbances(faultLog, asked, writes[0]!.at, writes.at(-1)!.at);
  if (writes.length > most) wrong(`was written ${writes.length} times, and ${most} can be explained`);
  return violations;
}

/** The lead was looked at in between, and had all these values. */
function isSuperfluous({ looks }: Asked, { at, email, record }: Write, before: Write): boolean {
  if (email === undefined || record !== before.record) return false;
  return looks.some((look) => look.at > before.doneAt! && look.at < at && look.text.includes(email));
}

/** What may have made an event run once more between two writes. */
function countDisturbances({ faults }: FaultLog, { failedAt, stalledAt }: Asked, from: number, to: number): number {
  const hits = faults.filter((fault) => overlaps(fault, from - HIT_MS, to)).length;
  const stalls = stalledAt.filter((at) => at >= from - HIT_MS && at <= to + HIT_MS).length;
  return hits + stalls + failedAt.filter((at) => at >= from && at <= to).length;
}

function findEnds(snapshot: Snapshot, emailByKey: ReadonlyMap<string, string>) {
  const byEmail = new Map<string, Ends>();
  const byNoteKey = new Map<string, Ends>();
  for (const webhook of snapshot.webhooks) {
    const noteKey = firstKeyOf(webhook.key);
    const email = emailByKey.get(noteKey);
    for (const { at } of descendants(snapshot, webhook).filter(isEnd)) {
      addEnd(byNoteKey, noteKey, at);
      if (email !== undefined) addEnd(byEmail, email, at);
    }
  }
  return { byEmail, byNoteKey };
}

function addEnd(ends: Map<string, Ends>, name: string, at: number): void {
  const { count, lastAt } = ends.get(name) ?? { count: 0, lastAt: 0 };
  ends.set(name, { count: count + 1, lastAt: Math.max(lastAt, at) });
}

function isEnd({ type }: SnapshotEntry): boolean {
  return type === 'lead.synced' || type === 'event.failed';
}

function toWrites(call: Call): Write[] {
  const isLead = call.method === 'POST' && call.path === '/crm/v8/Leads/upsert';
  const isNote = /^(POST|PUT)$/.test(call.method) && call.path === '/crm/v8/Notes';
  if (!isLead && !isNote) return [];
  const { data = [] } = (call.body ?? {}) as { data?: Record<string, unknown>[] };
  const doneAt = call.doneAt === undefined ? undefined : Date.parse(call.doneAt);
  return data.map((record) => ({
    ...{ at: Date.parse(call.at), doneAt, record: JSON.stringify(record) },
    ...(isLead ? { email: String(record.Email).toLowerCase() } : { noteKey: markerOf(String(record.Note_Content)) }),
  }));
}

function isOfLead({ email }: Write): boolean {
  return email !== undefined;
}

function isOfNote({ noteKey }: Write): boolean {
  return noteKey !== undefined;
}

function isCrmCall({ path }: Call): boolean {
  return path.startsWith('/crm/');
}

function wasAnswered({ status, fault }: Call): boolean {
  return status !== undefined && status < 400 && fault?.doneButAnswerLost !== true;
}

/** The key in the last line of a note. */
export function markerOf(content: string): string {
  return /\[gvi:(.*)\]\s*$/.exec(content)?.[1] ?? 'without a marker';
}

/**
 * At rest the ledger holds nothing, and `lead.synced` names the very leads and notes that stand in the CRM. An intent may be left
 * where a fault came between the receipt and its removal, where the event has failed, and where Redis has forgotten the event
 * while a worker had it: what was written for it is to be known for the service's own.
 */
export async function checkLedger(
  world: World,
  snapshot: Snapshot,
  inDoubt: ReadonlySet<string>,
): Promise<Violation[]> {
  const deadline = performance.now() + TIDY_WAIT_MS;
  for (;;) {
    const left = await findLeftovers(world, snapshot);
    if (left.length === 0 || performance.now() > deadline) return [...left, ...checkIds(world, snapshot, inDoubt)];
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function findLeftovers(world: World, { byCause, entries, failures }: Snapshot): Promise<Violation[]> {
  const { client, keys, faultLog } = world;
  const failed = new Set(failures.map(({ eventId }) => eventId));
  const standing = new Set(entries.map(({ eventId }) => eventId));
  const isForgotten = (eventId: string) =>
    !standing.has(eventId) && faultLog.faults.some(({ kind, at }) => FORGETFUL.test(kind) && timeOf(eventId) <= at);
  const isExcused = (eventId: string) => {
    const ends = byCause.get(eventId) ?? [];
    // The receipt may have been on its way already when its worker died.
    const isHit = (at: number) => faultLog.faults.some((fault) => overlaps(fault, at - HIT_MS, at + TIDY_MS));
    return failed.has(eventId) || isForgotten(eventId) || ends.some(({ at }) => isHit(at));
  };
  const violations: Violation[] = [];
  for (const [email, saved] of Object.entries(await client.hgetall(keys.intents()))) {
    for (const eventId of Object.keys(JSON.parse(saved) as object).filter((id) => !isExcused(id)))
      violations.push({ rule: 'ledger', eventId, text: `what ${eventId} was to write to ${email} is still noted` });
  }
  const markOf = keys.alertMark('');
  for await (const found of client.scanStream({ match: `${markOf}*`, count: 1_000 })) {
    const marked = (found as string[]).map((key) => key.slice(markOf.length));
    // Of a pause: that it was told of is remembered until its end is.
    for (const eventId of marked.filter((id) => /^(failed|health)-/.test(id) && !isExcused(id)))
      violations.push({ rule: 'ledger', eventId, text: `the alert of ${eventId} still counts as on its way` });
  }
  return violations;
}

function checkIds({ zoho }: World, { byStream }: Snapshot, inDoubt: ReadonlySet<string>): Violation[] {
  const synced = byStream('events:synced').map(({ fields }) => JSON.parse(fields.data ?? '{}') as LeadSynced);
  const named = {
    leads: new Set(synced.flatMap(({ leads, matched = [] }) => [...leads, ...matched].map(({ leadId }) => leadId))),
    notes: new Set(synced.flatMap(({ notes }) => notes.map(({ noteId }) => noteId))),
  };
  const emailOf = new Map(zoho.leads().map(({ id, Email }) => [id, String(Email).toLowerCase()]));
  const standing = {
    leads: new Map(zoho.leads().map(({ id }) => [id, emailOf.get(id)])),
    notes: new Map(zoho.notes().map(({ id, parentId }) => [id, emailOf.get(parentId)])),
  };
  return (['leads', 'notes'] as const).flatMap((kind) => {
    const strange = [...named[kind]].filter((id) => id === null || !standing[kind].has(id));
    const unnamed = [...standing[kind]].filter(([id, email]) => !named[kind].has(id) && !inDoubt.has(email ?? ''));
    return [
      ...strange.map((id) => ({
        rule: 'ledger' as const,
        text: `lead.synced names ${id} of ${kind}, which is not there`,
      })),
      ...unnamed.map(([id, email]) => ({
        rule: 'ledger' as const,
        text: `${id} of ${kind}, of ${email}, stands in no lead.synced`,
      })),
    ];
  });
}

/** When its entry was appended, ms since 1970. */
function timeOf(eventId: string): number {
  return Number(eventId.split('-')[1]);
}

function overlaps({ at, healedAt = at }: InjectedFault, from: number, to: number): boolean {
  return at <= to && healedAt >= from;
}
