/** Input that nobody sends by accident: values, bodies and damaged samples. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** One of each kind that has broken somebody's parser, key, log, terminal or markup. */
const TEXTS = [
  ...['', ' ', '\u0000', '\u001b[2J\u001b]0;owned\u0007', '\u009b31m', 'a\r\nb', '\u2028', '\ufeff', '\u202eevil'],
  ...['\ud800', 'x\udc00y', '__proto__', 'constructor', 'hasOwnProperty', 'toString', '-', '.', '/', '//', '?', '#'],
  ...['None', 'null', 'true', '0', '-1', '1e999', '9'.repeat(400), '2026-13-45', '+275760-09-13T00:00:00.001Z'],
  ...['<!channel> <https://evil.example|click>', '[gvi:calendly:invitee.created:X]', '{{7*7}}', "'; return 1 --"],
  ...['@', 'a@b', '"@"@b', `${'a'.repeat(300)}@b.example`, 'Zoë 👩‍👩‍👧 王', 'i'.repeat(20), 'x'.repeat(70_000)],
];
const NUMBERS = [0, -0, -1, 0.1, 2 ** 53, -(2 ** 63), 1e21, 1e308, 5e-324];

function nested(depth: number): Json {
  let value: Json = 'deep';
  for (let i = 0; i < depth; i += 1) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...TEXTS),
  fc.string({ unit: 'binary', maxLength: 60 }),
);

export const hostileValue: fc.Arbitrary<Json> = fc.oneof(
  { weight: 4, arbitrary: hostileText },
  { weight: 2, arbitrary: fc.constantFrom<Json>(...NUMBERS, null, true, false, [], {}) },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }) as fc.Arbitrary<Json> },
  { weight: 1, arbitrary: fc.constantFrom(40, 198, 500).map(nested) },
  { weight: 1, arbitrary: hostileText.map((text) => own('__proto__', { [text]: text, isAdmin: true })) },
  { weight: 1, arbitrary: fc.array(hostileText, { maxLength: 200 }) },
);

function own(name: string, value: Json): Json {
  return Object.defineProperty({}, name, { value, enumerable: true, configurable: true, writable: true });
}

type Mutation = { place: number; how: 'replace' | 'remove' | 'add' | 'wrap'; name: string; value: Json };

const mutation: fc.Arbitrary<Mutation> = fc.record({
  place: fc.nat(),
  how: fc.constantFrom('replace', 'replace', 'replace', 'remove', 'add', 'wrap'),
  name: fc.constantFrom('__proto__', 'constructor', 'toString', '', 'uri', 'email', 'payload', '\ud800'),
  value: hostileValue,
});

/** A real sample with one to four of its values replaced, removed, wrapped or joined by a stranger. */
export function damaged(samples: readonly Json[]): fc.Arbitrary<Json> {
  return fc
    .tuple(fc.constantFrom(...samples), fc.array(mutation, { minLength: 1, maxLength: 4 }))
    .map(([sample, mutations]) => mutations.reduce(damage, structuredClone(sample)));
}

function damage(json: Json, { place, how, name, value }: Mutation): Json {
  const places = placesOf(json);
  const [holder, key] = places[place % Math.max(1, places.length)] ?? [];
  if (holder === undefined || key === undefined) return value;
  if (how === 'remove') delete (holder as Record<string, Json>)[key];
  else if (how === 'wrap') set(holder, key, [(holder as Record<string, Json>)[key]!]);
  else set(holder, how === 'add' ? name : key, value);
  return json;
}

function placesOf(json: Json): [holder: object, key: string][] {
  if (typeof json !== 'object' || json === null) return [];
  return Object.entries(json).flatMap(([key, member]): [object, string][] => [[json, key], ...placesOf(member)]);
}

function set(holder: object, key: string, value: Json): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

/** Bodies as bytes: random ones, random JSON, damaged samples, and what breaks decoders. */
export function hostileBody(samples: readonly Json[]): fc.Arbitrary<Buffer> {
  const json = damaged(samples).map((value) => Buffer.from(JSON.stringify(value)));
  return fc.oneof(
    { weight: 6, arbitrary: json },
    { weight: 2, arbitrary: fc.tuple(json, fc.nat(), fc.nat(255), fc.boolean()).map(damageBytes) },
    { weight: 2, arbitrary: hostileValue.map((value) => Buffer.from(JSON.stringify(value))) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 2, arbitrary: fc.constantFrom(...SPECIAL_BODIES) },
  );
}

function damageBytes([bytes, at, byte, isCut]: [Buffer, number, number, boolean]): Buffer {
  const copy = Buffer.from(bytes);
  const place = at % Math.max(1, copy.length);
  if (isCut) return copy.subarray(0, place);
  if (copy.length > 0) copy[place] = byte;
  return copy;
}

const SPECIAL_BODIES = [
  '[',
  '['.repeat(100_000),
  `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
  `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
  '\ufeff{"event":"invitee.created"}',
  '{"event":"invitee.created"}\u0000',
  '{"event":"invitee.created","event":"__proto__"}',
  '{"__proto__":{"event":"invitee.created"},"constructor":{"prototype":{"polluted":true}}}',
  `{"session_id":1e400,"trigger":"meeting_end","end_time":-${'9'.repeat(5_000)}}`,
  '"\\ud800"',
  'NaN',
  'undefined',
  ' \n\t ',
].map((text) => Buffer.from(text));
SPECIAL_BODIES.push(
  Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
  Buffer.from('{"a":"\xc3\x28"}', 'latin1'),
  Buffer.from('\xed\xa0\x80', 'latin1'),
  Buffer.from('{"event":"invitee.created"}', 'utf16le'),
  Buffer.alloc(1_000),
);

/** The samples of a source; those of many thousand lines are left out. */
export function samplesOf(source: 'calendly' | 'readai'): Json[] {
  const folder = join(import.meta.dirname, '..', 'fixtures', source);
  const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  return texts.filter((text) => text.length < 20_000).map((text) => JSON.parse(text) as Json);
}
