/** Health, readiness, figures and the debug routes, and who may see them. */
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type AnswerBody,
  errorOf,
  type IngestBench,
  postCalendly,
  send,
  startIngestBench,
} from '../helpers/ingest-bench.js';
import { booking } from '../helpers/webhooks.js';

const test = suite('health, metrics and debug routes');

let bench: IngestBench;

test.before(async () => {
  bench = await startIngestBench({ isPatient: true });
});
test.after.each(() => bench.reset());
test.after(() => bench.stop());

test('health: alive, ready and figures, by GET and HEAD', async () => {
  const base = await bench.start();
  const health = await send(`${base}/healthz`);
  assert.equal([health.status, health.body], [200, { status: 'ok' }]);
  const ready = await send(`${base}/readyz`);
  assert.equal([ready.status, ready.body], [200, { status: 'ready', redis: 'up' }]);
  const metrics = await send(`${base}/metrics`);
  assert.is(metrics.status, 200);
  assert.match(metrics.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  for (const path of ['healthz', 'readyz', 'metrics']) {
    const head = await send(`${base}/${path}`, { method: 'HEAD' });
    assert.equal([head.status, head.text], [200, '']);
  }
});

test('not ready while Redis takes no writes', async () => {
  const base = await bench.start();
  await bench.redis.config('SET', 'maxmemory', '1');
  const answer = await send(`${base}/readyz`);
  const webhook = await postCalendly(base, JSON.stringify(booking()));
  await bench.redis.config('SET', 'maxmemory', '0');
  assert.equal([answer.status, answer.body], [503, { status: 'unavailable', redis: 'not_writable' }]);
  assert.equal(errorOf(webhook), [503, 'unavailable']);
});

for (const right of ['xadd', 'hset', 'evalsha']) {
  test(`not ready while our user may not do what a webhook needs: ${right}`, async () => {
    const base = await bench.start();
    const post = (id: string) => postCalendly(base, JSON.stringify(booking({ uri: `https://x/${right}-${id}` })));
    assert.is((await send(`${base}/readyz`)).status, 200);
    assert.is((await post('before')).status, 202);
    await bench.redis.call('ACL', 'SETUSER', 'default', `-${right}`);
    const answer = await send(`${base}/readyz`);
    const webhook = await post('meanwhile');
    await bench.redis.call('ACL', 'SETUSER', 'default', `+${right}`);
    assert.equal([answer.status, answer.body], [503, { status: 'unavailable', redis: 'not_writable' }]);
    assert.equal(errorOf(webhook), [503, 'unavailable']);
    assert.is((await send(`${base}/readyz`)).status, 200);
  });
}

const debug = {
  info: async () => ({ version: '1' }),
  event: async (eventId: string) => (eventId === 'calendly-1-0' ? { eventId, status: 'queued' } : undefined),
  idem: async (key: string) => ({ key, seen: false }),
};

/** `fetch` does not let a caller choose the Host header. */
function get(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: IncomingHttpHeaders; body: AnswerBody }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { headers, agent: false }, (response) => {
      let received = '';
      response.on('data', (chunk) => {
        received += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: JSON.parse(received) }),
      );
    });
    request.on('error', reject).end();
  });
}

test('debug routes answer this machine', async () => {
  const base = await bench.start({ debug });
  assert.equal((await get(`${base}/debug/info`)).body, { version: '1' });
  assert.equal((await get(`${base}/debug/events/calendly-1-0`)).body, { eventId: 'calendly-1-0', status: 'queued' });
  const key = 'calendly:invitee.created:A/1 é';
  for (const path of [encodeURIComponent(key), key.replace('/', '%2F').replace(' ', '%20').replace('é', '%C3%A9')]) {
    assert.equal((await get(`${base}/debug/idem/${path}`)).body, { key, seen: false });
  }
});

test('an unknown event is 404', async () => {
  const base = await bench.start({ debug });
  for (const id of ['calendly-9-9', 'x', '%00']) {
    const answer = await get(`${base}/debug/events/${id}`);
    assert.equal([answer.status, answer.body.error?.code], [404, 'not_found']);
  }
});

const ROUTES = ['/debug/info', '/debug/events/calendly-1-0', '/debug/idem/a', '/debug/nothing'];

test('debug routes are not there unless they are allowed', async () => {
  const base = await bench.start({
    debug: undefined,
    access: { tokens: [{ name: 'grace', token: 't' }], isProduction: false },
  });
  for (const route of ROUTES) assert.is((await get(base + route, { authorization: 'Bearer t' })).status, 404);
});

for (const [name, headers] of [
  ['another host', { host: 'gvi.example' }],
  ['a forwarded header', { forwarded: 'for=203.0.113.9' }],
  ['an x-forwarded header', { 'x-forwarded-for': '127.0.0.1' }],
] as const) {
  test(`with ${name} debug routes are not there`, async () => {
    const base = await bench.start({ debug });
    for (const route of ROUTES) assert.is((await get(base + route, headers)).status, 404);
    const answer = await send(`${base}/debug/info`, { method: 'POST', headers: { 'x-forwarded-for': '10.0.0.1' } });
    assert.is(answer.status, 404);
  });
}

test('in production debug routes are not there without a token', async () => {
  const base = await bench.start({ debug, access: { tokens: [], isProduction: true } });
  for (const route of ROUTES) assert.is((await get(base + route)).status, 404);
});

test('with tokens configured, one is needed, and opens from anywhere', async () => {
  const base = await bench.start({
    debug,
    access: { tokens: [{ name: 'grace', token: 'the-token' }], isProduction: true },
  });
  for (const headers of [{}, { authorization: 'Bearer wrong' }]) {
    const answer = await get(`${base}/debug/info`, headers);
    assert.equal([answer.status, answer.body.error?.code], [401, 'unauthorized']);
    assert.is(answer.headers['www-authenticate'], 'Bearer');
  }
  const far = { authorization: 'Bearer the-token', host: 'gvi.example', 'x-forwarded-for': '203.0.113.9' };
  assert.is((await get(`${base}/debug/info`, far)).status, 200);
});

test('a debug query that fails is 503', async () => {
  const info = async () => {
    throw new Error('Redis detail');
  };
  const base = await bench.start({ debug: { ...debug, info } });
  const answer = await get(`${base}/debug/info`);
  assert.equal([answer.status, answer.body.error?.code], [503, 'unavailable']);
  assert.not.match(JSON.stringify(answer.body), 'detail');
});

test.run();
