/**
 * Whatever comes over the wire: an answer of the contract, no 5xx, no stack, the process lives; nothing is stored that was
 * not authentic, and what was taken in is stored byte for byte.
 */
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeAppend } from '../../src/lib/append.js';
import { holds } from '../helpers/fuzz.js';
import { hostileBody, hostileText, samplesOf } from '../helpers/hostile.js';
import { type IngestBench, KEYED, postCalendly, startIngestBench } from '../helpers/ingest-bench.js';
import { exchange, type RawAnswer } from '../helpers/raw-http.js';
import { booking, calendlySignature, READAI_KEY, readaiSignature } from '../helpers/webhooks.js';

const test = suite('ingest under fuzz');

const SECRET = 'relay-secret-of-the-fuzz';
const BODY_BYTES_MAX = 1024 * 1024;
/** What Redis is given to take a webhook in: of all that are sent here one may meet it slow, which is none of their faults. */
const PATIENT_MS = 60_000;

let bench: IngestBench;
let base: string;
let good = 0;

test.before(async () => {
  bench = await startIngestBench();
  base = await bench.start({
    bodyBytesMax: BODY_BYTES_MAX,
    append: makeAppend({ redis: bench.redis, keyPrefix: '', idempotencyTtlS: 3_600, timeoutMs: PATIENT_MS }),
    ready: async () => ({ ok: true, checks: { redis: 'up' } }),
    settings: {
      ...KEYED,
      readai: { signingKeys: [READAI_KEY], sharedSecret: SECRET },
      // Nobody's: so that every report is kept whole.
      internalDomains: ['nobody.invalid'],
    },
  });
});
test.after(() => bench.stop());

type Source = 'calendly' | 'readai';
type Header = [name: string, value: string];
/** `isGenuine`: the header proves this body. */
type Proof = { headers: Header[]; isGenuine: boolean };

const now = () => Math.floor(Date.now() / 1000);

function proofsOf(source: Source, body: Buffer, odd: string): Proof[] {
  const genuine = source === 'calendly' ? calendlySignature(body) : readaiSignature(body);
  const name = source === 'calendly' ? 'Calendly-Webhook-Signature' : 'X-Read-Signature';
  const digest = genuine.slice(-64);
  const forge = (value: string): Proof => ({ headers: [[name, value]], isGenuine: false });
  const shared: Proof[] = [
    { headers: [[name, genuine]], isGenuine: true },
    { headers: [], isGenuine: false },
    ...['', ' ', odd, digest.slice(1), `${digest}0`, `v1=${digest.slice(0, -1)}`, digest.replace(/./g, '0')].map(forge),
    ...[`sha1=${digest}`, `v0=${digest}`, 'v1='.repeat(1_000), '='.repeat(4_000), ','.repeat(4_000)].map(forge),
    {
      headers: [
        [name, genuine],
        [name, genuine],
      ],
      isGenuine: false,
    },
  ];
  if (source === 'readai') {
    return [
      ...shared,
      { headers: [['X-ReadAI-Secret', SECRET]], isGenuine: true },
      {
        headers: [
          ['X-ReadAI-Secret', `${SECRET}x`],
          [name, 'wrong'],
        ],
        isGenuine: false,
      },
      forge(readaiSignature(body, Buffer.from('another key of a stranger').toString('base64'))),
    ];
  }
  const many = Array.from({ length: 100 }, (_, index) => `v1=${String(index).padStart(64, '0')}`).join(',');
  return [
    ...shared,
    { headers: [[name, `${many},${genuine}`]], isGenuine: true },
    forge(`t=${now()},${many}`),
    forge(calendlySignature(body, { key: 'a key of a stranger' })),
    forge(calendlySignature(body, { time: now() - 1_000 })),
    forge(calendlySignature(body, { time: now() + 1_000 })),
    forge(`t=-${now()},v1=${digest}`),
    forge(`t=${'9'.repeat(400)},v1=${digest}`),
    forge(`t=${now()},t=${now()},v1=${digest}`),
    forge(`t=1e10,v1=${digest}`),
  ];
}

