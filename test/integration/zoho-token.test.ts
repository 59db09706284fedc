import type { Redis } from 'ioredis';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError } from '../../src/lib/errors.js';
import { makeZohoToken, type ZohoTokenOptions } from '../../src/lib/providers/zoho/token.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { waitForCall } from '../standins/http.js';
import { startZoho, type ZohoOptions, type ZohoStandin } from '../standins/zoho.js';

const never = new AbortController().signal;
const TOKEN_PATH = '/oauth/v2/token';

let server: TestRedis;
let redis: Redis;
let zoho: ZohoStandin;
let clock: number;

const test = suite('the Zoho token');

test.before(async () => {
  server = await startRedis();
  redis = server.connect();
});

test.before.each(async () => {
  await redis.flushall();
  clock = Date.now();
  await start();
});

test.after.each(() => zoho.stop());

test.after(() => server.stop());

async function start(options: ZohoOptions = {}): Promise<void> {
  await zoho?.stop();
  zoho = await startZoho(options);
}

/** Each call is a worker of its own: they share Redis and nothing else. */
function worker(overrides: Partial<ZohoTokenOptions> = {}) {
  const own = { redis, keyPrefix: 't:', accountsUrl: zoho.url, apiUrl: 'https://www.zohoapis.com', timeoutMs: 30_000 };
  return makeZohoToken({ ...own, ...zoho.credentials, now: () => clock, ...overrides });
}

async function outageOf(work: Promise<unknown>): Promise<OutageError> {
  const error = await work.then(
    () => new Error('it should have failed'),
    (failure: unknown) => failure,
  );
  assert.instance(error, OutageError, String(error));
  return error as OutageError;
}

const asked = () => zoho.calls.filter(({ path }) => path === TOKEN_PATH).length;

test('many workers at once ask Zoho once, and have the same token', async () => {
  const tokens = await Promise.all(Array.from({ length: 20 }, () => worker().get(new AbortController().signal)));
  assert.is(new Set(tokens.map(({ accessToken }) => accessToken)).size, 1);
  assert.is(asked(), 1);
});

test('secrets go in the form, and nothing in the query', async () => {
  await worker().get(never);
  const [call] = zoho.calls;
  assert.equal(call?.query, {});
  const { clientId } = zoho.credentials;
  assert.equal(call?.body, {
    grant_type: 'refresh_token',
    client_id: clientId,
    client_secret: '***',
    refresh_token: '***',
  });
});

test('Redis holds no token that could be read', async () => {
  const { accessToken } = await worker().get(never);
  const keys = await redis.keys('*');
  assert.ok(keys.length > 0 && keys.every((key) => key.startsWith('t:token:zoho:')), keys.join(' '));
  const values = await Promise.all(keys.map((key) => redis.dump(key)));
  const secrets = [accessToken, ...Object.values(zoho.credentials)];
  for (const text of [...keys, ...values.map(String)]) for (const secret of secrets) assert.not(text.includes(secret));
});

test('what was sealed by somebody else is replaced', async () => {
  await worker().get(never);
  const key = (await redis.keys('t:token:zoho:*')).find((name) => /:[0-9a-f]{16}$/.test(name))!;
  await redis.set(key, 'c29tZXRoaW5nIGVsc2UgdGhhdCBpcyBsb25nIGVub3VnaA');
  await worker().get(never);
  assert.is(asked(), 2);
});

test('a token is renewed five minutes before its end, and not before', async () => {
  const { accessToken } = await worker().get(never);
  clock += 3_290_000;
  assert.is((await worker().get(never)).accessToken, accessToken);
  clock += 20_000;
  assert.is.not((await worker().get(never)).accessToken, accessToken);
  assert.is(asked(), 2);
});

test('while one worker renews, the others use the token that is still good', async () => {
  const { accessToken } = await worker().get(never);
  clock += 3_400_000;
  let answer: (value?: unknown) => void = () => {};
  zoho.faults.next({ until: new Promise((resolve) => (answer = resolve)) }, { path: TOKEN_PATH });
  const renewing = worker().get(never);
  await waitForCall(zoho, ({ seq }) => seq === 2);
  assert.is((await worker().get(never)).accessToken, accessToken);
  answer();
  assert.is.not((await renewing).accessToken, accessToken);
});

