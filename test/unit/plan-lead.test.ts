import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeFieldMap } from '../../src/consumers/crm-sync/field-map.js';
import type { Fact, LeadFacts } from '../../src/consumers/crm-sync/lead-facts.js';
import { STATUS_TEXTS, statusOf } from '../../src/consumers/crm-sync/lead-status.js';
import { planLead } from '../../src/consumers/crm-sync/plan-lead.js';
import { addWrote, hashValue, type LeadState } from '../../src/lib/lead-state.js';

const test = suite('what is written to a lead');

const email = 'karen@brightwater.example';
const fieldMap = makeFieldMap({});
const fit = (_field: string, value: string) => value;
const orderAt = (time: number) => `${(time * 1e6).toString(36).padStart(11, '0')}.1.a.000`;

const said = (time: number, ...facts: [Fact['field'], string, Fact['quality']?][]): LeadFacts => ({
  event: {} as LeadFacts['event'],
  email,
  order: orderAt(time),
  facts: facts.map(([field, value, quality = 2]) => ({ field, value, quality })),
});

const wrote = (time: number, field: string, value: string, quality = 2): LeadState =>
  addWrote({}, { order: orderAt(time), fields: { [field]: `${quality}${hashValue(value)}` } });

const plan = (
  facts: LeadFacts[],
  crmFields: Record<string, unknown> | undefined,
  known: LeadState = {},
  map = fieldMap,
) => {
  const crmLead = crmFields === undefined ? undefined : { id: '1', fields: crmFields };
  const { fields } = planLead({ email, facts, known, crmLead, fieldMap: map, fit });
  return Object.fromEntries([...fields].map(([field, { value }]) => [field, value]));
};

test('a new lead gets every fact, and a stand-in for what the CRM demands', () => {
  assert.equal(plan([said(1, ['firstName', 'Karen'], ['jobTitle', 'COO'])], undefined), {
    First_Name: 'Karen',
    Designation: 'COO',
    Last_Name: 'karen',
    Company: 'brightwater.example',
  });
});

test('a personal address names no company, nor does a role address', () => {
  for (const address of ['ada@gmail.com', 'info@brightwater.example']) {
    const { fields } = planLead({ email: address, facts: [said(1)], known: {}, crmLead: undefined, fieldMap, fit });
    assert.equal([...fields.keys()], ['Last_Name']);
  }
});

const cases: [string, Parameters<typeof plan>, Record<string, string>][] = [
  ['an empty field is filled', [[said(1, ['company', 'Brightwater'])], { Company: null }], { Company: 'Brightwater' }],
  ['a value that a person typed stays', [[said(1, ['company', 'Brightwater'])], { Company: 'BW Holding' }], {}],
  [
    'a value that this service wrote gives way to a later fact',
    [[said(2, ['company', 'Brightwater Inc'])], { Company: 'Brightwater' }, wrote(1, 'Company', 'Brightwater')],
    { Company: 'Brightwater Inc' },
  ],
  [
    'an older fact that comes late does not win over a later one',
    [[said(1, ['company', 'Brightwater'])], { Company: 'Brightwater Inc' }, wrote(2, 'Company', 'Brightwater Inc')],
    {},
  ],
  [
    'a value of ours that a person has changed stays',
    [[said(2, ['company', 'Brightwater Inc'])], { Company: 'BW' }, wrote(1, 'Company', 'Brightwater')],
    {},
  ],
  [
    'a value of ours that a person has cleared stays cleared',
    [[said(2, ['company', 'Inc'])], { Company: null }, wrote(1, 'Company', 'B')],
    {},
  ],
  [
    'what a model suggests does not replace what a payload said',
    [[said(2, ['company', 'Guess Ltd', 1])], { Company: 'Brightwater' }, wrote(1, 'Company', 'Brightwater', 2)],
    {},
  ],
  [
    'what a payload says replaces what a model had suggested, whenever it comes',
    [[said(1, ['company', 'Brightwater'])], { Company: 'Guess Ltd' }, wrote(2, 'Company', 'Guess Ltd', 1)],
    { Company: 'Brightwater' },
  ],
  [
    'no stand-in is written to a lead that is there',
    [[said(1, ['firstName', 'Karen'])], { First_Name: null, Company: null }],
    { First_Name: 'Karen' },
  ],
];

for (const [name, args, expected] of cases) {
  test(name, () => assert.equal(plan(...args), expected));
}

const seenCases: [string, Parameters<typeof plan>, Record<string, string>][] = [
  ['a person’s value', [[said(1)], { Company: 'BW' }], { Company: hashValue('BW') }],
  [
    'a value of ours that a person has changed',
    [[said(2)], { Company: 'BW' }, wrote(1, 'Company', 'B')],
    { Company: hashValue('BW') },
  ],
  [
    'a value of ours that a person has cleared',
    [[said(2)], { Company: null }, wrote(1, 'Company', 'B')],
    { Company: '' },
  ],
  [
    'nothing of what is ours, empty, or no field of the map',
    [[said(2)], { Company: 'B', Rating: 'A' }, wrote(1, 'Company', 'B')],
    {},
  ],
  [
    'nothing of what is written now',
    [[said(2, ['company', 'B Inc'], ['jobTitle', 'COO'])], { Company: 'B' }, wrote(1, 'Company', 'B')],
    {},
  ],
  ['nothing in a lead that is new', [[said(1, ['company', 'B'])], undefined], {}],
];

