/** What is ours, what is a person's, and what may stand although nobody knows: after crashes, lost answers and lost memory. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CrmEvent } from '../../src/consumers/crm-sync/lead-facts.js';
import type { Outcome } from '../../src/lib/consumer.js';
import { NotYetError, OutageError, TerminalError } from '../../src/lib/errors.js';
import type { LeadEnriched, LeadSynced } from '../../src/lib/events.js';
import { hashValue, type LeadState } from '../../src/lib/lead-state.js';
import { type CrmWorker, type CrmWorld, type MayDie, makeCrmWorld } from '../helpers/crm-world.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { at, refusedRecord } from '../helpers/zoho-refusals.js';
import { waitForCall } from '../standins/http.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('what is in doubt of a lead');

const EMAIL = 'karen@brightwater.example';
/** Much longer than a busy machine stands still: a worker whose lease runs out meanwhile does nothing of what is asked of it. */
const LEASE_MS = 5_000;
const UPSERT = '/crm/v8/Leads/upsert';
const NOTES = '/crm/v8/Notes';

let server: TestRedis;
let zoho: ZohoStandin;
let world: CrmWorld;
const workers: CrmWorker[] = [];

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  zoho = await startZoho();
  world = makeCrmWorld({ server, zoho, leaseMs: LEASE_MS });
});
test.after.each(async () => {
  for (const worker of workers.splice(0)) worker.stop();
  world.stop();
  await zoho.stop();
});
test.after(() => server.stop());

function start(mayDie?: MayDie): CrmWorker {
  const worker = world.startWorker(mayDie);
  workers.push(worker);
  return worker;
}

/** `hour` orders the events. */
function booked(hour: number, facts: LeadEnriched['facts'], over: Partial<LeadEnriched> = {}): CrmEvent {
  const id = `${1_790_000_000_000 + hour}-0`;
  const happenedAt = `2026-11-02T${String(hour).padStart(2, '0')}:00:00Z`;
  return {
    ...{ id: `enriched-${id}`, type: 'lead.enriched', key: `calendly:invitee.created:b${hour}`, at: '', fields: {} },
    cause: `calendly-${id}`,
    data: { kind: 'booked', happenedAt, email: EMAIL, facts, booking: { id: `b${hour}` }, ...over },
  };
}

function met(hour: number, revision = 1, summary = `Said at ${hour}, ${revision}.`): CrmEvent {
  const id = `${1_790_000_000_000 + hour}-${revision}`;
  const attendees = [{ name: '', email: EMAIL, side: 'external' as const }];
  const happenedAt = `2026-11-02T${String(hour).padStart(2, '0')}:00:00Z`;
  return {
    ...{ id: `summarized-${id}`, type: 'meeting.summarized', at: '', fields: {}, cause: `readai-${id}` },
    key: `readai:meeting_completed:m${hour}${revision === 1 ? '' : `:r${revision}`}`,
    data: { meetingId: `m${hour}`, revision, happenedAt, title: 'Demo', attendees, summary },
  };
}

/** The receipts of a batch; it waits while another worker has the lead. */
async function sync(worker: CrmWorker, ...events: CrmEvent[]): Promise<LeadSynced[]> {
  const outcomes = await waitFor('the lead to be free', async () => {
    const found = await handle(worker, ...events);
    return found.every((outcome) => !('error' in outcome && outcome.error instanceof NotYetError)) && found;
  });
  return outcomes.map((outcome) => {
    if ('error' in outcome) throw outcome.error;
    return outcome.events[0]!.data as LeadSynced;
  });
}

async function handle(worker: CrmWorker, ...events: CrmEvent[]): Promise<Outcome<'lead.synced'>[]> {
  const outcomes = await worker.handle(events);
  if (outcomes === 'died') throw new Error('the worker died');
  return outcomes;
}

async function syncAndSettle(worker: CrmWorker, ...events: CrmEvent[]): Promise<void> {
  const receipts = await sync(worker, ...events);
  for (const [index, event] of events.entries()) await worker.settle(event, receipts[index]!);
}

