import type { IncomingHttpHeaders } from 'node:http';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decideAccess, SESSION_COOKIE, sessionOf } from '../../src/ingest/access.js';

const local = suite('access without tokens');
const token = suite('access with tokens');

const visit = (headers: IncomingHttpHeaders = {}, remoteAddress: string | undefined = '127.0.0.1') => ({
  remoteAddress,
  headers: { host: 'localhost:8000', ...headers },
});
const open = { tokens: [], isProduction: false };

for (const host of ['localhost', 'LOCALHOST:8000', '127.0.0.1', '127.0.0.1:80', '[::1]', '[::1]:8000']) {
  local(`a visitor of this machine who asks for ${host} comes in`, () => {
    assert.is(decideAccess(visit({ host }), open).kind, 'granted');
  });
}

for (const host of [
  'example.com',
  'localhost.example.com',
  'localhost:8000@evil.example',
  '127.0.0.1.nip.io',
  '::1',
  '',
]) {
  local(`a visitor who asks for "${host}" finds nothing`, () => {
    assert.is(decideAccess(visit({ host }), open).kind, 'hidden');
  });
}

for (const address of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1']) {
  local(`${address} is this machine`, () => {
    assert.is(decideAccess(visit({}, address), open).kind, 'granted');
  });
}

for (const address of ['10.0.0.7', '192.168.1.2', '::ffff:10.0.0.7', 'fe80::1', '2001:db8::1']) {
  local(`${address} is not this machine`, () => {
    assert.is(decideAccess(visit({}, address), open).kind, 'hidden');
  });
}

local('a closed socket has no address, and comes from nowhere', () => {
  assert.is(decideAccess({ remoteAddress: undefined, headers: { host: 'localhost' } }, open).kind, 'hidden');
});

for (const name of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-anything']) {
  local(`a request with ${name} came through a proxy or tunnel, and finds nothing`, () => {
    assert.is(decideAccess(visit({ [name]: '' }), open).kind, 'hidden');
  });
}

local('in production nobody comes in', () => {
  assert.is(decideAccess(visit(), { tokens: [], isProduction: true }).kind, 'hidden');
});

const rule = {
  tokens: [
    { name: 'grace', token: 'grace-token' },
    { name: 'operator', token: 'bare-token' },
  ],
  isProduction: true,
};

token('a bearer token names its holder, from anywhere and in production', () => {
  const from = (authorization: string) =>
    decideAccess(visit({ authorization, host: 'gvi.example', 'x-forwarded-for': '203.0.113.9' }, '10.0.0.7'), rule);
  assert.equal(from('Bearer grace-token'), { kind: 'granted', name: 'grace' });
  assert.equal(from('bearer  bare-token'), { kind: 'granted', name: 'operator' });
});

for (const authorization of [
  'Bearer wrong',
  'Bearer grace-token more',
  'Bearer',
  'Basic grace-token',
  'grace-token',
  '',
]) {
  token(`"${authorization}" opens nothing`, () => {
    assert.is(decideAccess(visit({ authorization }), rule).kind, 'unauthorized');
  });
}

token('a token of any characters opens, as its bytes are sent', () => {
  const tokens = [{ name: 'ada', token: 'a tökén, of w😀rds' }];
  // As Node reads the bytes of a header.
  const authorization = Buffer.from(`Bearer ${tokens[0]!.token}`, 'utf8').toString('latin1');
  assert.equal(decideAccess(visit({ authorization }), { tokens, isProduction: true }), {
    kind: 'granted',
    name: 'ada',
  });
});

token('being at this machine does not replace a token', () => {
  assert.is(decideAccess(visit(), { ...rule, isProduction: false }).kind, 'unauthorized');
});

token('the cookie of the sign-in form opens as the token does, and is not the token', () => {
  const cookie = `theme=dark; ${SESSION_COOKIE}=${sessionOf('grace-token')}; other=1`;
  assert.equal(decideAccess(visit({ cookie }), rule), { kind: 'granted', name: 'grace' });
  assert.is(decideAccess(visit({ cookie: `${SESSION_COOKIE}=grace-token` }), rule).kind, 'unauthorized');
  assert.is(decideAccess(visit({ cookie: `${SESSION_COOKIE}=${sessionOf('retired')}` }), rule).kind, 'unauthorized');
  assert.is(decideAccess(visit({ cookie: `x${cookie.split('; ')[1]}` }), rule).kind, 'unauthorized');
});

local.run();
token.run();
