/** What is refused, and how: the answers, and that nothing of it stands in Redis. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { StoreUnavailableError } from '../../src/lib/append.js';
import {
  errorOf,
  type IngestBench,
  KEYED,
  KEYLESS,
  post,
  postCalendly,
  postReadai,
  send,
  startIngestBench,
} from '../helpers/ingest-bench.js';
import { booking, calendlySignature, readaiSignature, report } from '../helpers/webhooks.js';

const refusals = suite('refused webhooks');
const unverified = suite('sources without a key');

let bench: IngestBench;

for (const test of [refusals, unverified]) {
  test.before(async () => {
    bench = await startIngestBench({ isPatient: true });
  });
  test.after.each(() => bench.reset());
  test.after(() => bench.stop());
}

for (const [name, header] of [
  ['missing', undefined],
  ['of another body', calendlySignature('{}')],
  ['by another key', calendlySignature(JSON.stringify(booking()), { key: 'another key' })],
  ['too old', calendlySignature(JSON.stringify(booking()), { time: Math.floor(Date.now() / 1000) - 400 })],
  ['from the future', calendlySignature(JSON.stringify(booking()), { time: Math.floor(Date.now() / 1000) + 400 })],
] as const) {
  refusals(`a signature ${name} is 401, and nothing is stored`, async () => {
    for (const allowUnverified of [false, true]) {
      const base = await bench.start({ allowUnverified });
      const headers = header === undefined ? {} : { 'calendly-webhook-signature': header };
      const answer = await post(`${base}/webhooks/calendly`, JSON.stringify(booking()), headers);
      assert.equal(errorOf(answer), [401, 'invalid_signature']);
      assert.type(answer.body.error?.message, 'string');
    }
    assert.is(await bench.redis.dbsize(), 0);
  });
}

refusals('a signature over the re-serialised body is 401', async () => {
  const base = await bench.start();
  const body = JSON.stringify(booking(), null, 2);
  const header = calendlySignature(JSON.stringify(booking()));
  assert.is((await postCalendly(base, body, { 'calendly-webhook-signature': header })).status, 401);
  assert.is(
    (await postReadai(base, body, { 'x-read-signature': readaiSignature(JSON.stringify(booking())) })).status,
    401,
  );
});

refusals('broken JSON that nothing authenticates is 401 before it is looked at', async () => {
  const base = await bench.start();
  assert.equal(errorOf(await post(`${base}/webhooks/calendly`, '{')), [401, 'invalid_signature']);
  assert.equal(errorOf(await post(`${base}/webhooks/readai`, '{')), [401, 'invalid_signature']);
});

for (const [name, headers] of [
  ['text', { 'content-type': 'text/plain' }],
  ['a form', { 'content-type': 'application/x-www-form-urlencoded' }],
  ['something like JSON', { 'content-type': 'application/jsonp' }],
  ['text that mentions JSON', { 'content-type': 'text/plain; note=application/json' }],
  ['compressed JSON', { 'content-encoding': 'gzip' }],
] as const) {
  refusals(`${name} is 415, also with a signature`, async () => {
    const base = await bench.start();
    assert.equal(errorOf(await postCalendly(base, JSON.stringify(booking()), headers)), [
      415,
      'unsupported_media_type',
    ]);
    assert.is(await bench.redis.dbsize(), 0);
  });
}

refusals('a body without a content type is 415', async () => {
  const base = await bench.start();
  const body = Buffer.from(JSON.stringify(booking()));
  const answer = await send(`${base}/webhooks/calendly`, { method: 'POST', body });
  assert.equal(errorOf(answer), [415, 'unsupported_media_type']);
});

for (const method of ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
  refusals(`${method} on a webhook's route is 405 and names POST`, async () => {
    const base = await bench.start();
    const answer = await send(`${base}/webhooks/calendly`, { method });
    assert.equal(errorOf(answer), [405, 'method_not_allowed']);
    assert.is(answer.headers.get('allow'), 'POST');
  });
}

refusals('POST on a health route is 405 and names GET and HEAD', async () => {
  const base = await bench.start();
  const answer = await post(`${base}/healthz`, '{}');
  assert.equal(errorOf(answer), [405, 'method_not_allowed']);
  assert.is(answer.headers.get('allow'), 'GET, HEAD');
});

for (const path of [
  '/',
  '/webhooks',
  '/webhooks/zoom',
  '/webhooks/calendly/x',
  '/dashboard',
  '/debug',
  '/%E0%A4%A',
  '//',
  '/healthz/',
  '/readyz/',
  '/metrics/',
  '/METRICS',
]) {
  refusals(`${path} is 404 for every method`, async () => {
    const base = await bench.start();
    for (const method of ['GET', 'POST'])
      assert.equal(errorOf(await send(base + path, { method })), [404, 'not_found']);
  });
}

refusals('the path of a webhook may end in a slash', async () => {
  const base = await bench.start();
  const body = JSON.stringify(booking());
  const answer = await post(`${base}/webhooks/calendly/`, body, {
    'calendly-webhook-signature': calendlySignature(body),
  });
  assert.is(answer.status, 202);
});

refusals("why Redis did not take a webhook is logged by its code, not in Redis' words, which quote", async () => {
  const refusal = Object.assign(
    new Error(`ERR wrong number of args, with args beginning with: 'ada@analytical.example'`),
    {
      name: 'ReplyError',
    },
  );
  const append = async () => {
    throw new StoreUnavailableError('Redis did not take it', { cause: refusal });
  };
  const base = await bench.start({ append });
  assert.equal(errorOf(await postCalendly(base, JSON.stringify(booking()))), [503, 'unavailable']);
  assert.is(bench.logLines().at(-1)?.reason, 'ERR');
  assert.not.match(JSON.stringify(bench.logLines()), 'ada@');
});

refusals('every answer forbids sniffing and storing, and names no software', async () => {
  const base = await bench.start();
  for (const answer of [await send(`${base}/healthz`), await send(`${base}/nowhere`), await postCalendly(base, '{}')]) {
    assert.is(answer.headers.get('x-content-type-options'), 'nosniff');
    assert.is(answer.headers.get('cache-control'), 'no-store');
    assert.is(answer.headers.get('x-powered-by'), null);
    assert.is(answer.headers.get('server'), null);
  }
});

refusals('a bug is a plain 500 to the sender, and a log line to us', async () => {
  const append = async () => {
    throw new TypeError('undefined is not a function at /srv/secret.ts');
  };
  const base = await bench.start({ append });
  const answer = await postCalendly(base, JSON.stringify(booking()));
  assert.equal(errorOf(answer), [500, 'internal']);
  assert.not.match(JSON.stringify(answer.body), /secret|TypeError|function/);
  assert.match(JSON.stringify(bench.logLines()), 'secret.ts');
});

unverified('without a key everything is refused unless it is allowed', async () => {
  const base = await bench.start({ settings: KEYLESS });
  for (const path of ['calendly', 'readai']) {
    assert.equal(errorOf(await post(`${base}/webhooks/${path}`, '{}')), [401, 'invalid_signature']);
  }
  assert.is((await postCalendly(base, JSON.stringify(booking()))).status, 401);
});

unverified(
  'where it is allowed, a webhook without a signature is accepted, and one with any signature too',
  async () => {
    const base = await bench.start({ settings: KEYLESS, allowUnverified: true });
    assert.is((await post(`${base}/webhooks/calendly`, JSON.stringify(booking()))).status, 202);
    assert.is((await postReadai(base, JSON.stringify(report()))).status, 202);
  },
);

unverified('what is unusable is told to the sender, and nothing is stored', async () => {
  const base = await bench.start({ settings: KEYLESS, allowUnverified: true });
  for (const body of ['', '{', '[1, 2', Buffer.from([0x22, 0xff, 0x22])]) {
    assert.equal(errorOf(await post(`${base}/webhooks/calendly`, body)), [400, 'invalid_json']);
  }
  const answer = await post(`${base}/webhooks/calendly`, JSON.stringify(booking({ email: 'a-name-only' })));
  assert.equal(errorOf(answer), [422, 'invalid_payload']);
  assert.equal(answer.body.error?.issues, [{ path: 'payload.email', message: 'should be an email address' }]);
  assert.not.match(JSON.stringify(answer.body), 'a-name-only');
  assert.is(await bench.redis.dbsize(), 0);
});

unverified('a key for one source says nothing about the other', async () => {
  const base = await bench.start({ settings: { ...KEYLESS, calendly: KEYED.calendly }, allowUnverified: true });
  assert.is((await post(`${base}/webhooks/readai`, JSON.stringify(report()))).status, 202);
  assert.is((await post(`${base}/webhooks/calendly`, JSON.stringify(booking()))).status, 401);
});

refusals.run();
unverified.run();