const WEBHOOK = ['type', 'readai.meeting_completed', 'key', 'k', 'at', 'now', 'v', '1', 'data', '{"session_id":"m2"}'];
/** A worker takes an event and is killed before or after a write of it; then the lease that it held has run out. */
async function dieOf(write: Parameters<MayDie>[0], when: Parameters<MayDie>[1], event: CrmEvent): Promise<void> {
  const worker = start((a, b) => a === write && b === when);
  assert.is(await worker.handle([event]), 'died');
  await world.redis.hset(world.keys.leadLeases(), EMAIL, 'long dead|1');
}
const theLead = () => {
  assert.is(zoho.leadsOf(EMAIL).length, 1, 'one lead');
  return zoho.leadsOf(EMAIL)[0]!;
};
const contents = () => zoho.notes().map(({ content }) => content.split('\n').find((line) => line.startsWith('Said')));

test('receipts in another order than the writes: ours stays ours, and a person’s stays theirs', async () => {
  const [a, b] = [start(), start()];
  const first = booked(1, { company: 'Brightwater', phone: '+1 404 555 0001' });
  const canceled = booked(3, { company: 'Brightwater Inc' }, { kind: 'canceled', booking: { id: 'b1' } });
  const [firstReceipt] = await sync(a, first);
  const [secondReceipt] = await sync(b, canceled);
  await b.settle(canceled, secondReceipt!);
  await a.settle(first, firstReceipt!);
  await world.project();
  await syncAndSettle(a, booked(5, { company: 'Brightwater Group' }));
  assert.equal([theLead().Company, theLead().Lead_Status], ['Brightwater Group', 'Meeting Booked']);
  zoho.editLead(theLead().id, { Company: 'Their own', Phone: null });
  await syncAndSettle(b, booked(7, { company: 'Brightwater AG', phone: '+1 404 555 0002' }));
  assert.equal([theLead().Company, theLead().Phone ?? null], ['Their own', null]);
});

test('a receipt notes what the look-up saw of a person’s, also where nothing is written, and no write comes of it', async () => {
  const worker = start();
  const facts = { lastName: 'Liu', company: 'Brightwater', phone: '+1 404 555 0001' };
  const seenBy = async (event: CrmEvent) => {
    const [receipt] = await sync(worker, event);
    await worker.settle(event, receipt!);
    await world.project();
    return { outcome: receipt!.outcome, seen: receipt!.wrote![EMAIL]!.seen };
  };
  const stateOf = async () => JSON.parse((await world.redis.get(world.keys.projection('lead', EMAIL)))!) as LeadState;
  assert.equal(await seenBy(booked(5, facts)), { outcome: 'written', seen: undefined }, 'all of it is ours');
  zoho.editLead(theLead().id, { Company: 'Their own', Phone: null });
  const writes = () => zoho.calls.filter(({ path }) => path === UPSERT).length;
  const before = writes();
  const seen = { Company: hashValue('Their own'), Phone: '' };
  const older = booked(3, { lastName: 'Liu', company: 'Brightwater Inc' });
  assert.equal(await seenBy(older), { outcome: 'nothing_to_write', seen });
  assert.equal((await stateOf()).seen, seen);
  assert.is(writes(), before);
  zoho.editLead(theLead().id, { Company: 'Brightwater', Phone: facts.phone });
  const moved = { company: 'Brightwater AG', phone: '+1 404 555 0002' };
  assert.equal(await seenBy(booked(7, moved)), { outcome: 'written', seen: undefined });
  assert.equal([theLead().Company, theLead().Phone], [moved.company, moved.phone], 'as they are now is what counts');
  assert.is((await stateOf()).seen, undefined);
});

test('who died before the write is done over by the next try', async () => {
  await syncAndSettle(start(), booked(1, { company: 'Brightwater' }));
  const later = booked(2, { company: 'Brightwater Inc', phone: '+1 404 555 0001' });
  await dieOf('upsertLeads', 'before', later);
  await syncAndSettle(start(), later);
  assert.equal([theLead().Company, theLead().Phone], ['Brightwater Inc', '+1 404 555 0001']);
});

test('what a person cleared after the worker died on its write stays cleared', async () => {
  await syncAndSettle(start(), booked(1, { company: 'Brightwater' }));
  const later = booked(2, { company: 'Brightwater Inc', phone: '+1 404 555 0001' });
  await dieOf('upsertLeads', 'after', later);
  zoho.editLead(theLead().id, { Phone: null });
  await syncAndSettle(start(), later);
  await syncAndSettle(start(), booked(3, { phone: '+1 404 555 0003', company: 'Brightwater Group' }));
  assert.equal([theLead().Company, theLead().Phone ?? null], ['Brightwater Group', null]);
});