test('a renewal that fails is no failure while the token is good', async () => {
  const { accessToken } = await worker().get(never);
  clock += 3_400_000;
  zoho.tokens.refuse('invalid_code');
  assert.is((await worker().get(never)).accessToken, accessToken);
  assert.is((await worker().get(never)).accessToken, accessToken);
  assert.is(asked(), 2);
});

test('the token that failed is replaced, once for all workers that saw it fail', async () => {
  const workers = [worker(), worker(), worker()];
  const { accessToken: failing } = await worker().get(never);
  const fresh = await Promise.all(
    workers.map(async (token) => {
      await token.invalidate(failing);
      return (await token.get(never)).accessToken;
    }),
  );
  assert.is(new Set([failing, ...fresh]).size, 2);
  await worker().invalidate(failing);
  assert.is((await worker().get(never)).accessToken, fresh[0]);
  assert.is(asked(), 2);
});

test('a new token that is refused as well stays for a while: another one would fare no better', async () => {
  const { accessToken } = await worker().get(never);
  await worker().noteRefused(accessToken);
  assert.is(await worker().invalidate(accessToken), false, 'also to who was not told');
  assert.is((await worker().get(never)).accessToken, accessToken);
  const [note] = await redis.keys('*:refused');
  const leftMs = await redis.pttl(note!);
  assert.ok(leftMs > 0 && leftMs <= 120_000, `${leftMs} ms`);
  await redis.pexpire(note!, 1);
  await waitFor('the while to be over', () => worker().invalidate(accessToken));
  assert.is.not((await worker().get(never)).accessToken, accessToken);
  assert.is(asked(), 2);
});

test('we never ask more than nine times in ten minutes', async () => {
  for (let count = 0; count < 9; count += 1) {
    const { accessToken } = await worker().get(never);
    await worker().invalidate(accessToken);
  }
  const error = await outageOf(worker().get(never));
  assert.is(error.code, 'zoho_token_throttled');
  assert.is(error.kind, 'outage');
  assert.ok(error.retryAfterMs! > 0 && error.retryAfterMs! <= 600_000);
  assert.is(asked(), 9);
});

test('a throttle of Zoho is remembered for all workers', async () => {
  await start({ refreshesMax: 1 });
  const { accessToken } = await worker().get(never);
  await worker().invalidate(accessToken);
  for (const token of [worker(), worker(), worker()]) {
    const error = await outageOf(token.get(never));
    assert.is(error.code, 'zoho_token_throttled');
    assert.ok(error.retryAfterMs! > 0);
  }
  assert.is(asked(), 2);
});

test('after the window tokens are given again', async () => {
  const options = { refreshWindowMs: 200 };
  const { accessToken } = await worker(options).get(never);
  await worker(options).invalidate(accessToken);
  zoho.faults.next({ status: 400, body: { error: 'Access Denied' } }, { path: TOKEN_PATH });
  assert.is((await outageOf(worker(options).get(never))).code, 'zoho_token_throttled');
  const again = await waitFor('another token', () =>
    worker(options)
      .get(never)
      .catch(() => undefined),
  );
  assert.is.not(again.accessToken, accessToken);
});

const refusals: [word: string, mentions: RegExp][] = [
  ['invalid_code', /ZOHO_REFRESH_TOKEN/],
  ['invalid_client', /ZOHO_CLIENT_ID.*ZOHO_DC/],
  ['invalid_client_secret', /ZOHO_CLIENT_SECRET/],
];

for (const [word, mentions] of refusals) {
  test(`${word} with HTTP 200 is a configuration error that says what to do, and is not asked again at once`, async () => {
    zoho.tokens.refuse(word);
    for (const token of [worker(), worker()]) {
      const error = await outageOf(token.get(never));
      assert.is(error.kind, 'configuration');
      assert.is(error.code, `zoho_${word}`);
      assert.match(error.message, mentions);
      for (const secret of Object.values(zoho.credentials)) assert.not(error.message.includes(secret));
    }
    assert.is(asked(), 1);
  });
}

