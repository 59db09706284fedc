import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DATA_CENTRES, parseApiDomain } from '../../src/lib/providers/zoho/data-centres.js';
import { cutText, fitField } from '../../src/lib/providers/zoho/field-rules.js';
import { readFields } from '../../src/lib/providers/zoho/fields.js';
import { readResults } from '../../src/lib/providers/zoho/results.js';
import { LEAD_FIELDS, makeField } from '../standins/zoho/fields.js';

const metadata = readFields({
  fields: [
    ...LEAD_FIELDS,
    makeField('Budget', { data_type: 'currency' }),
    makeField('Renewal_Date', { data_type: 'date' }),
    { api_name: 'Broken' },
  ],
});

const fitValue = (...args: Parameters<typeof fitField>) => {
  const fitted = fitField(...args);
  return 'value' in fitted ? fitted.value : undefined;
};

const rules = suite('what a Zoho field takes');

rules('text is cut to the length of the field, by code point', () => {
  assert.is(fitValue('First_Name', 'a'.repeat(41), metadata), 'a'.repeat(40));
  assert.is(fitValue('First_Name', '👋'.repeat(41), metadata), '👋'.repeat(40));
  assert.is(fitValue('First_Name', '👋'.repeat(40), metadata), '👋'.repeat(40));
  assert.is(cutText('abc def', 4), 'abc');
});

rules('the organisation decides the length, not the standard', () => {
  const wide = readFields({ fields: [makeField('Company', { length: 200 })] });
  assert.is(fitValue('Company', 'c'.repeat(300), wide)?.length, 200);
});

rules('without metadata the standard lengths hold, and an unknown field takes a line', () => {
  assert.is(fitValue('Company', 'c'.repeat(300), undefined)?.length, 100);
  assert.is(fitValue('Description', 'd'.repeat(40_000), undefined)?.length, 32_000);
  assert.is(fitValue('MEDDIC_Champion', 'm'.repeat(300), undefined)?.length, 255);
  assert.is(fitValue('Lead_Status', 'Meeting Booked', undefined), 'Meeting Booked');
});

rules('a picklist takes what it lists, in any case, and is given what the API takes', () => {
  assert.is(fitValue('Lead_Status', 'meeting booked', metadata), 'Meeting Booked');
  assert.equal(fitField('Lead_Status', 'Meeting Rescheduled', metadata), { leftOut: 'not_in_picklist' });
  const renamed = readFields({
    fields: [
      {
        ...makeField('Stage', {}),
        data_type: 'picklist',
        pick_list_values: [null, { display_value: 'Won', actual_value: 'Closed Won' }],
      },
    ],
  });
  assert.is(fitValue('Stage', 'WON', renamed), 'Closed Won');
});

const leftOut: [field: string, value: string, why: string][] = [
  ['No_Such_Field', 'x', 'unknown_field'],
  ['Full_Name', 'Ada Byron', 'read_only'],
  ['Modified_Time', '2026-11-23T10:00:00Z', 'read_only'],
  ['Phone', '1'.repeat(31), 'too_long'],
  ['Email', `${'a'.repeat(100)}@acme.example`, 'too_long'],
  ['Website', `https://${'w'.repeat(120)}.example`, 'too_long'],
  ['Budget', '100', 'wrong_type'],
  ['Meeting_Time', 'tomorrow', 'wrong_type'],
  ['Company', '  ', 'empty'],
];

for (const [field, value, why] of leftOut) {
  rules(`${field} is left out: ${why}`, () => {
    assert.equal(fitField(field, value, metadata), { leftOut: why });
    assert.is(fitValue(field, value, metadata), undefined);
  });
}

rules('a phone number or address is never cut, also without metadata', () => {
  assert.is(fitValue('Phone', '1'.repeat(31), undefined), undefined);
});

rules('times are written with an offset and whole seconds', () => {
  assert.is(fitValue('Meeting_Time', '2026-11-23T10:00:00.250+02:00', metadata), '2026-11-23T08:00:00+00:00');
  assert.is(fitValue('Renewal_Date', '2026-11-23T10:00:00Z', metadata), '2026-11-23');
});

rules('metadata that cannot be read is left out, and no metadata is none', () => {
  assert.not.ok(metadata?.some(({ apiName }) => apiName === 'Broken'));
  assert.is(readFields({}), undefined);
  assert.is(readFields(undefined), undefined);
});