test('also where it was all that was written', async () => {
  zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu' });
  const seeded = theLead().Modified_Time;
  const routed = booked(2, { phone: '+1 404 555 0001' }, { kind: 'canceled' });
  const { booking: _, ...data } = routed.data as LeadEnriched;
  const event = { ...routed, data } as CrmEvent;
  // Zoho tells times in seconds.
  await waitFor('the next second', () => !seeded.startsWith(new Date().toISOString().slice(0, 19)));
  await dieOf('upsertLeads', 'after', event);
  assert.is(theLead().Phone, '+1 404 555 0001');
  zoho.editLead(theLead().id, { Phone: null });
  await syncAndSettle(start(), event);
  assert.is(theLead().Phone ?? null, null);
});

/** What becomes of the lead that this service has made, and what a person then puts in its place. */
const replaced = {
  converted: () => zoho.convertLead(theLead().id),
  deleted: () => zoho.deleteLead(theLead().id),
};
const openLead = () => zoho.leadsOf(EMAIL).at(-1)!;
const PHONE = '+1 404 555 0001';

for (const [what, replace] of Object.entries(replaced)) {
  const made = booked(1, { firstName: 'Karen', lastName: 'Liu', company: 'Brightwater', phone: PHONE });
  const moved = { firstName: 'Karen', lastName: 'Liu', company: 'Brightwater Inc', phone: '+1 404 555 0009' };
  const later = [booked(3, { ...moved, jobTitle: 'COO' }), booked(5, moved)];
  const ways: [string, CrmEvent[][]][] = [
    ['one after another', [[later[0]!], [later[1]!]]],
    ['the later one first', [[later[1]!], [later[0]!]]],
    ['in one batch', [later]],
    ['a meeting that writes nothing first', [[met(2)], later]],
  ];
  for (const [way, batches] of ways) {
    test(`what was written to a lead that is ${what} is not ours in the one a person makes: ${way}`, async () => {
      await syncAndSettle(start(), made);
      replace();
      zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu', Company: 'Brightwater', Phone: PHONE });
      for (const batch of batches) {
        await syncAndSettle(start(), ...batch);
        await world.project();
      }
      const { Last_Name, Company, Phone, First_Name, Designation, Lead_Status } = openLead();
      assert.equal([Last_Name, Company, Phone], ['Liu', 'Brightwater', PHONE], 'as they were typed');
      assert.equal([First_Name, Designation, Lead_Status], ['Karen', 'COO', 'Meeting Booked'], 'what was empty');
      assert.type(openLead().Description, 'string');
    });
  }
}

test('what a person clears in the lead that they made stays cleared', async () => {
  await syncAndSettle(start(), booked(1, { lastName: 'Liu', phone: PHONE }));
  zoho.deleteLead(theLead().id);
  zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu' });
  await syncAndSettle(start(), booked(3, { lastName: 'Liu', phone: PHONE }));
  assert.is(theLead().Phone, PHONE);
  zoho.editLead(theLead().id, { Phone: null });
  await syncAndSettle(start(), booked(5, { lastName: 'Liu', phone: PHONE }));
  assert.is(theLead().Phone ?? null, null);
});

test('a lead that a meeting makes anew gets from the next booking what the deleted one had', async () => {
  const facts = { firstName: 'Karen', lastName: 'Liu', company: 'Brightwater', phone: PHONE };
  await syncAndSettle(start(), booked(1, facts));
  zoho.deleteLead(theLead().id);
  await syncAndSettle(start(), met(2));
  await syncAndSettle(start(), booked(3, facts));
  const { First_Name, Phone, Last_Name, Lead_Status } = theLead();
  assert.equal([First_Name, Phone, Last_Name, Lead_Status], ['Karen', PHONE, 'Liu', 'Meeting Booked']);
});

