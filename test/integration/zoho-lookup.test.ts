import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { emailsOf, lead, setUpZoho } from '../helpers/zoho-crm.js';
import type { ZohoOptions as StandinOptions } from '../standins/zoho.js';

const signal = new AbortController().signal;
const FIELDS = ['Company', 'Lead_Status'];

const test = suite('finding leads in Zoho');
const setting = setUpZoho(test);

test('a lead is found before search knows it, with the fields asked for', async () => {
  const crm = setting.connect();
  const [written] = await crm.upsertLeads([lead("O'Hara+x@Acme.example", { Lead_Status: 'Contacted' })], { signal });
  const [found, ...others] = await crm.findLeads(["o'hara+x@acme.example", 'nobody@acme.example'], FIELDS, { signal });
  assert.is(others.length, 0);
  assert.is(found?.id, written?.ok && written.id);
  assert.is(found?.email, "o'hara+x@acme.example");
  assert.equal(found?.fields, { Email: "O'Hara+x@Acme.example", Company: 'Acme', Lead_Status: 'Contacted' });
  assert.ok(found?.modifiedTime);
  assert.is(found?.converted, undefined);
  assert.not(crm.usesSearchFallback());
});

test('an empty field is null, as a person who cleared it left it', async () => {
  const id = setting.standin.seedLead(lead('a@acme.example'));
  setting.standin.editLead(id, { Company: null });
  const [found] = await setting.connect().findLeads(['a@acme.example'], FIELDS, { signal });
  assert.equal(found?.fields, { Email: 'a@acme.example', Company: null, Lead_Status: null });
});

test('a hundred known leads cost two queries, a hundred unknown ones four', async () => {
  const emails = emailsOf(100);
  for (const email of emails) setting.standin.seedLead(lead(email));
  const crm = setting.connect();
  assert.is((await crm.findLeads(emails, FIELDS, { signal })).length, 100);
  assert.is(setting.crmCalls().length, 2);
  await crm.findLeads(
    emails.map((email) => `no${email}`),
    FIELDS,
    { signal },
  );
  assert.is(setting.crmCalls().length, 6);
});

const organisations: [what: string, options: StandinOptions][] = [
  ['COQL hides it unless asked', {}],
  ['COQL does not know the column', { coqlKnowsConverted: false }],
  ['COQL shows it unasked', { coqlShowsConverted: true }],
  ['COQL does not know the column and shows it', { coqlKnowsConverted: false, coqlShowsConverted: true }],
];

for (const [what, options] of organisations) {
  test(`a converted lead is known for one and says where it went: ${what}`, async () => {
    await setting.start({ ...options, indexLagMs: 0 });
    const crm = setting.connect();
    const open = setting.standin.seedLead(lead('b@acme.example'));
    const id = setting.standin.seedLead(lead('a@acme.example'));
    const conversion = setting.standin.convertLead(id);
    for (let count = 0; count < 2; count += 1) {
      const found = await crm.findLeads(['a@acme.example', 'b@acme.example', 'c@acme.example'], FIELDS, { signal });
      const expected = [
        { id, converted: conversion, company: 'Acme' },
        { id: open, converted: undefined, company: 'Acme' },
      ];
      const seen = found.map((one) => ({ id: one.id, converted: one.converted, company: one.fields.Company }));
      assert.equal(new Map(seen.map((one) => [one.id, one])), new Map(expected.map((one) => [one.id, one])));
      assert.is(found.length, 2);
    }
    assert.not(crm.usesSearchFallback());
  });
}

test('of an open and a converted lead the open one counts, of two open ones the oldest', async () => {
  setting.standin.convertLead(setting.standin.seedLead(lead('a@acme.example')));
  const older = setting.standin.seedLead(lead('a@acme.example'));
  setting.standin.seedLead(lead('A@acme.example'));
  const found = await setting.connect().findLeads(['a@acme.example'], FIELDS, { signal });
  assert.equal(
    found.map(({ id, converted }) => [id, converted]),
    [[older, undefined]],
  );
});

