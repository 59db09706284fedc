import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOverview } from '../../src/lib/overview.js';
import { trim } from '../../src/lib/trim.js';
import { projections } from '../../src/projections/index.js';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { lastingClaims } from '../helpers/worker.js';
import { refusedRecord } from '../helpers/zoho-refusals.js';
import { makeField, startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('leads and notes in the CRM');

let redis: Awaited<ReturnType<typeof startRedis>>;
let zoho: ZohoStandin;
let pipeline: Pipeline;
let tests = 0;

const start = async (more: Record<string, string> = {}, workers = 1) => {
  const env = { ...lastingClaims, ...more };
  pipeline = await startPipeline({ redisUrl: redis.url, keyPrefix: `t${tests}:`, zoho, env, workers });
};

test.before(async () => {
  redis = await startRedis();
});
test.before.each(async () => {
  tests += 1;
  zoho = await startZoho();
});
test.after.each(async () => {
  await pipeline.stop();
  await zoho.stop();
});
test.after(() => redis.stop());

/** A booking of one person; `at` in seconds orders the events. */
const booking = (id: string, at: number, over: Record<string, unknown> = {}) => ({
  event: 'invitee.created',
  created_at: `2026-11-02T09:00:${String(at).padStart(2, '0')}.000000Z`,
  payload: {
    uri: `https://api.calendly.com/scheduled_events/E${id}/invitees/${id}`,
    email: 'Karen.Liu+demo@brightwater.example',
    name: 'Karen Liu',
    questions_and_answers: [{ question: 'Company', answer: 'Brightwater' }],
    scheduled_event: { name: 'Product Demo', start_time: '2026-12-10T15:00:00.000000Z' },
    ...over,
  },
});
const canceled = (id: string, at: number, over: Record<string, unknown> = {}) => ({
  ...booking(id, at, { status: 'canceled', cancellation: { canceled_by: 'Karen Liu', reason: 'Ill' }, ...over }),
  event: 'invitee.canceled',
});
const email = 'karen.liu+demo@brightwater.example';
const meeting = (over: Record<string, unknown> = {}) => ({ ...fixture('readai/meeting-end-base.json'), ...over });
const theLead = () => {
  const found = zoho.leadsOf(email);
  assert.is(found.length, 1, 'one lead for one address');
  return found[0]!;
};
const upserts = () => zoho.calls.filter(({ path }) => path === '/crm/v8/Leads/upsert');

test('a booking makes one lead, by its address, with what the payload says', async () => {
  await start();
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('a', 1)));
  const lead = theLead();
  assert.equal(
    [lead.Email, lead.First_Name, lead.Last_Name, lead.Company, lead.Lead_Status],
    [email, 'Karen', 'Liu', 'Brightwater', 'Meeting Booked'],
  );
  assert.is(synced.outcome, 'written');
  assert.equal(synced.leads, [{ email, leadId: lead.id, action: 'insert' }]);
});

test('where Zoho refuses several values at once the lead is written without all of them', async () => {
  await zoho.stop();
  const choice = (name: string) => makeField(name, { data_type: 'picklist', values: ['Other'] });
  zoho = await startZoho({ withoutScopes: ['fields'], fields: [choice('Lead_Source'), choice('Designation')] });
  await start();
  const questions_and_answers = [
    { question: 'Company', answer: 'Brightwater' },
    { question: 'Job title', answer: 'COO' },
  ];
  const body = booking('a', 1, { questions_and_answers, tracking: { utm_source: 'partner' } });
  const synced = await pipeline.synced(await pipeline.send('calendly', body));
  const { id, Company, Lead_Source, Designation } = theLead();
  assert.equal(synced.leads, [{ email, leadId: id, action: 'insert' }]);
  assert.equal([Company, Lead_Source, Designation], ['Brightwater', undefined, undefined]);
  assert.is(upserts().length, 2);
});

test('what a person typed into the lead stays, and what is empty is filled', async () => {
  zoho.seedLead({
    Email: 'Karen.Liu+Demo@Brightwater.example',
    Last_Name: 'Liu-Smith',
    Company: 'BW Holding',
    Lead_Status: 'Contacted',
  });
  await start();
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('a', 1)));
  const lead = theLead();
  assert.equal(
    [lead.Last_Name, lead.Company, lead.Lead_Status, lead.First_Name],
    ['Liu-Smith', 'BW Holding', 'Contacted', 'Karen'],
  );
  assert.is(lead.Email, 'Karen.Liu+Demo@Brightwater.example');
  assert.equal(synced.leads, [{ email, leadId: lead.id, action: 'update' }]);
});

