import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkReadaiDelivery } from '../../src/ingest/sources/readai-signature.js';
import { readaiSignature } from '../helpers/webhooks.js';

const test = suite('Read.ai signature');

const KEY = 'ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=';
const BODY = '{"session_id":"01ADA","trigger":"meeting_end"}';
const DIGEST = '07f09662097b801cc82d5ffaf2c92aacebba8c2a62da5d0c881b32daa220756f';
const SECRET = 'relay sécret';

function check(
  body: string,
  headers: Record<string, string>,
  { signingKeys = [KEY], sharedSecret = undefined as string | undefined } = {},
) {
  return checkReadaiDelivery(Buffer.from(body), headers, { signingKeys, sharedSecret });
}

test('the bytes count, not what they mean', () => {
  // Digests made with another implementation (Python's hmac).
  const spaced = '{"session_id": "01ADA", "trigger": "meeting_end"}';
  const digest = '22b7c8285e76fa71b3ea9a2ef297c534c970042ccf12894abc7589bcd465c6c3';
  assert.is(check(BODY, { 'x-read-signature': DIGEST }), 'authentic');
  assert.is(check(spaced, { 'x-read-signature': digest }), 'authentic');
  assert.is(check(spaced, { 'x-read-signature': DIGEST }), 'mismatch');
});

test('the key is decoded: a digest by its base64 text is refused', () => {
  const digest = 'afce491e4910362cbabb75ad7f0b35989aa0e8cc2037ad9a44d181115ad93f2b';
  assert.is(check(BODY, { 'x-read-signature': digest }), 'mismatch');
});

for (const header of [` ${DIGEST} `, DIGEST.toUpperCase(), `sha256=${DIGEST}`, `SHA256 = ${DIGEST}`]) {
  test(`accepts the header written as ${header.slice(0, 12).trim()}…`, () => {
    assert.is(check(BODY, { 'x-read-signature': header }), 'authentic');
  });
}

for (const header of [DIGEST.slice(2), `${DIGEST}00`, `sha1=${DIGEST}`, `v1=${DIGEST}`, 'z'.repeat(64)]) {
  test(`refuses the header written as ${header.slice(0, 12)}… with ${header.length} characters`, () => {
    assert.is(check(BODY, { 'x-read-signature': header }), 'mismatch');
  });
}

test('each of several keys is accepted while one is rotated out', () => {
  const fresh = Buffer.from('a fresh key of some bytes').toString('base64');
  const signingKeys = [fresh, KEY];
  assert.is(check(BODY, { 'x-read-signature': DIGEST }, { signingKeys }), 'authentic');
  assert.is(check(BODY, { 'x-read-signature': readaiSignature(BODY, fresh) }, { signingKeys }), 'authentic');
  assert.is(check(BODY, { 'x-read-signature': DIGEST }, { signingKeys: [fresh] }), 'mismatch');
});

test('a delivery without any header is missing its signature', () => {
  assert.is(check(BODY, {}), 'missing');
  assert.is(check(BODY, { 'x-read-signature': ' ' }), 'missing');
});

test('the shared secret alone suffices, byte for byte', () => {
  const only = { signingKeys: [], sharedSecret: SECRET };
  // Node hands header bytes on as Latin-1.
  const sent = Buffer.from(SECRET, 'utf8').toString('latin1');
  assert.is(check(BODY, { 'x-readai-secret': sent }, only), 'authentic');
  assert.is(check(BODY, { 'x-readai-secret': `${sent}x` }, only), 'mismatch');
  assert.is(check(BODY, { 'x-readai-secret': '' }, only), 'missing');
  assert.is(check(BODY, {}, only), 'missing');
});

test('a secret proves nothing where none is configured, and a signature nothing where no key is', () => {
  assert.is(check(BODY, { 'x-readai-secret': SECRET }), 'mismatch');
  assert.is(check(BODY, { 'x-readai-secret': 'undefined' }), 'mismatch');
  assert.is(check(BODY, { 'x-read-signature': DIGEST }, { signingKeys: [], sharedSecret: SECRET }), 'mismatch');
});

test('where both are configured either suffices, beside a wrong other', () => {
  const both = { signingKeys: [KEY], sharedSecret: 'relay' };
  assert.is(check(BODY, { 'x-read-signature': DIGEST, 'x-readai-secret': 'wrong' }, both), 'authentic');
  assert.is(check(BODY, { 'x-read-signature': 'wrong', 'x-readai-secret': 'relay' }, both), 'authentic');
  assert.is(check(BODY, { 'x-read-signature': 'wrong', 'x-readai-secret': 'wrong' }, both), 'mismatch');
});

test.run();
