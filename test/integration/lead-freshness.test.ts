/** What a person types while a lead is being written: never written over, unless nobody could have seen it in time. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CrmEvent } from '../../src/consumers/crm-sync/lead-facts.js';
import type { Outcome } from '../../src/lib/consumer.js';
import { NotYetError, OutageError } from '../../src/lib/errors.js';
import type { LeadEnriched, LeadSynced } from '../../src/lib/events.js';
import { type CrmWorker, type CrmWorld, makeCrmWorld } from '../helpers/crm-world.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { flat } from '../helpers/zoho-client.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('how old may be what was seen of a lead');

const EMAIL = 'karen@brightwater.example';
/** Longer than a busy machine stands still: what is not slow on purpose must not be found too old. */
const FRESH_MS = 2_500;
const COQL = '/crm/v8/coql';
const UPSERT = '/crm/v8/Leads/upsert';

let server: TestRedis;
let zoho: ZohoStandin;
let world: CrmWorld;
let worker: CrmWorker;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  zoho = await startZoho();
  world = makeCrmWorld({ server, zoho, leaseMs: 10_000, freshMs: FRESH_MS });
  worker = world.startWorker();
});
test.after.each(async () => {
  worker.stop();
  world.stop();
  await zoho.stop();
});
test.after(() => server.stop());

/** `hour` orders the events. */
function booked(hour: number, facts: LeadEnriched['facts'], email = EMAIL): CrmEvent {
  const id = `${1_790_000_000_000 + hour}-0`;
  const happenedAt = `2026-11-02T${String(hour).padStart(2, '0')}:00:00Z`;
  return {
    ...{ id: `enriched-${id}`, type: 'lead.enriched', key: `calendly:invitee.created:b${hour}`, at: '', fields: {} },
    cause: `calendly-${id}`,
    data: { kind: 'booked', happenedAt, email, facts, booking: { id: `b${hour}` } },
  };
}

async function handle(...events: CrmEvent[]): Promise<Outcome<'lead.synced'>[]> {
  const outcomes = await worker.handle(events);
  if (outcomes === 'died') throw new Error('the worker died');
  return outcomes;
}

async function syncAndSettle(event: CrmEvent): Promise<void> {
  const [outcome] = await handle(event);
  if ('error' in outcome!) throw outcome.error;
  await worker.settle(event, outcome!.events[0]!.data as LeadSynced);
}

const callsOf = (path: string) => zoho.calls.filter((call) => call.path === path);
const theLead = () => zoho.leadsOf(EMAIL)[0]!;

test('what a person types while the answer of a look-up is on its way stays, and slow answers are an outage', async () => {
  await syncAndSettle(booked(1, { company: 'Brightwater' }));
  const isNoLongerSlow = zoho.faults.on({ path: COQL }, { slowBodyMs: FRESH_MS * 1.2 });
  const later = booked(2, { company: 'Brightwater Inc' });
  const before = callsOf(COQL).length;
  const working = handle(later);
  await waitFor('Zoho to have looked', () => callsOf(COQL)[before]?.status === 200);
  zoho.editLead(theLead().id, { Company: 'Their own' });
  const [outcome] = await working;
  assert.is(theLead().Company, 'Their own');
  const { error } = outcome as { error: OutageError };
  assert.instance(error, OutageError);
  assert.equal([error.provider, error.kind, error.code], ['zoho', 'outage', 'zoho_timeout']);
  isNoLongerSlow();
  await syncAndSettle(later);
  assert.is(theLead().Company, 'Their own');
});

test('what a person types while a new token is fetched for the write stays', async () => {
  await syncAndSettle(booked(1, { company: 'Brightwater' }));
  zoho.faults.next({ status: 401, body: flat('INVALID_TOKEN'), latencyMs: FRESH_MS * 1.2 }, { path: UPSERT });
  const before = callsOf(UPSERT).length;
  const later = booked(2, { company: 'Brightwater Inc' });
  const working = handle(later);
  await waitFor('the write', () => callsOf(UPSERT).length > before);
  zoho.editLead(theLead().id, { Company: 'Their own' });
  const [outcome] = await working;
  assert.instance((outcome as { error: unknown }).error, NotYetError);
  assert.is(theLead().Company, 'Their own');
  await syncAndSettle(later);
  assert.is(theLead().Company, 'Their own');
});

test('leads of which Zoho tells too slowly together are looked up and written a few at a time', async () => {
  const isOfMany = ({ body }: { body: unknown }) => (JSON.stringify(body).match(/@/g) ?? []).length > 1;
  zoho.faults.on({ path: COQL, when: isOfMany }, { slowBodyMs: FRESH_MS * 1.2 });
  const outcomes = await handle(
    ...[1, 2, 3, 4, 5].map((hour) => booked(hour, { company: 'Brightwater' }, `p${hour}@brightwater.example`)),
  );
  assert.equal(
    outcomes.map((outcome) => 'events' in outcome),
    [true, true, true, true, true],
  );
  assert.is(zoho.leads().length, 5);
  assert.ok(callsOf(COQL).filter(isOfMany).length <= 2, 'it remembers how many are too many');
});

test.run();