test('a person who changes or clears what the service wrote is not overruled', async () => {
  await start();
  await pipeline.finished(
    await pipeline.send('calendly', booking('a', 1, { text_reminder_number: '+1 404 555 1234' })),
  );
  zoho.editLead(theLead().id, { Company: 'Brightwater Group', Phone: null });
  await pipeline.finished(
    await pipeline.send('calendly', booking('b', 2, { text_reminder_number: '+1 404 555 9999' })),
  );
  const lead = theLead();
  assert.equal([lead.Company, lead.Phone ?? null], ['Brightwater Group', null]);
});

test('of several leads with one address the one that was looked at is written, whichever an upsert would take', async () => {
  await zoho.stop();
  zoho = await startZoho({ upsertTakes: 'newest' });
  const oldest = zoho.seedLead({ Email: email, Last_Name: 'Liu' });
  const newest = zoho.seedLead({ Email: email, Last_Name: 'Liu-Smith', Company: 'BW Holding' });
  await start();
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('a', 1)));
  assert.equal(synced.leads, [{ email, leadId: oldest, action: 'update' }]);
  const companies = zoho.leadsOf(email).map(({ id, Company }) => [id, Company]);
  assert.equal(companies, [
    [oldest, 'Brightwater'],
    [newest, 'BW Holding'],
  ]);
});

/** An organisation that allows no two leads with the same telephone number. */
const withUniquePhone = async (options: Parameters<typeof startZoho>[0] = {}) => {
  await zoho.stop();
  const phone = makeField('Phone', { data_type: 'phone', length: 30, unique: { casesensitive: 'false' } });
  zoho = await startZoho({ ...options, fields: [phone] });
};
const boss = {
  Email: 'boss@brightwater.example',
  Last_Name: 'Boss',
  Company: 'Their own',
  Phone: '+1 404 555 0001',
};
const seedBoss = () => {
  const id = zoho.seedLead(boss);
  const isUntouched = () => {
    const { Email, Last_Name, Company, Phone } = zoho.leads().find((lead) => lead.id === id)!;
    assert.equal({ Email, Last_Name, Company, Phone }, boss);
  };
  return { id, isUntouched };
};

test('a new lead with the unique number of another one is a lead of its own, without the number', async () => {
  await withUniquePhone();
  const { isUntouched } = seedBoss();
  await start();
  const synced = await pipeline.synced(
    await pipeline.send('calendly', booking('a', 1, { text_reminder_number: boss.Phone })),
  );
  isUntouched();
  assert.equal(synced.leads, [{ email, leadId: theLead().id, action: 'insert' }]);
  assert.equal([theLead().Company, theLead().Phone], ['Brightwater', undefined]);
});

test('a lead that stands already is written without the unique number of another one', async () => {
  await withUniquePhone();
  const { isUntouched } = seedBoss();
  const id = zoho.seedLead({ Email: email, Last_Name: 'Liu' });
  await start();
  const synced = await pipeline.synced(
    await pipeline.send('calendly', booking('a', 1, { text_reminder_number: boss.Phone })),
  );
  isUntouched();
  assert.equal(synced.leads, [{ email, leadId: id, action: 'update' }]);
  assert.equal([theLead().Company, theLead().Phone], ['Brightwater', undefined]);
});

for (const [index, withoutScopes] of [[], ['coql'] as const].entries()) {
  test(`a new lead has its unique number once it stands, and it is the service’s own value (${['COQL', 'search'][index]})`, async () => {
    await withUniquePhone({ withoutScopes, indexLagMs: 'manual' });
    await start();
    const book = async (id: string, at: number, text_reminder_number: string) =>
      pipeline.synced(await pipeline.send('calendly', booking(id, at, { text_reminder_number })));
    const first = await book('a', 1, '+1 404 555 1234');
    assert.equal(first.leads, [{ email, leadId: theLead().id, action: 'insert' }]);
    assert.is(theLead().Phone, '+1 404 555 1234');
    assert.is(upserts().length, 2);
    await book('b', 2, '+1 404 555 9999');
    assert.is(theLead().Phone, '+1 404 555 9999');
    assert.is(upserts().length, 3);
  });
}

