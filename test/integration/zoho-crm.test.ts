import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError } from '../../src/lib/errors.js';
import { buildCreateNotesRequest, buildUpsertRequest } from '../../src/lib/providers/zoho/crm.js';
import { makeFieldCache } from '../../src/lib/providers/zoho/field-cache.js';
import { emailsOf, lead, setUpZoho } from '../helpers/zoho-crm.js';
import { waitForCall } from '../standins/http.js';

const signal = new AbortController().signal;

const test = suite('writing to Zoho CRM');
const setting = setUpZoho(test);

test('a lead is inserted, then updated, whatever the case of its address; results come in order', async () => {
  const crm = setting.connect();
  const first = await crm.upsertLeads([lead('Ada@Acme.example'), { Email: 'nameless@acme.example' }], { signal });
  const second = await crm.upsertLeads([lead('ada@acme.example', { Company: 'Acme Ltd' })], { signal });
  assert.equal(
    first.map(({ ok }) => ok),
    [true, false],
  );
  assert.ok(first[1] && !first[1].ok && first[1].code === 'MANDATORY_NOT_FOUND' && first[1].fields[0] === 'Last_Name');
  assert.ok(first[0]?.ok && second[0]?.ok && first[0].id === second[0].id);
  assert.equal(
    [first[0], second[0]].map((result) => result?.ok && result.action),
    ['insert', 'update'],
  );
  assert.is(setting.standin.leadsOf('ada@acme.example')[0]?.Company, 'Acme Ltd');
  assert.is(setting.crmCalls().length, 2);
});

test('a value that is too long refuses that record alone, and says how long it may be', async () => {
  const [long, fine] = await setting
    .connect()
    .upsertLeads([lead('a@acme.example', { First_Name: 'x'.repeat(41) }), lead('b@acme.example')], { signal });
  assert.ok(long && !long.ok && long.fields[0] === 'First_Name' && long.maxLength === 40 && !long.retryable);
  assert.ok(fine?.ok);
});

test('workflows run as Zoho has it, unless told otherwise', async () => {
  await setting.connect().upsertLeads([lead('a@acme.example')], { signal });
  await setting.connect({ trigger: [] }).upsertLeads([lead('a@acme.example')], { signal });
  const bodies = setting.crmCalls().map(({ body }) => body as Record<string, unknown>);
  assert.not('trigger' in bodies[0]!);
  assert.equal(bodies[1]!.trigger, []);
});

test('what a dry run shows is what is sent', async () => {
  const crm = setting.connect();
  const records = [lead('a@acme.example')];
  const [result] = await crm.upsertLeads(records, { signal });
  const notes = [{ module: 'Leads' as const, parentId: result?.ok ? result.id : '', title: 'Call', content: 'Text' }];
  await crm.createNotes(notes, { signal });
  const sent = setting.crmCalls().map(({ method, path, body }) => ({ method, url: path, body }));
  assert.equal(sent, [buildUpsertRequest(records), buildCreateNotesRequest(notes)]);
});

test('nothing to write is no call, and more than a call takes is a fault of the caller', async () => {
  const crm = setting.connect();
  assert.equal(await crm.upsertLeads([], { signal }), []);
  const error = await crm
    .upsertLeads(
      emailsOf(101).map((email) => lead(email)),
      { signal },
    )
    .catch((failure) => failure);
  assert.instance(error, RangeError);
  assert.is(setting.standin.calls.length, 0);
});

test('notes are created at leads and at what they became, updated, and listed whole', async () => {
  const crm = setting.connect();
  const leadId = setting.standin.seedLead(lead('a@acme.example'));
  const { dealId } = setting.standin.convertLead(setting.standin.seedLead(lead('b@acme.example')));
  const created = await crm.createNotes(
    [
      { module: 'Leads', parentId: leadId, title: 'Call', content: 'One\nTwo' },
      { module: 'Deals', parentId: dealId, title: 'Call', content: 'Three' },
      { module: 'Leads', parentId: '1', title: 'Call', content: 'Nowhere' },
    ],
    { signal },
  );
  assert.equal(
    created.map((result) => (result.ok ? 'ok' : result.fields.join())),
    ['ok', 'ok', 'Parent_Id'],
  );
  const id = created[0]?.ok ? created[0].id : '';
  const [updated] = await crm.updateNotes([{ id, title: 'Call, again', content: 'Four' }], { signal });
  assert.ok(updated?.ok && updated.id === id);
  assert.equal(await crm.listNotes('Leads', leadId, { signal }), [{ id, title: 'Call, again', content: 'Four' }]);
  const many = Array.from({ length: 100 }, (_, n) => ({
    module: 'Leads' as const,
    parentId: leadId,
    title: `${n}`,
    content: 'x',
  }));
  for (let count = 0; count < 3; count += 1) await crm.createNotes(many, { signal });
  assert.is((await crm.listNotes('Leads', leadId, { signal })).length, 301);
  assert.equal(
    await crm.listNotes('Contacts', setting.standin.notes()[1]!.parentId, { signal }).catch(({ code }) => code),
    'zoho_invalid_data',
  );
});

test("the organisation's fields are read; not being told is no failure", async () => {
  const status = (await setting.connect().leadFields({ signal }))?.find(({ apiName }) => apiName === 'Lead_Status');
  assert.ok(status?.choices.some(({ actual }) => actual === 'Meeting Booked'));
  await setting.start({ withoutScopes: ['fields'] });
  assert.is(await setting.connect().leadFields({ signal }), undefined);
});

test('the fields are asked for once for many, and asked again later where Zoho did not tell', async () => {
  const warnings: unknown[] = [];
  const readFields = makeFieldCache(setting.connect(), { warn: (message: unknown) => warnings.push(message) });
  const all = await Promise.all([readFields(), readFields(), readFields()]);
  assert.ok(all.every((fields) => fields && fields === all[0]));
  assert.is(setting.crmCalls().length, 1);
  await setting.start({ withoutScopes: ['fields'] });
  const unknown = makeFieldCache(setting.connect(), { warn: (message: unknown) => warnings.push(message) });
  assert.equal([await unknown(), await unknown()], [undefined, undefined]);
  assert.is(warnings.length, 1);
});

test('while Zoho fails to tell its fields it is waited for a few times, and asked again each time', async () => {
  const readFields = makeFieldCache(setting.connect(), { warn: () => {} });
  const end = setting.standin.faults.on({ path: '/crm/v8/settings/fields' }, { status: 503 });
  for (let n = 0; n < 5; n += 1) assert.instance(await readFields().catch((error: unknown) => error), OutageError);
  assert.is(await readFields(), undefined, 'a lead must not wait for ever');
  end();
  assert.ok(await readFields(), 'known from its return on');
});

test('limits of Zoho reach the caller as an outage', async () => {
  await setting.start({ concurrencyMax: 1 });
  const crm = setting.connect();
  await crm.leadFields({ signal });
  const refusal = waitForCall(setting.standin, ({ status }) => status === 429);
  setting.standin.faults.next({ until: refusal });
  const answers = await Promise.allSettled([1, 2].map((n) => crm.upsertLeads([lead(`${n}@acme.example`)], { signal })));
  const refused = answers.filter((answer) => answer.status === 'rejected');
  assert.equal(
    refused.map(({ reason }) => reason.code),
    ['zoho_too_many_requests'],
  );
  await setting.start({ creditsMax: 1 });
  const broke = setting.connect();
  await broke.leadFields({ signal });
  assert.is(
    await broke.upsertLeads([lead('a@acme.example')], { signal }).catch(({ code }) => code),
    'zoho_too_many_requests',
  );
});

test.run();