test('a write of which no receipt came is not ours in the lead that a person makes, though a value is the same', async () => {
  await syncAndSettle(start(), booked(1, { lastName: 'Liu', company: 'Brightwater' }));
  const later = booked(2, { lastName: 'Liu', company: 'Brightwater Inc', phone: PHONE, jobTitle: 'COO' });
  await dieOf('upsertLeads', 'after', later);
  zoho.convertLead(theLead().id);
  zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu', Company: 'Brightwater Inc' });
  await syncAndSettle(start(), later);
  await syncAndSettle(start(), booked(3, { lastName: 'Liu', company: 'Brightwater AG' }));
  const { Company, Phone, Designation } = openLead();
  assert.equal([Company, Phone, Designation], ['Brightwater Inc', PHONE, 'COO']);
});

test('nor is one that was found to have come to pass before', async () => {
  const first = booked(1, { lastName: 'Liu', company: 'Brightwater', phone: PHONE });
  await dieOf('upsertLeads', 'after', first);
  await sync(start(), first);
  zoho.convertLead(theLead().id);
  zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu', Company: 'Brightwater' });
  for (const hour of [3, 5]) await syncAndSettle(start(), booked(hour, { lastName: 'Liu', company: `B ${hour}` }));
  await syncAndSettle(start(), first);
  assert.equal([openLead().Company, openLead().Phone], ['Brightwater', PHONE]);
});

test('a note is written once, though another event of the lead is done between the crash and the next try', async () => {
  await syncAndSettle(start(), booked(1, { company: 'Brightwater' }));
  await dieOf('createNotes', 'after', met(2));
  await syncAndSettle(start(), booked(3, { company: 'Brightwater Inc' }));
  await syncAndSettle(start(), met(2));
  assert.equal(contents(), ['Said at 2, 1.']);
});

test('a note is written once, though Redis has lost its last moments', async () => {
  const worker = start();
  await syncAndSettle(worker, booked(1, { company: 'Brightwater' }));
  await sync(worker, met(2));
  await world.redis.del(world.keys.intents());
  // Whoever lost the connection can't know what else was lost.
  await syncAndSettle(start(), met(2));
  assert.equal(contents(), ['Said at 2, 1.']);
});

test('a note is written once, though Redis was emptied and knows the lead again', async () => {
  await syncAndSettle(start(), met(2));
  await syncAndSettle(start(), met(3));
  await world.redis.flushall();
  const worker = start();
  await syncAndSettle(worker, booked(4, { company: 'Brightwater' }));
  await syncAndSettle(worker, met(2));
  const listings = () => zoho.calls.filter(({ method, path }) => method === 'GET' && path.endsWith('/Notes')).length;
  const before = listings();
  await syncAndSettle(worker, met(3));
  await syncAndSettle(worker, met(5));
  assert.equal(contents().sort(), ['Said at 2, 1.', 'Said at 3, 1.', 'Said at 5, 1.']);
  assert.is(listings(), before, 'one look at all notes of a lead is enough');
});

test('of a lead that was made here no notes are looked for', async () => {
  const worker = start();
  await syncAndSettle(worker, booked(1, { company: 'Brightwater' }));
  await syncAndSettle(worker, met(2));
  assert.is(zoho.calls.filter(({ method, path }) => method === 'GET' && path.endsWith('/Notes')).length, 0);
});

test('a note whose update is refused is not added again', async () => {
  await syncAndSettle(start(), met(2));
  const body = { data: [refusedRecord('NOT_ALLOWED')] };
  zoho.faults.next({ status: 400, body }, { method: 'PUT', path: NOTES });
  const [outcome] = await handle(start(), met(2, 2));
  assert.instance((outcome as { error: unknown }).error, TerminalError);
  assert.equal(contents(), ['Said at 2, 1.']);
  await syncAndSettle(start(), met(2, 3));
  assert.equal(contents(), ['Said at 2, 3.']);
});

/** The same meeting's webhook, delivered again after the first delivery has failed. */
const delivered = (event: CrmEvent, delivery: number): CrmEvent => {
  const id = `${1_790_000_100_000 + delivery}-0`;
  return { ...event, id: `summarized-${id}`, cause: `readai-${id}` };
};

test('a note whose update was refused is updated when its event is delivered again', async () => {
  await syncAndSettle(start(), met(2));
  const body = { data: [refusedRecord('NOT_ALLOWED')] };
  zoho.faults.next({ status: 400, body }, { method: 'PUT', path: NOTES });
  const [outcome] = await handle(start(), met(2, 2));
  assert.instance((outcome as { error: unknown }).error, TerminalError);
  await syncAndSettle(start(), delivered(met(2, 2), 1));
  assert.equal(contents(), ['Said at 2, 2.']);
});

