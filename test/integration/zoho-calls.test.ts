import { createServer } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NotYetError } from '../../src/lib/errors.js';
import { makeZohoClient } from '../../src/lib/providers/zoho/client.js';
import { failureOf } from '../helpers/failure-of.js';
import {
  ADDRESS,
  connectClient,
  crmCalls,
  flat,
  PATIENT_MS,
  read,
  UPSERT_PATH,
  wrapped,
  write,
} from '../helpers/zoho-client.js';
import { waitForCall } from '../standins/http.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite<{ zoho: ZohoStandin }>('a call to Zoho');

test.before(async (context) => {
  context.zoho = await startZoho();
});

test.before.each(({ zoho }) => {
  zoho.faults.clear();
  zoho.calls.length = 0;
});

test.after(({ zoho }) => zoho.stop());

test('what fails before it is sent is not done', async ({ zoho }) => {
  const gone = await startZoho();
  await gone.stop();
  const token = { ...connectClient(zoho).token, get: async () => ({ accessToken: 'any', apiDomain: gone.url }) };
  const { send } = makeZohoClient({ token, timeoutMs: PATIENT_MS });
  const failure = await failureOf(send(write, new AbortController().signal));
  assert.equal([failure.code, failure.mayBeDone], ['zoho_unreachable', false]);
  assert.is(zoho.calls.length, 0);
});

test('no answer in time is an outage, and a write may be done', async ({ zoho }) => {
  const { send, token } = connectClient(zoho, { timeoutMs: 150 });
  await token.get(new AbortController().signal);
  for (const fault of [{ hang: true }, { slowBodyMs: 60_000 }]) {
    zoho.faults.next(fault, { path: UPSERT_PATH });
    const failure = await failureOf(send(write));
    assert.equal([failure.code, failure.mayBeDone], ['zoho_timeout', true]);
  }
});

test('a read that fails is never done', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  zoho.faults.next({ status: 503 }, { method: 'GET' });
  assert.is((await failureOf(send(read))).mayBeDone, false);
});

test('neither the message nor what hangs on the error tells an address or a token', async ({ zoho }) => {
  const { send, token } = connectClient(zoho);
  for (const fault of [{ status: 503 }, { reset: true }, { status: 400, body: flat('INVALID_QUERY') }]) {
    zoho.faults.next(fault, { method: 'GET' });
    const failure = await failureOf(send(read));
    const { accessToken } = await token.get(new AbortController().signal);
    const told = `${failure.message} ${failure.stack} ${JSON.stringify(failure)} ${String(failure.cause)}`;
    for (const secret of [ADDRESS, encodeURIComponent(ADDRESS), accessToken]) assert.not(told.includes(secret));
  }
});

test('a wait that Zoho names is handed on', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  zoho.faults.next(
    { status: 429, body: flat('TOO_MANY_REQUESTS'), headers: { 'retry-after': '7' } },
    { path: UPSERT_PATH },
  );
  assert.is((await failureOf(send(write))).retryAfterMs, 7_000);
});

test('204 to a read means that nothing was found', async ({ zoho }) => {
  assert.is(await connectClient(zoho).send({ ...read, query: { email: 'nobody@acme.example' } }), undefined);
});

test('refused records are no failure of the call, whatever the status', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  const body = wrapped('MANDATORY_NOT_FOUND');
  for (const status of [200, 202, 207, 400, 409]) {
    zoho.faults.next({ status, body }, { path: UPSERT_PATH });
    assert.equal(await send(write), body, String(status));
  }
});

test('the same refusal of a read is one', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  zoho.faults.next({ status: 400, body: wrapped('INVALID_DATA') }, { method: 'GET' });
  assert.is((await failureOf(send(read))).code, 'zoho_invalid_data');
});

test('what Zoho puts for a code is passed on only if it looks like one', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  zoho.faults.next({ status: 400, body: flat(`bad value ${ADDRESS}`) }, { path: UPSERT_PATH });
  const failure = await failureOf(send(write));
  assert.is(failure.code, 'zoho_http_400');
  assert.not(failure.message.includes(ADDRESS));
});

test('a caller that gives up gets its own reason, at once', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  zoho.faults.next({ hang: true }, { path: UPSERT_PATH });
  const giveUp = new AbortController();
  const failing = failureOf(send(write, giveUp.signal));
  await waitForCall(zoho, ({ path }) => path === UPSERT_PATH);
  giveUp.abort(new Error('stopped'));
  assert.is((await failing).message, 'stopped');
});

test('a write that comes to its turn too late is not sent, and can wait', async ({ zoho }) => {
  const { send } = connectClient(zoho);
  const failure = await failureOf(send({ ...write, sendBy: performance.now() }));
  assert.instance(failure, NotYetError);
  assert.is(crmCalls(zoho).length, 0);
  assert.ok(await send({ ...write, sendBy: performance.now() + 60_000 }));
});

test('nor is it sent again when a new token was long in coming', async ({ zoho }) => {
  const { token } = connectClient(zoho);
  const call = { ...write, sendBy: performance.now() + PATIENT_MS };
  const invalidate = (failing: string) => {
    call.sendBy = performance.now();
    return token.invalidate(failing);
  };
  const { send } = makeZohoClient({ token: { ...token, invalidate }, timeoutMs: PATIENT_MS });
  zoho.faults.next({ status: 401, body: flat('INVALID_TOKEN') }, { path: UPSERT_PATH });
  assert.instance(await failureOf(send(call, new AbortController().signal)), NotYetError);
  assert.is(crmCalls(zoho).length, 1);
});

test('nor when there is no connection in time', async ({ zoho }) => {
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const apiDomain = `https://127.0.0.1:${(silent.address() as { port: number }).port}`;
  const token = { ...connectClient(zoho).token, get: async () => ({ accessToken: 'any', apiDomain }) };
  const { send } = makeZohoClient({ token, timeoutMs: PATIENT_MS });
  const failure = await failureOf(send({ ...write, sendBy: performance.now() + 100 }, new AbortController().signal));
  silent.close();
  assert.instance(failure, NotYetError);
});

test.run();