test('other credentials are tried at once: the mended setting is not held up by the former one', async () => {
  const wrong = worker({ refreshToken: '1000.revoked' });
  assert.is((await outageOf(wrong.get(never))).code, 'zoho_invalid_code');
  assert.ok((await worker().get(never)).accessToken);
});

const answers: [what: string, fault: { status: number; body?: unknown }, kind: string, code: string][] = [
  ['HTTP 200 with neither token nor error', { status: 200, body: {} }, 'outage', 'zoho_accounts_unavailable'],
  ['HTTP 200 with an empty token', { status: 200, body: { access_token: '' } }, 'outage', 'zoho_accounts_unavailable'],
  ['an unknown word', { status: 200, body: { error: 'general_error' } }, 'outage', 'zoho_accounts_unavailable'],
  ['a page instead of JSON', { status: 502 }, 'outage', 'zoho_accounts_unavailable'],
  ['a wrong address', { status: 404 }, 'configuration', 'zoho_token_refused'],
  ['a redirect', { status: 302 }, 'configuration', 'zoho_token_refused'],
];

for (const [what, fault, kind, code] of answers) {
  test(`${what} is no token, but ${kind}`, async () => {
    zoho.faults.next(fault, { path: TOKEN_PATH });
    const error = await outageOf(worker().get(never));
    assert.equal([error.kind, error.code], [kind, code]);
  });
}

test('an accounts server that is down, or hangs, is an outage, and is asked again soon', async () => {
  await zoho.goDown();
  assert.is((await outageOf(worker().get(never))).code, 'zoho_accounts_unavailable');
  await zoho.comeBack();
  for (const hold of await redis.keys('*:hold')) await redis.del(hold);
  zoho.faults.next({ hang: true }, { path: TOKEN_PATH });
  const error = await outageOf(worker({ timeoutMs: 100 }).get(never));
  assert.is(error.code, 'zoho_accounts_unavailable');
  assert.ok(error.retryAfterMs! <= 2_000);
  assert.is(await redis.zcard((await redis.keys('*:refreshes'))[0] ?? 'none'), 0);
});

test('a lifetime in milliseconds is told by expires_in_sec', async () => {
  const body = { access_token: '1000.a.b', expires_in: 3_600_000, expires_in_sec: 3600 };
  zoho.faults.next({ status: 200, body }, { path: TOKEN_PATH });
  await worker().get(never);
  clock += 3_500_000;
  await worker().get(never);
  assert.is(asked(), 2);
});

const domains: [what: string, given: Partial<ZohoTokenOptions>, apiDomain: string, expected: string][] = [
  ['the reply names it', {}, 'https://www.zohoapis.eu', 'https://www.zohoapis.eu'],
  ['a host that is not of Zoho is passed over', {}, 'https://zohoapis.attacker.example', 'https://www.zohoapis.com'],
  [
    'a URL set by hand wins',
    { apiUrlIsFixed: true, apiUrl: 'https://developer.zohoapis.com' },
    'https://www.zohoapis.eu',
    'https://developer.zohoapis.com',
  ],
];

for (const [what, given, apiDomain, expected] of domains) {
  test(`where the API is: ${what}`, async () => {
    await start({ apiDomain });
    assert.is((await worker(given).get(never)).apiDomain, expected);
  });
}

test('a caller that gives up stops waiting at once; the refresh goes on for the others', async () => {
  zoho.faults.next({ latencyMs: 200 }, { path: TOKEN_PATH });
  const giveUp = new AbortController();
  const waiting = worker().get(giveUp.signal);
  await waitForCall(zoho, ({ path }) => path === TOKEN_PATH);
  giveUp.abort(new Error('stopped'));
  assert.is(await waiting.catch((error: Error) => error.message), 'stopped');
  assert.ok((await worker().get(never)).accessToken);
  assert.is(asked(), 1);
});

test('a worker that died while it refreshed does not stop the others for long', async () => {
  await worker().get(never);
  const key = (await redis.keys('t:token:zoho:*')).find((name) => /:[0-9a-f]{16}$/.test(name))!;
  await redis.del(key);
  await redis.set(`${key}:lock`, 'a dead worker', 'PX', 150);
  assert.ok((await worker().get(never)).accessToken);
});

test.run();