for (const [what, options] of [
  ['COQL', {}],
  ['search', { withoutScopes: ['coql'], indexLagMs: 0 }],
] as [string, StandinOptions][]) {
  test(`an address with more leads than an answer of ${what} holds hides no other`, async () => {
    await setting.start(options);
    const ids = Array.from({ length: 200 }, () => setting.standin.seedLead(lead('many@acme.example')));
    const other = setting.standin.seedLead(lead('other@acme.example'));
    const found = await setting.connect().findLeads(['many@acme.example', 'other@acme.example'], FIELDS, { signal });
    assert.equal(
      found.map(({ id }) => id),
      [ids[0], other],
    );
  });
}

const withoutCoql: [what: string, prepare: () => Promise<void>][] = [
  ['the token lacks its scope', () => setting.start({ withoutScopes: ['coql'], indexLagMs: 0 })],
  [
    'there is none',
    async () => {
      await setting.start({ indexLagMs: 0 });
      setting.standin.faults.on(
        { path: '/crm/v8/coql' },
        { status: 404, body: { code: 'INVALID_URL_PATTERN', status: 'error' } },
      );
    },
  ],
  [
    'a gateway refuses its path',
    async () => {
      await setting.start({ indexLagMs: 0 });
      setting.standin.faults.on({ path: '/crm/v8/coql' }, { status: 404, body: 'not found' });
    },
  ],
];

for (const [what, prepare] of withoutCoql) {
  test(`without COQL (${what}) search finds leads, and COQL is not asked again`, async () => {
    await prepare();
    const crm = setting.connect();
    const emails = emailsOf(12);
    for (const email of emails) setting.standin.seedLead(lead(email));
    setting.standin.seedLead(lead('other@acme.example', { Secondary_Email: 'second@acme.example' }));
    setting.standin.seedLead(lead('xperson1@acme.example'));
    const conversion = setting.standin.convertLead(setting.standin.seedLead(lead('gone@acme.example')));
    const wanted = [...emails, 'second@acme.example', 'gone@acme.example'];
    for (let count = 0; count < 2; count += 1) {
      const found = await crm.findLeads(wanted, FIELDS, { signal });
      assert.equal(
        found.map(({ email }) => email),
        [...emails, 'gone@acme.example'],
      );
      assert.equal(found.at(-1)?.converted, conversion);
    }
    assert.ok(crm.usesSearchFallback());
    assert.is(setting.crmCalls().filter(({ path }) => path.endsWith('/coql')).length, 1);
  });
}

test('a field that COQL does not know costs the short way, not the look-up', async () => {
  const crm = setting.connect();
  const [written] = await crm.upsertLeads([lead('a@acme.example')], { signal });
  for (let count = 0; count < 2; count += 1) {
    const [found] = await crm.findLeads(['a@acme.example'], ['Company', 'No_Such_Field'], { signal });
    assert.is(found?.id, written?.ok && written.id);
    assert.is(found?.fields.Company, 'Acme');
  }
  assert.not(crm.usesSearchFallback());
});

test('an address that Zoho cannot search for spoils no other', async () => {
  await setting.start({ indexLagMs: 0 });
  const refusal = { status: 400, body: { code: 'INVALID_QUERY', status: 'error' } };
  setting.standin.faults.on({ when: ({ rawBody, query }) => `${rawBody}${query}`.includes('odd') }, refusal);
  const id = setting.standin.seedLead(lead('a@acme.example'));
  const crm = setting.connect();
  const found = await crm.findLeads(['odd@acme.example', 'a@acme.example'], FIELDS, { signal });
  assert.equal(
    found.map((one) => one.id),
    [id],
  );
  assert.not(crm.usesSearchFallback());
});

test('leads are read by id, without the index; deleted ones are missing', async () => {
  const crm = setting.connect();
  const results = await crm.upsertLeads([lead('a@acme.example'), lead('b@acme.example')], { signal });
  const ids = results.flatMap((result) => (result.ok ? [result.id] : []));
  setting.standin.deleteLead(ids[0]!);
  const conversion = setting.standin.convertLead(ids[1]!);
  const found = await crm.readLeads(ids, FIELDS, { signal });
  assert.equal(
    found.map(({ id, converted }) => [id, converted]),
    [[ids[1], conversion]],
  );
  assert.equal(await crm.readLeads([ids[0]!], FIELDS, { signal }), []);
});

test.run();