test('that Zoho can’t tell its fields for a moment has nobody written over', async () => {
  await withUniquePhone();
  const { isUntouched } = seedBoss();
  await start();
  zoho.faults.next({ status: 503 }, { path: '/crm/v8/settings/fields' });
  const synced = await pipeline.synced(
    await pipeline.send('calendly', booking('a', 1, { text_reminder_number: boss.Phone })),
  );
  isUntouched();
  assert.equal(synced.leads, [{ email, leadId: theLead().id, action: 'insert' }]);
});

test('where nobody tells which fields are unique, a write that went to another lead is a failure that names both', async () => {
  await withUniquePhone({ withoutScopes: ['fields'] });
  const { id } = seedBoss();
  await start();
  const sent = await pipeline.send('calendly', booking('a', 1, { text_reminder_number: boss.Phone }));
  const { status, failure } = await pipeline.finished(sent);
  assert.equal([status, failure?.error.code], ['failed', 'zoho_another_lead']);
  assert.match(failure!.error.message, id);
  assert.match(failure!.error.message, email);
  assert.is(upserts().length, 1);
});

test('a mandatory field is filled in where nothing is known for it, but not where that has to be unique', async () => {
  await zoho.stop();
  const mandatory = { system_mandatory: true, custom_field: true };
  const fields = [
    makeField('Region', mandatory),
    makeField('Number', { ...mandatory, unique: { casesensitive: 'false' } }),
  ];
  zoho = await startZoho({ fields: fields.slice(0, 1) });
  await start();
  await pipeline.finished(await pipeline.send('calendly', booking('a', 1)));
  assert.is(theLead().Region, 'Unknown');
  await pipeline.stop();
  await zoho.stop();
  zoho = await startZoho({ fields });
  tests += 1;
  await start();
  const people = ['ada@brightwater.example', 'bob@acme.example'];
  for (const [index, person] of people.entries()) {
    const sent = await pipeline.send('calendly', booking(`b${index}`, 2 + index, { email: person }));
    const { failure } = await pipeline.finished(sent);
    assert.is(failure?.error.code, 'zoho_mandatory_not_found');
  }
  assert.equal(zoho.leads(), [], 'nobody is written over anybody');
});

test('where Zoho does not tell its fields, a company that it demands is filled in, and gives way to a known one', async () => {
  await zoho.stop();
  zoho = await startZoho({
    withoutScopes: ['fields'],
    fields: [makeField('Company', { length: 100, system_mandatory: true })],
  });
  await start();
  const person = { email: 'karen@gmail.com', questions_and_answers: [] };
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('a', 1, person)));
  assert.equal(
    synced.leads.map(({ action }: { action: string }) => action),
    ['insert'],
  );
  assert.is(zoho.leads()[0]!.Company, 'Unknown');
  await pipeline.finished(await pipeline.send('calendly', booking('b', 2, { email: person.email })));
  assert.equal(
    zoho.leads().map(({ Company }) => Company),
    ['Brightwater'],
  );
});

test('a lead that was just made is found again where search does not see it yet, though its note failed', async () => {
  await zoho.stop();
  zoho = await startZoho({ withoutScopes: ['coql'], indexLagMs: 'manual' });
  await start({ RETRY_BASE_MS: '50' });
  const typeIt = () => {
    zoho.editLead(theLead().id, { Company: 'Typed' });
    return true;
  };
  zoho.faults.on(
    { path: '/crm/v8/Notes', when: typeIt, times: 1 },
    { status: 400, body: { data: [refusedRecord('RECORD_LOCKED')] } },
  );
  await pipeline.synced(await pipeline.send('calendly', canceled('a', 1)));
  assert.is(theLead().Company, 'Typed', 'what a person types meanwhile stays');
  assert.is(zoho.notes().length, 1);
});

test('who is entered by hand in the moment before the write is written under their address all the same', async () => {
  await start();
  zoho.faults.next({ status: 204 }, { path: '/crm/v8/coql' });
  zoho.faults.next({ status: 204 }, { path: '/crm/v8/coql' });
  const id = zoho.seedLead({ Email: email, Last_Name: 'Liu' });
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('a', 1)));
  assert.equal(synced.leads, [{ email, leadId: id, action: 'update' }]);
});