test('a note that was written for an event that failed gives way to a push after the meeting was trimmed', async () => {
  await syncAndSettle(start(), met(2));
  // For another of its leads it fails: there is no receipt.
  await sync(start(), met(2, 2));
  await syncAndSettle(start(), delivered(met(2, 1, 'Said long after.'), 1));
  assert.equal(contents(), ['Said long after.']);
});

test('a lower revision that is delivered again writes nothing over a higher one of which no receipt came', async () => {
  await world.redis.xadd(world.keys.stream('events:readai'), met(2, 2).cause!.slice('readai-'.length), ...WEBHOOK);
  await sync(start(), met(2, 2));
  const [receipt] = await sync(start(), delivered(met(2), 1));
  assert.equal(receipt!.notes, []);
  assert.equal(contents(), ['Said at 2, 2.']);
});

/** What the meeting says of the lead's name. */
const named = (event: CrmEvent, name: string) =>
  ({
    ...event,
    data: { ...event.data, attendees: [{ name, email: EMAIL, side: 'external' }] },
  }) as CrmEvent;

test('a lower revision that is delivered again changes no value of a higher one, and says that it is superseded', async () => {
  await world.redis.xadd(world.keys.stream('events:readai'), met(2, 2).cause!.slice('readai-'.length), ...WEBHOOK);
  await syncAndSettle(start(), named(met(2, 2), 'Karen Smith-Jones'));
  const late = delivered(named(met(2, 1), 'Karen Liu'), 1);
  const [receipt] = await sync(start(), late);
  assert.equal([theLead().First_Name, theLead().Last_Name], ['Karen', 'Smith-Jones']);
  assert.equal([receipt!.outcome, receipt!.reason], ['nothing_to_write', 'superseded']);
});

test('a lower revision says so as well where the lead has become a contact since', async () => {
  await world.redis.xadd(world.keys.stream('events:readai'), met(2, 2).cause!.slice('readai-'.length), ...WEBHOOK);
  await syncAndSettle(start(), met(2, 2));
  zoho.convertLead(theLead().id as string);
  const [receipt] = await sync(start(), delivered(met(2, 1), 1));
  assert.equal([receipt!.outcome, receipt!.reason], ['nothing_to_write', 'superseded']);
});

for (const [how, details, message] of [
  ['by the field', at('id'), 'as Zoho says it'],
  ['in words', {}, 'the id given seems to be invalid'],
] as const) {
  test(`a note that is gone, as Zoho says ${how}, is written anew, once`, async () => {
    await syncAndSettle(start(), met(2));
    const gone = { status: 400, body: { data: [refusedRecord('INVALID_DATA', details, message)] } };
    zoho.faults.next(gone, { method: 'PUT', path: NOTES, when: () => zoho.deleteLead(theLead().id) ?? true });
    zoho.faults.next({ doneButAnswerLost: true }, { method: 'POST', path: NOTES });
    const later = met(2, 2);
    const leadGone = await handle(start(), later);
    assert.ok('error' in leadGone[0]!);
    await syncAndSettle(start(), later);
    await syncAndSettle(start(), met(2, 3));
    assert.equal(contents(), ['Said at 2, 3.']);
  });
}

for (const [what, refusal] of [
  [
    'refused the record for good',
    { status: 400, body: { data: [refusedRecord('MANDATORY_NOT_FOUND', at('Rating'))] } },
  ],
  ['refused the record for now', { status: 400, body: { data: [refusedRecord('RECORD_LOCKED')] } }],
  ['refused the call', { status: 403, body: { code: 'NO_PERMISSION', status: 'error', message: '', details: {} } }],
  ['not been able to answer', { status: 503 }],
  ['asked to wait', { status: 429, body: { code: 'TOO_MANY_REQUESTS', status: 'error', message: '', details: {} } }],
] as const) {
  test(`where Zoho has ${what}, a lead that a person enters meanwhile is theirs, and what it lacks is filled`, async () => {
    zoho.faults.next(refusal, { path: UPSERT });
    const first = booked(1, { company: 'Brightwater', lastName: 'Liu', phone: '+1 404 555 0001' });
    const [outcome] = await handle(start(), first);
    assert.ok('error' in outcome!);
    zoho.seedLead({ Email: EMAIL, Last_Name: 'Liu', Company: 'Brightwater' });
    await syncAndSettle(start(), first);
    await syncAndSettle(start(), booked(2, { company: 'Brightwater Group' }));
    assert.equal([theLead().Company, theLead().Phone], ['Brightwater', '+1 404 555 0001']);
  });
}