const centres = suite('Zoho data centres');

centres('a token may only be sent to hosts of Zoho', () => {
  const taken = ['https://www.zohoapis.eu', 'https://www.zohoapis.com.au/', 'https://sandbox.zohoapis.com'];
  assert.equal(taken.map(parseApiDomain), [
    'https://www.zohoapis.eu',
    'https://www.zohoapis.com.au',
    'https://sandbox.zohoapis.com',
  ]);
  const refused = [
    'http://www.zohoapis.eu',
    'https://zohoapis.eu',
    'https://www.zohoapis.eu.attacker.example',
    'https://www.zohoapis.attacker',
    'https://www.zohoapis.eu:8443',
    'https://attacker.example/www.zohoapis.eu',
    'www.zohoapis.eu',
    '',
    undefined,
  ];
  for (const domain of refused) assert.is(parseApiDomain(domain), undefined, String(domain));
});

centres('every data centre has an API host that is taken', () => {
  assert.is(Object.keys(DATA_CENTRES).length, 10);
  for (const { apiUrl, accountsUrl } of Object.values(DATA_CENTRES)) {
    assert.is(parseApiDomain(apiUrl), apiUrl);
    assert.match(accountsUrl, /^https:\/\/accounts\.zoho/);
  }
});

const results = suite('what became of a record');

results('each record has its own result, in order', () => {
  const data = [
    { code: 'SUCCESS', status: 'success', action: 'update', details: { id: '572576700000142001' } },
    { code: 'INVALID_DATA', status: 'error', details: { api_name: 'Company', maximum_length: '100' } },
    { code: 'SUCCESS', status: 'success', details: { id: '572576700000142002' } },
  ];
  const [first, second, third, fourth] = readResults({ data }, 4);
  assert.equal(first, { ok: true, id: '572576700000142001', action: 'update' });
  assert.equal(second, {
    ok: false,
    code: 'INVALID_DATA',
    message: 'Zoho refused the record: INVALID_DATA in Company at most 100 characters',
    retryable: false,
    fields: ['Company'],
    maxLength: 100,
  });
  assert.equal(third, { ok: true, id: '572576700000142002' });
  assert.ok(fourth && !fourth.ok && fourth.code === 'NO_RESULT' && fourth.retryable);
});

const refusals: [what: string, given: object, expected: object][] = [
  ['a locked record', { code: 'RECORD_LOCKED' }, { code: 'RECORD_LOCKED', retryable: true }],
  [
    'a missing field',
    { code: 'MANDATORY_NOT_FOUND', details: { api_name: 'Last_Name' } },
    { fields: ['Last_Name'], retryable: false },
  ],
  [
    'a wrong type',
    { code: 'INVALID_DATA', details: { expected_data_type: 'picklist', api_name: 'Lead_Status' } },
    { fields: ['Lead_Status'] },
  ],
  [
    'a duplicate',
    { code: 'DUPLICATE_DATA', details: { api_name: 'Phone', duplicate_record: { id: '572576700000142009' } } },
    { duplicateId: '572576700000142009', retryable: false },
  ],
  [
    'a converted lead by its message',
    { code: 'INVALID_DATA', message: "can't update the converted record", details: { id: '5' } },
    { code: 'CONVERTED_RECORD' },
  ],
  [
    'a converted lead by its code',
    { code: 'ID_ALREADY_CONVERTED', details: {} },
    { code: 'CONVERTED_RECORD', retryable: false },
  ],
  ['a changed record', { code: 'ALREADY_MODIFIED' }, { retryable: true }],
  ['no code', {}, { code: 'NO_RESULT', retryable: true }],
];

for (const [what, given, expected] of refusals) {
  results(`${what} is told apart`, () => {
    const [result] = readResults({ data: [{ status: 'error', ...given }] }, 1);
    assert.is(result?.ok, false);
    for (const [name, value] of Object.entries(expected))
      assert.equal((result as Record<string, unknown>)[name], value, name);
  });
}

results('a success whose id is not a string is none: a number has lost digits', () => {
  const [result] = readResults(
    { data: [{ code: 'SUCCESS', status: 'success', details: { id: Number('572576700000142001') } }] },
    1,
  );
  assert.is(result?.ok, false);
});

rules.run();
centres.run();
results.run();