test('a lead that is deleted in the moment before the write is made anew', async () => {
  await start({ RETRY_BASE_MS: '50' });
  await pipeline.finished(await pipeline.send('calendly', booking('a', 1)));
  const { id } = theLead();
  const deleteIt = () => {
    zoho.deleteLead(id);
    return true;
  };
  zoho.faults.on({ path: '/crm/v8/Leads/upsert', when: deleteIt, times: 1 }, { latencyMs: 1 });
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('b', 2, { name: 'Karen Lee Liu' })));
  assert.equal(synced.leads, [{ email, leadId: theLead().id, action: 'insert' }]);
  assert.is.not(theLead().id, id);
});

test('who books again without a campaign keeps the source that brought them', async () => {
  await start();
  const tracking = { utm_source: 'partner' };
  await pipeline.finished(await pipeline.send('calendly', booking('a', 1, { tracking })));
  assert.is(theLead().Lead_Source, 'Partner');
  await pipeline.finished(await pipeline.send('calendly', booking('b', 2)));
  assert.is(theLead().Lead_Source, 'Partner');
});

test('a lead whose address a person has cleared is nobody’s: who books again is a lead of its own', async () => {
  await start();
  await pipeline.finished(await pipeline.send('calendly', booking('a', 1)));
  const { id } = theLead();
  zoho.editLead(id, { Email: null });
  const synced = await pipeline.synced(await pipeline.send('calendly', booking('b', 2, { name: 'Karen Lee Liu' })));
  assert.equal(synced.leads, [{ email, leadId: theLead().id, action: 'insert' }]);
  assert.is.not(theLead().id, id);
  assert.equal([theLead().Last_Name, theLead().Company], ['Liu', 'Brightwater']);
  assert.is(zoho.leads().length, 2);
});

test('a cancellation sets the status and leaves a note; a moved booking is no cancellation', async () => {
  await start();
  await pipeline.finished(await pipeline.send('calendly', booking('a', 1)));
  await pipeline.finished(await pipeline.send('calendly', canceled('a', 5)));
  assert.is(theLead().Lead_Status, 'Meeting Canceled');
  assert.match(zoho.notes()[0]!.content, /Ill/);

  const old = fixture('calendly/reschedule-2-old-canceled.json');
  const synced = await pipeline.synced(await pipeline.send('calendly', old));
  assert.equal([synced.outcome, synced.reason], ['nothing_to_write', 'rescheduled']);
  await pipeline.finished(await pipeline.send('calendly', fixture('calendly/reschedule-1-new-created.json')));
  const [moved] = zoho.leadsOf(old.payload.email);
  assert.is(moved!.Lead_Status, 'Meeting Booked');
  assert.not.match(
    zoho
      .notes()
      .map(({ title }) => title)
      .join('\n')
      .split('\n')
      .slice(1)
      .join('\n'),
    /cancel/i,
  );
});

test('a meeting leaves its summary as a note on each external participant, never on a colleague', async () => {
  await start();
  const synced = await pipeline.synced(await pipeline.send('readai', meeting()));
  assert.equal(
    zoho.leads().map(({ Email }) => Email),
    ['karen@brightwater.example'],
  );
  assert.is(zoho.notes().length, 1);
  assert.match(zoho.notes()[0]!.content, /Karen wants a pilot/);
  assert.equal(
    synced.notes.map(({ leadId, noteId }: { leadId: string; noteId: string }) => [leadId, noteId]),
    [[zoho.leads()[0]!.id, zoho.notes()[0]!.id]],
  );
});

test('a meeting of which one lead is refused for good is one failure that names it; the others are written', async () => {
  await start({ MAX_ATTEMPTS: '2' });
  const person = (name: string, address: string) => ({ name, email: address });
  const tooLong = `ada@${'a'.repeat(60)}.${'b'.repeat(60)}.example`;
  const participants = [
    person('Karen Liu', 'karen@brightwater.example'),
    person('Ada Byron', tooLong),
    person('Omar Haddad', 'omar@brightwater.example'),
  ];
  const chain = await pipeline.finished(await pipeline.send('readai', meeting({ participants })));
  assert.is(chain.status, 'failed');
  assert.match(chain.failure!.error.message, tooLong);
  assert.is(await pipeline.redis.xlen(pipeline.keys.stream('events:failed')), 1);
  const written = zoho.leads().map(({ Email }) => Email);
  assert.equal(written.sort(), ['karen@brightwater.example', 'omar@brightwater.example']);
  assert.is(zoho.notes().length, 2);
});

