import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkCalendlySignature } from '../../src/ingest/sources/calendly-signature.js';
import { calendlySignature } from '../helpers/webhooks.js';

const test = suite('Calendly signature');

const NOW_S = 1_790_000_000;
const KEY = 'ada-signing-key';
const BODY = '{"event":"invitee.created","payload":{"name":"Zoë Müller"}}';
const DIGEST = '03a03dfea9a1a26bb3f49240bb116640481cb51b6e7a19fe75420949753c7b1e';

function check(
  body: string,
  header: string | undefined,
  { signingKeys = [KEY], toleranceS = 300, nowMs = NOW_S * 1000 } = {},
) {
  return checkCalendlySignature(Buffer.from(body), header, { signingKeys, toleranceS }, new Date(nowMs));
}
const sign = (time = NOW_S, key = KEY) => calendlySignature(BODY, { key, time });

// Digests made with another implementation (Python's hmac): the same object, written in three ways.
const VECTORS = [
  { name: 'compact UTF-8', body: BODY, digest: DIGEST },
  {
    name: 'escaped letters',
    body: '{"event":"invitee.created","payload":{"name":"Zo\\u00eb M\\u00fcller"}}',
    digest: 'cc83ea884df57d768d95a594bb4e7f1a032b4e30a8e5ee9312206b3a6d99d9af',
  },
  {
    name: 'white space',
    body: '{ "event": "invitee.created",\n  "payload": { "name": "Zoë Müller" } }\n',
    digest: '5201ee0b918fe85db1ad7b23c8267e53afa4b3f67c6b36a1dfc8f094a5287d69',
  },
];
for (const { name, body, digest } of VECTORS) {
  test(`the bytes count, not what they mean: ${name}`, () => {
    assert.is(check(body, `t=${NOW_S},v1=${digest}`), 'authentic');
    assert.is(check(JSON.stringify(JSON.parse(body)), `t=${NOW_S},v1=${digest}`) === 'authentic', body === BODY);
  });
}

const ACCEPTED = [
  { name: 'the parts in another order', header: `v1=${DIGEST},t=${NOW_S}` },
  { name: 'unknown parts beside it', header: `t=${NOW_S},v0=abc,v2=def,v1=${DIGEST},note` },
  { name: 'several v1, one of them right', header: `t=${NOW_S},v1=${'0'.repeat(64)},v1=${DIGEST}` },
  { name: 'white space around the parts', header: ` t = ${NOW_S} , v1 = ${DIGEST} ` },
  { name: 'capitals in the digest', header: `t=${NOW_S},v1=${DIGEST.toUpperCase()}` },
];
for (const { name, header } of ACCEPTED) {
  test(`accepts ${name}`, () => {
    assert.is(check(BODY, header), 'authentic');
  });
}

const REFUSED = [
  { name: 'a digest of another body', header: calendlySignature('{}', { key: KEY, time: NOW_S }) },
  { name: 'a digest by another key', header: sign(NOW_S, 'another key') },
  { name: 'another time than the signed one', header: sign().replace(`t=${NOW_S}`, `t=${NOW_S + 1}`) },
  { name: 'no time', header: `v1=${DIGEST}` },
  { name: 'two times', header: `t=${NOW_S},t=${NOW_S - 1},v1=${DIGEST}` },
  { name: 'a time that is no number', header: `t=${NOW_S}.5,v1=${DIGEST}` },
  { name: 'no digest', header: `t=${NOW_S}` },
  { name: 'a digest under another name', header: `t=${NOW_S},v0=${DIGEST}` },
  { name: 'a cut digest', header: `t=${NOW_S},v1=${DIGEST.slice(0, 32)}` },
  { name: 'a digest that is no hex', header: `t=${NOW_S},v1=${'z'.repeat(64)}` },
  { name: 'anything else', header: 'Bearer of news' },
];
for (const { name, header } of REFUSED) {
  test(`refuses ${name}`, () => {
    assert.is(check(BODY, header), 'mismatch');
  });
}

test('a header that is missing or blank is told from a wrong one', () => {
  assert.is(check(BODY, undefined), 'missing');
  assert.is(check(BODY, '  '), 'missing');
});

test('each of several keys is accepted while one is rotated out', () => {
  const signingKeys = ['the new key', KEY];
  assert.is(check(BODY, sign(), { signingKeys }), 'authentic');
  assert.is(check(BODY, sign(NOW_S, 'the new key'), { signingKeys }), 'authentic');
  assert.is(check(BODY, sign(NOW_S, 'a retired key'), { signingKeys }), 'mismatch');
});

test('a key is its UTF-8 text, also where it looks like hex or base64', () => {
  for (const key of ['68656c6c6f', 'aGVsbG8=', 'schlüssel']) {
    assert.is(check(BODY, sign(NOW_S, key), { signingKeys: [key] }), 'authentic');
  }
});

const TOLERANCE = [
  { ageS: 300, verdict: 'authentic' },
  { ageS: 301, verdict: 'outside_tolerance' },
  { ageS: -300, verdict: 'authentic' },
  { ageS: -301, verdict: 'outside_tolerance' },
];
for (const { ageS, verdict } of TOLERANCE) {
  test(`with a tolerance of 300 s, a delivery ${ageS} s old is ${verdict}`, () => {
    assert.is(check(BODY, sign(NOW_S - ageS)), verdict);
  });
}

test('the tolerance counts whole seconds, as the header does', () => {
  assert.is(check(BODY, sign(NOW_S - 300), { nowMs: NOW_S * 1000 + 999 }), 'authentic');
  assert.is(check(BODY, sign(NOW_S - 10), { toleranceS: 9 }), 'outside_tolerance');
});

test('a time in milliseconds is outside the tolerance', () => {
  assert.is(check(BODY, calendlySignature(BODY, { key: KEY, time: 179_000_000_000 })), 'outside_tolerance');
});

test.run();
