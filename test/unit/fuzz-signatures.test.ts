/** No header is taken for a proof but the one that was made with the key over these bytes at this time. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decideAccess, SESSION_COOKIE, sessionOf } from '../../src/ingest/access.js';
import { checkCalendlySignature, judgeCalendlyHeader } from '../../src/ingest/sources/calendly-signature.js';
import { checkReadaiDelivery, judgeReadaiHeaders } from '../../src/ingest/sources/readai-signature.js';
import { holds } from '../helpers/fuzz.js';
import { CALENDLY_KEY, calendlySignature, READAI_KEY, readaiSignature } from '../helpers/webhooks.js';

const test = suite('signatures under fuzz');

const FEW = { few: 500 };
const NOW_S = 1_790_000_000;
const now = new Date(NOW_S * 1_000);
const calendly = { signingKeys: ['retired', CALENDLY_KEY], toleranceS: 300 };
const readai = { signingKeys: [READAI_KEY], sharedSecret: 'the relay secret' };

const body = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const header = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(fc.constantFrom('t=', 'v1=', `${NOW_S}`, ',', '0'.repeat(64), 'f'.repeat(64), '=', ' ', 'sha256='))
    .map((parts) => parts.join('')),
);

test('a header that nobody signed is never authentic, and judging the head agrees with judging all', async () => {
  await holds(
    fc.tuple(body, header),
    ([bytes, value]) => {
      assert.is.not(checkCalendlySignature(bytes, value, calendly, now), 'authentic');
      const headers = { 'x-read-signature': value, 'x-readai-secret': value };
      assert.is.not(checkReadaiDelivery(bytes, headers, readai), 'authentic');
      const early = judgeCalendlyHeader(value, calendly, now);
      assert.is(checkCalendlySignature(bytes, value, calendly, now), early?.reason ?? 'mismatch');
      assert.is(checkReadaiDelivery(bytes, headers, readai), judgeReadaiHeaders(headers, readai)?.reason ?? 'mismatch');
    },
    FEW,
  );
});

test('a genuine signature holds for its bytes alone: one other byte, more or fewer, and it is none', async () => {
  await holds(
    fc.tuple(body, fc.nat(), fc.integer({ min: 1, max: 255 })),
    ([bytes, place, flip]) => {
      const signed = { time: NOW_S, key: CALENDLY_KEY };
      const others = [Buffer.concat([bytes, Buffer.from([flip])]), Buffer.concat([Buffer.from([flip]), bytes])];
      if (bytes.length > 0) {
        const other = Buffer.from(bytes);
        other[place % bytes.length]! ^= flip;
        others.push(other, bytes.subarray(1));
      }
      const proof = { 'x-read-signature': readaiSignature(bytes) };
      assert.is(checkCalendlySignature(bytes, calendlySignature(bytes, signed), calendly, now), 'authentic');
      assert.is(checkReadaiDelivery(bytes, proof, readai), 'authentic');
      for (const other of others) {
        assert.is(checkCalendlySignature(other, calendlySignature(bytes, signed), calendly, now), 'mismatch');
        assert.is(checkReadaiDelivery(other, proof, readai), 'mismatch');
      }
    },
    FEW,
  );
});

test('the time that was signed counts in both directions, and a refusal says by how much it is off', async () => {
  await holds(
    fc.tuple(body, fc.integer({ min: -2_000, max: 2_000 })),
    ([bytes, skewS]) => {
      const signature = calendlySignature(bytes, { time: NOW_S - skewS, key: CALENDLY_KEY });
      const isWithin = Math.abs(skewS) <= 300;
      assert.is(checkCalendlySignature(bytes, signature, calendly, now), isWithin ? 'authentic' : 'outside_tolerance');
      const refusal = isWithin ? undefined : { reason: 'outside_tolerance', skewS };
      assert.equal(judgeCalendlyHeader(signature, calendly, now), refusal);
    },
    FEW,
  );
});

test('no header and no cookie opens the debug routes but a token and its session', async () => {
  const rule = { tokens: [{ name: 'grace', token: 'grace-token' }], isProduction: false };
  const far = { remoteAddress: '127.0.0.1', headers: { host: 'localhost' } };
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('grace-token', sessionOf('grace-token')));
  await holds(
    fc.tuple(text, text, fc.constantFrom('Bearer ', 'Basic ', '', 'Bearer\t')),
    ([authorization, cookie, scheme]) => {
      const headers = { ...far.headers, authorization: scheme + authorization, cookie: `${SESSION_COOKIE}=${cookie}` };
      const isKnown =
        (scheme === 'Bearer ' && authorization.trim() === 'grace-token') ||
        cookie.split(';')[0]!.trim() === sessionOf('grace-token');
      assert.is(decideAccess({ ...far, headers }, rule).kind, isKnown ? 'granted' : 'unauthorized');
    },
    FEW,
  );
});

test.run();