/** `isPlain`: nothing but the body may be wrong with the request. */
type Framing = { headers: Header[]; isPlain: boolean; chunkSize?: number };

const JSON_TYPE: Header = ['Content-Type', 'application/json'];
const FRAMINGS: Framing[] = [
  ...Array.from({ length: 12 }, (): Framing => ({ headers: [JSON_TYPE], isPlain: true })),
  { headers: [JSON_TYPE], isPlain: true, chunkSize: 1 },
  { headers: [JSON_TYPE], isPlain: true, chunkSize: 1_000 },
  ...['application/json; charset=utf-16', 'application/cloudevents+json', 'APPLICATION/JSON;;;'].map(
    (type): Framing => ({ headers: [['Content-Type', type]], isPlain: true }),
  ),
  ...['text/plain', 'application/jsonp', '', 'application/json, text/html', '\xff\xfe', '/'.repeat(4_000)].map(
    (type): Framing => ({ headers: [['Content-Type', type]], isPlain: false }),
  ),
  { headers: [JSON_TYPE, ['Content-Type', 'text/html'], ['X-Odd', '\x80\xff']], isPlain: true },
  ...['gzip', 'deflate', 'br', 'identity, gzip', 'gzip, gzip, gzip'].map(
    (coding): Framing => ({ headers: [JSON_TYPE, ['Content-Encoding', coding]], isPlain: false }),
  ),
  { headers: [JSON_TYPE, ['Expect', 'a miracle']], isPlain: true },
  { headers: [JSON_TYPE, ['X-Many', 'x'.repeat(8_000)]], isPlain: true },
];

type Sent = { source: Source; body: Buffer; proof: number; framing: Framing; odd: string };

const sent: fc.Arbitrary<Sent> = fc.constantFrom<Source>('calendly', 'readai').chain((source) =>
  fc.record({
    source: fc.constant(source),
    body: hostileBody(samplesOf(source)),
    // Half of all are genuine: what follows a valid signature is the larger part.
    proof: fc.oneof(fc.constant(0), fc.nat()),
    framing: fc.constantFrom(...FRAMINGS),
    odd: hostileText.map((text) =>
      Buffer.from(text)
        .toString('latin1')
        .replace(/[\r\n\0]/g, '')
        .slice(0, 4_000),
    ),
  }),
);

function toBytes({ source, body, framing }: Sent, { headers }: Proof): Buffer {
  const { chunkSize } = framing;
  const length: Header =
    chunkSize === undefined ? ['Content-Length', `${body.length}`] : ['Transfer-Encoding', 'chunked'];
  const lines = [...framing.headers, ...headers, length].map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `POST /webhooks/${source} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines.join('')}\r\n`;
  const data = chunkSize === undefined ? [body] : chunksOf(body.subarray(0, 5_000 * chunkSize), chunkSize);
  return Buffer.concat([Buffer.from(head, 'latin1'), ...data]);
}

function chunksOf(body: Buffer, size: number): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size);
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'));
  }
  return [...parts, Buffer.from('0\r\n\r\n')];
}

const CODES: Record<number, string[]> = {
  400: ['invalid_json', 'bad_request'],
  401: ['invalid_signature'],
  404: ['not_found'],
  405: ['method_not_allowed'],
  408: ['request_timeout'],
  413: ['payload_too_large'],
  415: ['unsupported_media_type'],
  422: ['invalid_payload'],
  431: ['headers_too_large'],
};