for (const [name, [facts, fields, known = {}], expected] of seenCases) {
  test(`noted as seen is ${name}`, () => {
    const crmLead = fields === undefined ? undefined : { id: '1', fields };
    assert.equal(planLead({ email, facts, known, crmLead, fieldMap, fit }).seen, expected);
  });
}

test('what the service owns is noted as seen where it is left, and not where it is written over', () => {
  const map = makeFieldMap({ company: { field: 'Company', owner: 'service' } });
  const seenWith = (facts: LeadFacts[]) =>
    planLead({ email, facts, known: {}, crmLead: { id: '1', fields: { Company: 'BW' } }, fieldMap: map, fit }).seen;
  assert.equal(seenWith([said(1)]), { Company: hashValue('BW') });
  assert.equal(seenWith([said(1, ['company', 'B'])]), {});
  assert.equal(seenWith([said(1, ['company', 'BW'])]), {}, 'it counts as the fact’s');
});

test('a field that the map gives to the service is written over', () => {
  const map = makeFieldMap({ company: { field: 'Company', owner: 'service' } });
  assert.equal(plan([said(1, ['company', 'Brightwater'])], { Company: 'BW Holding' }, {}, map), {
    Company: 'Brightwater',
  });
});

test('a value that stands in a field of the service already counts as the fact’s: no older one comes over it', () => {
  const map = makeFieldMap({ company: { field: 'Company', owner: 'service' } });
  const facts = [said(2, ['company', 'Beta'])];
  const crmLead = { id: '1', fields: { Company: 'Beta' } };
  const { fields, standing } = planLead({ email, facts, known: {}, crmLead, fieldMap: map, fit });
  assert.equal([fields.size, standing.get('Company')?.value], [0, 'Beta']);
  assert.equal(plan([said(1, ['company', 'Acme'])], { Company: 'Beta' }, wrote(2, 'Company', 'Beta'), map), {});
  const ofPerson = planLead({ email, facts, known: {}, crmLead, fieldMap, fit });
  assert.is(ofPerson.standing.size, 0, 'a person’s stays a person’s');
});

test('events folded into one record give the same as one after another', () => {
  const first = said(1, ['company', 'Old'], ['jobTitle', 'COO']);
  const second = said(2, ['company', 'New']);
  assert.equal(plan([first, second], { Company: null }), plan([second, first], { Company: null }));
  assert.equal(plan([second, first], { Company: null }), { Company: 'New', Designation: 'COO' });
});

test('of two of our fields that the map puts into one of the CRM the better or later fact stands, as one after another', () => {
  const map = makeFieldMap({ jobTitle: { field: 'Company', owner: 'person' } });
  const [better, worse] = [said(1, ['company', 'Brightwater']), said(2, ['jobTitle', 'COO', 1])];
  for (const facts of [
    [better, worse],
    [worse, better],
  ]) {
    assert.is(plan(facts, { Company: null }, {}, map).Company, 'Brightwater');
    assert.is(plan(facts, undefined, {}, map).Company, 'Brightwater');
  }
  const { fields, standing } = planLead({
    ...{ email, facts: [said(5, ['company', 'Brightwater']), said(3, ['jobTitle', 'COO'])], fieldMap: map, fit },
    ...{ known: wrote(1, 'Company', 'Brightwater'), crmLead: { id: '1', fields: { Company: 'Brightwater' } } },
  });
  assert.equal([fields.size, standing.get('Company')?.order], [0, orderAt(5)], 'what stands is the later one');
});

test('the latest event of all bookings decides the status', () => {
  const status = (...bookings: [string, string, number][]) =>
    statusOf(
      Object.fromEntries(
        bookings.map(([state, startsAt, time], index) => [`b${index}`, [state, startsAt, orderAt(time)]]),
      ),
    )?.value;
  assert.is(status(['booked', '', 1]), STATUS_TEXTS.booked);
  assert.is(status(['canceled', '', 2]), STATUS_TEXTS.canceled);
  assert.is(status(['no_show', '', 2], ['booked', '', 1]), STATUS_TEXTS.no_show);
  assert.is(status(), undefined);
});

test('a booking that was moved away counts no more, whatever became of the new one', () => {
  const order = orderAt(2);
  const bookings = (state: string) => ({
    old: ['moved', '', order] as [string, string, string],
    new: [state, '2026-12-01T15:00:00Z', orderAt(3)] as [string, string, string],
  });
  assert.is(statusOf(bookings('canceled'))?.value, STATUS_TEXTS.canceled);
  assert.is(statusOf(bookings('booked'))?.value, STATUS_TEXTS.booked);
  assert.is(statusOf({ old: ['moved', '', order] }), undefined);
});

test('a cancellation does not hide another booking that is still to come', () => {
  const bookings = (startsAt: string) => ({
    a: ['canceled', '2026-11-10T15:00:00Z', orderAt(1_794_000_000)] as [string, string, string],
    b: ['booked', startsAt, orderAt(1_793_000_000)] as [string, string, string],
  });
  assert.is(statusOf(bookings('2026-12-01T15:00:00Z'))?.value, STATUS_TEXTS.booked);
  assert.is(statusOf(bookings('2026-01-01T15:00:00Z'))?.value, STATUS_TEXTS.canceled);
});

test.run();