test('of several leads of a meeting that are refused for good the one failure names each', async () => {
  await start();
  const person = (name: string, address: string) => ({ name, email: address });
  const refused = ['a', 'b', 'c'].map((letter) => `${letter}@${letter.repeat(60)}.${letter.repeat(60)}.example`);
  const participants = [
    person('Karen Liu', 'karen@brightwater.example'),
    ...refused.map((address) => person('Ada Byron', address)),
  ];
  // Another meeting of one of them: what they have in common may be to blame, so each is tried alone as well.
  const [first, second] = await Promise.all([
    pipeline.send('readai', meeting({ participants })),
    pipeline.send('readai', meeting({ session_id: 'M2', participants: participants.slice(1, 2) })),
  ]);
  const { failure } = await pipeline.finished(first!);
  for (const address of refused) assert.match(failure!.error.message, address);
  assert.is(failure!.error.code, 'zoho_invalid_data');
  assert.not.match((await pipeline.finished(second!)).failure!.error.message, refused[1]!);
});

test('a meeting pushed again with other content updates its note; an older revision that comes late writes nothing', async () => {
  await start();
  await pipeline.finished(await pipeline.send('readai', meeting()));
  const second = await pipeline.synced(
    await pipeline.send('readai', meeting({ request_id: 'R2', summary: 'Karen wants a pilot in January.' })),
  );
  assert.is(zoho.notes().length, 1);
  assert.match(zoho.notes()[0]!.content, /January/);
  assert.equal(
    second.notes.map(({ action }: { action: string }) => action),
    ['update'],
  );
});

/** As when it is older than the retention: its chain is dropped, and what recognises it has expired. */
async function trimMeeting(revisions: number): Promise<void> {
  const { redis, keys } = pipeline;
  const key = `readai:meeting_completed:${meeting().session_id}`;
  const options = { redis, keys, projections, retentionMs: 1_000_000, now: Date.now() + 1_060_000 };
  await waitFor('the meeting to be dropped', async () => {
    await trim(options, { isDryRun: false });
    return (await redis.exists(keys.progress(key))) === 0;
  });
  for (const of of [key, ...Array.from({ length: revisions - 1 }, (_, index) => `${key}:r${index + 2}`)]) {
    await redis.del(keys.idemSeen(of), keys.idemProcessed(of));
  }
}

test('a meeting pushed again after its chain was trimmed updates its note, whatever its revision is counted as', async () => {
  await start();
  await pipeline.finished(await pipeline.send('readai', meeting()));
  await pipeline.finished(await pipeline.send('readai', meeting({ request_id: 'R2', summary: 'A pilot in January.' })));
  for (const [request_id, month, revisionsTrimmed] of [
    ['R3', 'March', 2],
    ['R4', 'April', 0],
    ['R5', 'May', 2],
  ] as const) {
    if (revisionsTrimmed > 0) await trimMeeting(revisionsTrimmed);
    const again = meeting({ request_id, summary: `A pilot in ${month}.` });
    const synced = await pipeline.synced(await pipeline.send('readai', again));
    assert.equal([synced.outcome, synced.notes[0]?.action], ['written', 'update'], month);
    assert.equal([zoho.notes().length, zoho.notes()[0]!.content.includes(month)], [1, true], month);
  }
  await pipeline.stop();
  await start({ DRY_RUN: 'true' });
  await trimMeeting(1);
  const rehearsed = await pipeline.synced(
    await pipeline.send('readai', meeting({ request_id: 'R6', summary: 'A pilot in June.' })),
  );
  const requests = (rehearsed.requests ?? []).map(({ method, url }: { method: string; url: string }) => [method, url]);
  assert.equal(requests, [['PUT', '/crm/v8/Notes']]);
});

test('a revision that is delivered again after it failed never writes over the later one', async () => {
  await start();
  const refused = { status: 400, body: { data: [refusedRecord('NOT_ALLOWED')] } };
  zoho.faults.next(refused, { method: 'POST', path: '/crm/v8/Notes' });
  const first = await pipeline.send('readai', meeting());
  assert.is((await pipeline.finished(first)).status, 'failed');
  const later = meeting({ request_id: 'R2', summary: 'A pilot in January.' });
  await pipeline.finished(await pipeline.send('readai', later));
  const again = await pipeline.send('readai', meeting());
  assert.is.not(again, first);
  assert.equal((await pipeline.synced(again)).notes, []);
  assert.equal([zoho.notes().length, zoho.notes()[0]!.content.includes('January')], [1, true]);
});