/** The parsed body, once it is one of the contract's. */
function assertContract({ status, headers, body }: RawAnswer) {
  assert.match(headers['content-type'] ?? '', /^application\/json/, `${status} ${body}`);
  assert.is(headers['x-content-type-options'], 'nosniff');
  assert.not.match(body, /\n\s+at |node:|\.ts\b|redis|Error:/i);
  const parsed = JSON.parse(body);
  if (status >= 400) {
    assert.ok(CODES[status]?.includes(parsed.error.code), `${status} ${body}`);
    assert.type(parsed.error.message, 'string');
    return parsed;
  }
  const { status: outcome } = parsed;
  assert.is(status, outcome === 'accepted' || outcome === 'quarantined' ? 202 : 200, body);
  if (outcome === 'ignored') assert.type(parsed.reason, 'string');
  else
    assert.ok(['accepted', 'quarantined', 'duplicate'].includes(outcome) && /^\w+-\d+-\d+$/.test(parsed.eventId), body);
  return parsed;
}

async function assertStored(eventId: string, body: Buffer): Promise<void> {
  const [stream = '', ms, sequence] = eventId.split('-');
  const id = `${ms}-${sequence}`;
  const [entry] = await bench.redis.xrangeBuffer(`events:${stream}`, id, id);
  const fields = entry![1];
  const at = fields.findIndex((field) => field.toString() === 'data');
  assert.ok(fields[at + 1]!.equals(body), 'what is stored is not what was sent');
}

async function assertGoodIsTaken(): Promise<void> {
  good += 1;
  const uri = `https://api.calendly.com/scheduled_events/E/invitees/GOOD-${good}`;
  const { status } = await postCalendly(base, JSON.stringify(booking({ uri })));
  assert.is(status, 202, 'a good webhook after a bad one');
}

test('signed or not, whole or broken: the answer is the contract’s, and only what is authentic is stored', async () => {
  await holds(
    sent,
    async (request) => {
      const proofs = proofsOf(request.source, request.body, request.odd);
      const proof = proofs[request.proof % proofs.length]!;
      const isCut = request.framing.chunkSize === 1 && request.body.length > 5_000;
      const before = await bench.redis.dbsize();
      const [answer] = await exchange(base, toBytes(request, proof));
      const parsed = assertContract(answer!);
      const isAuthentic = proof.isGenuine && !(isCut && proof.headers[0]?.[0] !== 'X-ReadAI-Secret');
      const isTaken = answer!.status < 300;
      if (!isAuthentic || !request.framing.isPlain) {
        assert.is(isTaken, false, `${answer!.status} for what is not authentic`);
        assert.is(await bench.redis.dbsize(), before);
      } else {
        assert.is(isTaken, true, `${answer!.status} ${answer!.body} for what is authentic`);
      }
      if (['accepted', 'quarantined'].includes(parsed.status) && !isCut)
        await assertStored(parsed.eventId, request.body);
      if (request.odd.length % 5 === 0) await assertGoodIsTaken();
    },
    { few: 500 },
  );
});

const rawRequest = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc
    .record({
      method: fc.constantFrom('GET', 'POST', 'PUT', 'TRACE', 'OPTIONS', 'CONNECT', 'get', 'PROPFIND', ''),
      target: fc.oneof(
        fc.webPath(),
        fc.webUrl(),
        fc.constantFrom(
          '*',
          '//',
          '/\\',
          'http://[::1',
          'http://x:99999/',
          '?',
          '/%',
          '/%00',
          '/webhooks/calendly/..',
          '\xff',
        ),
        fc.constantFrom('/debug/info', '/debug/events/%ff', '/metrics?', '/healthz#', '/readyz', '/webhooks/readai/'),
      ),
      version: fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/9', 'http/1.1'),
      lines: fc.array(
        fc.constantFrom(
          ...[
            'Host: localhost',
            'Host: a\r\nHost: b',
            'Content-Length: 5',
            'Content-Length: -1',
            'Content-Length: 5, 6',
          ],
          ...['Content-Length: 99999999999999999999', 'Transfer-Encoding: chunked', 'Transfer-Encoding: gzip, chunked'],
          ...[
            'Transfer-Encoding: identity',
            'Upgrade: websocket\r\nConnection: upgrade',
            'Expect: 100-continue',
            ': x',
          ],
          ...[
            ' folded: x',
            'X-Y',
            `X: ${'y'.repeat(20_000)}`,
            'X: \x00',
            'Content-Type: application/json',
            'Cookie: ;=;',
          ],
        ),
        { maxLength: 4 },
      ),
    })
    .map(({ method, target, version, lines }) =>
      Buffer.from([`${method} ${target} ${version}`, 'Host: localhost', ...lines, '', '{"a":'].join('\r\n'), 'latin1'),
    ),
);