test('of two events in one batch the one with a value that Zoho refuses fails alone', async () => {
  const bad = (request: { body: unknown }) => JSON.stringify(request.body).includes('"Last_Name":"Bad"');
  const refused = { status: 400, body: { data: [refusedRecord('INVALID_DATA', at('Last_Name'))] } };
  zoho.faults.on({ path: UPSERT, when: bad }, refused);
  const outcomes = await handle(start(), booked(1, { lastName: 'Liu' }), booked(2, { lastName: 'Bad' }));
  assert.ok('events' in outcomes[0]!);
  assert.instance((outcomes[1] as { error: unknown }).error, TerminalError);
  assert.is(theLead().Last_Name, 'Liu');
});

test('where Zoho refuses the later of two values the earlier one stands, as if they had come one by one', async () => {
  const bad = (request: { body: unknown }) => JSON.stringify(request.body).includes('"Phone":"bad"');
  zoho.faults.on(
    { path: UPSERT, when: bad },
    { status: 400, body: { data: [refusedRecord('INVALID_DATA', at('Phone'))] } },
  );
  const worker = start();
  const events = [booked(1, { phone: '+1 404 555 0001' }), booked(2, { phone: 'bad', company: 'Brightwater' })];
  await syncAndSettle(worker, ...events);
  assert.equal([theLead().Phone, theLead().Company], ['+1 404 555 0001', 'Brightwater']);
  await syncAndSettle(worker, booked(3, { phone: '+1 404 555 0003' }));
  assert.is(theLead().Phone, '+1 404 555 0003');
});

test('who has lost the lead to another worker while it looked writes nothing', async () => {
  zoho.faults.next({ latencyMs: 300 }, { path: '/crm/v8/coql' });
  const working = handle(start(), booked(1, { company: 'Brightwater' }));
  await waitForCall(zoho, ({ path }) => path === '/crm/v8/coql');
  await world.redis.hset(world.keys.leadLeases(), EMAIL, `another|${Date.now() + 60_000}`);
  const [outcome] = await working;
  assert.instance((outcome as { error: unknown }).error, NotYetError);
  assert.is(zoho.calls.filter(({ path }) => path === UPSERT).length, 0);
});

test('a write under way ends when the lease is gone from Redis', async () => {
  zoho.faults.next({ hang: true }, { path: UPSERT });
  const working = handle(start(), booked(1, { company: 'Brightwater' }));
  await waitForCall(zoho, ({ path }) => path === UPSERT);
  await world.redis.flushall();
  const [outcome] = await working;
  assert.instance((outcome as { error: unknown }).error, NotYetError);
});

test('a write that is cut off by a shutdown, and comes to pass all the same, comes before what happened later', async () => {
  zoho.faults.next({ latencyMs: 300 }, { path: UPSERT });
  const ending = new AbortController();
  const working = start().handle([booked(1, { company: 'Brightwater' })], ending.signal);
  await waitForCall(zoho, ({ path }) => path === UPSERT);
  ending.abort(new Error('the worker ends'));
  await working.catch(() => {});
  const next = start();
  const later = booked(2, { company: 'Brightwater Inc' });
  const [outcome] = await handle(next, later);
  assert.instance((outcome as { error: unknown }).error, NotYetError);
  await waitFor('the first write', () => zoho.leadsOf(EMAIL)[0]?.Company === 'Brightwater');
  await waitFor('its lease to run out', async () => {
    const [again] = await handle(next, later);
    return 'events' in again!;
  });
  assert.is(theLead().Company, 'Brightwater Inc');
});