test('a lead that became a contact is not made anew: its note goes to the deal', async () => {
  const id = zoho.seedLead({ Email: 'karen@brightwater.example', Last_Name: 'Liu' });
  const { dealId } = zoho.convertLead(id);
  await start();
  const synced = await pipeline.synced(await pipeline.send('readai', meeting()));
  assert.is(zoho.leadsOf('karen@brightwater.example').length, 1);
  assert.equal(
    zoho.notes().map(({ module, parentId }) => [module, parentId]),
    [['Deals', dealId]],
  );
  assert.equal([synced.outcome, synced.reason], ['written', 'lead_converted']);
});

test('a meeting among colleagues, a colleague who books and a form without an address write nothing', async () => {
  await start();
  const reasons: string[] = [];
  for (const [source, body] of [
    ['readai', fixture('readai/meeting-end-internal-only.json')],
    ['calendly', booking('a', 1, { email: 'sam@vendor.example' })],
    ['calendly', fixture('calendly/routing-form.json')],
  ] as const) {
    const synced = await pipeline.synced(await pipeline.send(source, body));
    assert.is(synced.outcome, 'nothing_to_write');
    reasons.push(synced.reason);
  }
  assert.equal(reasons, ['internal_meeting', 'colleague', 'no_email']);
  assert.is(zoho.leads().length, 0);
});

test('a backlog goes in batches, a bad record fails alone and its neighbours are written', async () => {
  zoho.faults.on({ path: '/crm/v8/Leads/upsert', times: 1 }, { latencyMs: 300 });
  await start({ MAX_ATTEMPTS: '2' });
  const ids = await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      pipeline.send(
        'calendly',
        booking(`n${index}`, 1, { email: index === 7 ? 'not an@address' : `n${index}@brightwater.example` }),
      ),
    ),
  );
  const chains = await Promise.all(ids.map((id) => pipeline.finished(id)));
  assert.equal(
    chains.filter(({ status }) => status === 'failed').map(({ eventId }) => ids.indexOf(eventId)),
    [7],
  );
  assert.match(chains[7]!.failure!.error.code, /^zoho_/);
  assert.is(zoho.leads().length, 39);
  assert.ok(upserts().length <= 10, `${upserts().length} upserts for 40 leads`);
});

test('an answer that is lost makes neither a second lead nor a second note', async () => {
  await start();
  zoho.faults.next({ doneButAnswerLost: true }, { path: '/crm/v8/Leads/upsert' });
  zoho.faults.next({ doneButAnswerLost: true }, { path: '/crm/v8/Notes' });
  const chain = await pipeline.finished(await pipeline.send('readai', meeting()));
  assert.is(chain.status, 'processed');
  assert.is(zoho.leads().length, 1);
  assert.is(zoho.notes().length, 1);
});

test('after Redis was emptied a meeting that comes again finds its note and adds none', async () => {
  await start();
  await pipeline.finished(await pipeline.send('readai', meeting()));
  await pipeline.stop();
  await pipeline.redis.quit().catch(() => {});
  tests += 1;
  await start();
  await pipeline.finished(await pipeline.send('readai', meeting()));
  assert.is(zoho.leads().length, 1);
  assert.is(zoho.notes().length, 1);
});