test('what is no request, or half of one, ends with an answer or a closed connection, and stores nothing', async () => {
  const before = await bench.redis.dbsize();
  await holds(
    rawRequest,
    async (bytes) => {
      for (const { status, headers, body } of await exchange(base, bytes, { hangsUp: true })) {
        assert.ok(status > 0 && status < 500, `${status} ${body}`);
        // Figures and health are answered in their own way; HEAD has no body.
        if (status >= 400 && body !== '') assertContract({ status, headers, body });
      }
    },
    { few: 300 },
  );
  assert.is(await bench.redis.dbsize(), before);
  await assertGoodIsTaken();
});

test('a gzip bomb is refused as it is, not unpacked', async () => {
  const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024));
  const headers = { 'content-encoding': 'gzip', 'calendly-webhook-signature': calendlySignature(bomb) };
  const rssBefore = process.memoryUsage().rss;
  const { status } = await postCalendly(base, bomb, headers);
  assert.is(status, 415);
  assert.ok(process.memoryUsage().rss - rssBefore < 100 * 1024 * 1024);
});

test('pipelined requests are answered in their order, a broken one ends the connection', async () => {
  const request = (body: string, close = '') =>
    [
      'POST /webhooks/calendly HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json',
      `Calendly-Webhook-Signature: ${calendlySignature(body)}`,
      `Content-Length: ${Buffer.byteLength(body)}${close}\r\n\r\n${body}`,
    ].join('\r\n');
  const one = JSON.stringify(booking({ uri: 'https://api.calendly.com/scheduled_events/E/invitees/PIPE' }));
  const health = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
  const bytes = [request(one), health, request('{'), request(one), health, 'BROKEN\r\n\r\n', request(one)].join('');
  const answers = await exchange(base, bytes);
  assert.equal(
    answers.slice(0, 5).map(({ status, body }) => [status, JSON.parse(body).status]),
    [
      [202, 'accepted'],
      [200, 'ok'],
      [202, 'quarantined'],
      [200, 'duplicate'],
      [200, 'ok'],
    ],
  );
  assert.ok(answers.length <= 6);
});

test('a body that is shorter or longer than it says is cut off there', async () => {
  const body = JSON.stringify(booking({ uri: 'https://api.calendly.com/scheduled_events/E/invitees/LENGTH' }));
  const send = (length: number, hangsUp: boolean) => {
    const head = `POST /webhooks/calendly HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
    const signature = `Calendly-Webhook-Signature: ${calendlySignature(body)}\r\n`;
    const bytes = `${head}${signature}Content-Length: ${length}\r\nConnection: close\r\n\r\n${body}`;
    return exchange(base, bytes, { hangsUp });
  };
  const before = await bench.redis.dbsize();
  assert.equal(
    (await send(body.length + 1, true)).map(({ status }) => status),
    [400],
  );
  assert.equal((await send(body.length - 1, false)).map(({ status }) => status)[0], 401);
  assert.is(await bench.redis.dbsize(), before);
});

test('nothing of all that reached a prototype', () => {
  assert.is(({} as Record<string, unknown>).isAdmin, undefined);
  assert.is(({} as Record<string, unknown>).polluted, undefined);
});

test.run();