test('a call refused as a whole fails only the event that is to blame, whatever its place among the others', async () => {
  for (const culprit of [0, 1, 2]) {
    const emails = [0, 1, 2].map((index) => `c${culprit}e${index}@brightwater.example`);
    const isBlamed = ({ body }: { body: unknown }) => JSON.stringify(body).includes(emails[culprit]!);
    const refusal = { status: 400, body: refusedRecord('INVALID_DATA') };
    zoho.faults.on({ path: UPSERT, when: isBlamed }, refusal);
    const batch = emails.map((email, index) => booked(index + 1, { lastName: 'Liu' }, { email }));
    const outcomes = await handle(start(), ...batch);
    const failed = outcomes.flatMap((outcome, index) => ('error' in outcome ? [index] : []));
    assert.equal(failed, [culprit]);
  }
});

/** A lead whose address a person has corrected: it is remembered by its id under the one that it had. */
async function correctAddress(): Promise<void> {
  await syncAndSettle(start(), booked(1, { lastName: 'Liu', company: 'Brightwater' }));
  zoho.editLead(theLead().id, { Email: CORRECTED });
}
const CORRECTED = 'karen.liu@brightwater.example';
const byCorrected = { email: CORRECTED };
const corrected = () => {
  assert.is(zoho.leads().length, 1, 'one lead');
  const { Email, Company, Phone, Designation } = zoho.leads()[0]!;
  return [Email, Company, Phone, Designation];
};

test('what comes under a lead’s former address and under its corrected one ends as if it had come in order', async () => {
  const former = booked(5, { lastName: 'Liu', phone: '+1 404 555 0005' });
  const present = booked(3, { lastName: 'Liu', phone: '+1 404 555 0003', jobTitle: 'COO' }, byCorrected);
  const later = booked(7, { lastName: 'Liu', phone: '+1 404 555 0007' }, byCorrected);
  for (const batches of [[[present], [former]], [[former], [present]], [[former, present]], [[present, former]]]) {
    await correctAddress();
    for (const batch of batches) await syncAndSettle(start(), ...batch);
    assert.equal(corrected(), [CORRECTED, 'Brightwater', '+1 404 555 0005', 'COO']);
    assert.equal(await world.redis.hlen(world.keys.intents()), 0);
    await syncAndSettle(start(), later);
    assert.equal(corrected(), [CORRECTED, 'Brightwater', '+1 404 555 0007', 'COO']);
    zoho.deleteLead(zoho.leads()[0]!.id);
    await world.redis.flushall();
  }
});

test('two workers never write one lead at once, though they know it by two addresses', async () => {
  await correctAddress();
  zoho.faults.next({ hang: true }, { path: UPSERT });
  const ending = new AbortController();
  const present = booked(3, { lastName: 'Liu', phone: '+1 404 555 0003' }, byCorrected);
  const writing = start().handle([present], ending.signal);
  await waitForCall(zoho, ({ path, status }) => path === UPSERT && status === undefined);
  const neighbour = booked(4, { lastName: 'Haddad' }, { email: 'omar@brightwater.example' });
  const [former, other] = await handle(start(), booked(5, { lastName: 'Liu', phone: '+1 404 555 0005' }), neighbour);
  assert.instance((former as { error: unknown }).error, NotYetError);
  assert.ok('events' in other!);
  ending.abort(new Error('the worker ends'));
  await writing.catch(() => {});
});

test('a meeting of one person under both addresses is one lead and one note, which its next revision updates', async () => {
  await correctAddress();
  const meeting = (revision: number): CrmEvent => {
    const event = met(3, revision) as Extract<CrmEvent, { type: 'meeting.summarized' }>;
    const attendees = [EMAIL, CORRECTED].map((email) => ({ name: '', email, side: 'external' as const }));
    return { ...event, data: { ...event.data, attendees } };
  };
  const [first] = await sync(start(), meeting(1));
  assert.equal(first!.notes.length, 1);
  await start().settle(meeting(1), first!);
  await syncAndSettle(start(), meeting(2));
  assert.equal(contents(), ['Said at 3, 2.']);
});

test('an answer that never came leaves the lead to whoever tries next', async () => {
  zoho.faults.next({ reset: true }, { path: UPSERT });
  const [outcome] = await handle(start(), booked(1, { company: 'Brightwater' }));
  assert.instance((outcome as { error: unknown }).error, OutageError);
  await syncAndSettle(start(), booked(1, { company: 'Brightwater' }));
  assert.is(theLead().Company, 'Brightwater');
});

test.run();