test('whatever the order, and with two workers, the CRM ends the same', async () => {
  const story = [
    ['calendly', booking('a', 1, { text_reminder_number: '+1 404 555 1234' })],
    ['calendly', booking('b', 3, { questions_and_answers: [{ question: 'Company', answer: 'Brightwater Inc' }] })],
    ['calendly', canceled('a', 5, { questions_and_answers: [] })],
    [
      'calendly',
      {
        ...booking('b', 7, {
          questions_and_answers: [],
          no_show: { uri: 'https://api.calendly.com/invitee_no_shows/N1' },
        }),
        event: 'invitee_no_show.created',
      },
    ],
    ['readai', meeting({ participants: [{ name: 'Karen L.', email }], end_time: '2026-11-02T09:00:06Z' })],
  ] as const;
  const outcome = () => {
    const { id: _id, Created_Time: _created, Modified_Time: _modified, ...fields } = theLead();
    return {
      fields,
      notes: zoho
        .notes()
        .map(({ title }) => title)
        .sort(),
    };
  };
  const orders = [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [2, 0, 4, 1, 3],
    [3, 1, 0, 4, 2],
  ];
  const results: ReturnType<typeof outcome>[] = [];
  for (const order of orders) {
    tests += 1;
    await zoho.stop();
    zoho = await startZoho();
    await start({}, 2);
    // The first goes one after another, as the reference; the others all at once.
    const ids: string[] = [];
    for (const index of order) {
      const [source, body] = story[index]!;
      ids.push(await pipeline.send(source, body));
      if (results.length === 0) await pipeline.finished(ids.at(-1)!);
    }
    for (const id of ids) assert.is((await pipeline.finished(id)).status, 'processed');
    results.push(outcome());
    if (results.length < orders.length) await pipeline.stop();
  }
  assert.is(results[0]!.fields.Lead_Status, 'No Show');
  assert.is(results[0]!.fields.Company, 'Brightwater Inc');
  for (const result of results.slice(1)) assert.equal(result, results[0]);
});

test('an outage of the CRM burns no attempt, and what waited is done after it', async () => {
  await start();
  await zoho.goDown();
  const eventId = await pipeline.send('calendly', booking('a', 1));
  await waitFor('the pause', async () => (await readOverview(pipeline)).pauses.length === 1);
  await zoho.comeBack();
  const chain = await pipeline.finished(eventId);
  assert.is(chain.status, 'processed');
  assert.is(chain.trail.at(-1)!.attempts, 1);
});

test('a lead that is new is written, though few of the day’s calls are left', async () => {
  await zoho.stop();
  zoho = await startZoho({ creditsMax: 30 });
  await start();
  const book = async (id: string) =>
    pipeline.finished(await pipeline.send('calendly', booking(id, 1, { email: `${id}@brightwater.example` })));
  // From the half of them on Zoho tells how many are left.
  for (let count = 0; zoho.creditsUsed() < 15; count += 1) await book(`n${count}`);
  await waitFor('it to be known to all', () => pipeline.redis.hget(pipeline.keys.limit('zoho'), 'left'));
  assert.is((await book('late')).status, 'processed');
});

test('a dry run writes nothing and shows the requests that it would have sent', async () => {
  await start({ DRY_RUN: 'true' });
  const synced = await pipeline.synced(await pipeline.send('readai', meeting()));
  assert.is(synced.outcome, 'dry_run');
  assert.equal(synced.leads, [{ email: 'karen@brightwater.example', leadId: null, action: 'insert' }]);
  assert.equal(
    synced.notes.map(({ noteId }: { noteId: null }) => noteId),
    [null],
  );
  assert.equal(
    synced.requests.map(({ method, url }: { method: string; url: string }) => `${method} ${url}`),
    ['POST /crm/v8/Leads/upsert', 'POST /crm/v8/Notes'],
  );
  assert.is(synced.requests[0].body.data[0].Email, 'karen@brightwater.example');
  assert.is(upserts().length, 0);
});

test('a dry run shows a value that is written once the new lead stands as a request of its own', async () => {
  await withUniquePhone();
  await start({ DRY_RUN: 'true' });
  const sent = await pipeline.send('calendly', booking('a', 1, { text_reminder_number: '+1 404 555 1234' }));
  const { requests } = await pipeline.synced(sent);
  const phones = requests.map(({ url, body }: { url: string; body: { data: { id?: null; Phone?: string }[] } }) => {
    const [{ id, Phone } = {}] = body.data;
    return [url, id, Phone];
  });
  assert.equal(phones, [
    ['/crm/v8/Leads/upsert', undefined, undefined],
    ['/crm/v8/Leads/upsert', null, '+1 404 555 1234'],
  ]);
});

test('a dry run shows the note of a lead that became a deal where a live run would write it', async () => {
  const { dealId } = zoho.convertLead(zoho.seedLead({ Email: 'karen@brightwater.example', Last_Name: 'Liu' }));
  await start({ DRY_RUN: 'true' });
  const { requests } = await pipeline.synced(await pipeline.send('readai', meeting()));
  assert.equal(
    requests.map(({ url, body }: { url: string; body: { data: { Parent_Id: object }[] } }) => [
      url,
      body.data[0]?.Parent_Id,
    ]),
    [['/crm/v8/Notes', { module: { api_name: 'Deals' }, id: dealId }]],
  );
});

test.run();
