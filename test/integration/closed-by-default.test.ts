/** Debug routes and dashboard are shut unless somebody opened them, and then only to whom the rule names. */
import { networkInterfaces } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sessionOf } from '../../src/ingest/access.js';
import { startIngest } from '../helpers/ingest-process.js';
import { exchange, type RawAnswer } from '../helpers/raw-http.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';

const test = suite('closed by default');

const TOKEN = 'grace-token-of-the-tests';
const ROUTES = ['/debug/info', '/debug/events/calendly-1-0', '/debug/idem/x', '/dashboard'];
/** Other ways to write a route, which a router may take for it. */
const SPELLINGS = [
  ...[
    '/DEBUG/info',
    '/Debug/Info',
    '/debug/INFO',
    '//debug/info',
    '/./debug/info',
    '/x/../debug/info',
    '/debug/./info',
  ],
  ...[
    '/%64ebug/info',
    '/debug%2finfo',
    '/debug/info/',
    '/debug/info?x=1',
    '/debug/info;x',
    '/debug//info',
    '/debug\\info',
  ],
  ...['http://localhost/debug/info', 'http://localhost/DEBUG/info', '/dashboard/', '/DASHBOARD', '/debug', '/debug/'],
];

let server: TestRedis;

test.before(async () => {
  server = await startRedis();
});
test.after(() => server.stop());

/** Serves with these settings, and stops when `look` is done. */
async function during(settings: Record<string, string>, look: (base: string) => Promise<void>): Promise<void> {
  const ingest = await startIngest({ REDIS_URL: server.url, ...settings });
  try {
    await look(ingest.base);
  } finally {
    await ingest.stop();
  }
}

async function ask(base: string, target: string, lines: readonly string[] = [], method = 'GET'): Promise<RawAnswer> {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ['Host: localhost'];
  const head = [`${method} ${target} HTTP/1.1`, ...host, 'Connection: close', ...lines].join('\r\n');
  const [answer] = await exchange(base, `${head}\r\n\r\n`);
  return answer!;
}

/** Byte for byte as where there is nothing: not even that something is hidden may be told. */
async function assertNothingThere(base: string, target: string, lines: readonly string[] = []): Promise<void> {
  const nothing = await ask(base, '/there-is-nothing');
  assert.is(nothing.status, 404);
  for (const method of ['GET', 'POST']) {
    const found = await ask(base, target, lines, method);
    if (found.status === 400) continue;
    assert.equal([found.status, found.body], [404, nothing.body], `${method} ${target} ${lines}`);
    assert.equal(Object.keys(found.headers), Object.keys(nothing.headers));
  }
}

test('as it comes, there are none', async () => {
  await during({}, async (base) => {
    for (const target of [...ROUTES, ...SPELLINGS]) await assertNothingThere(base, target);
    for (const target of ROUTES) await assertNothingThere(base, target, [`Authorization: Bearer ${TOKEN}`]);
  });
});

test('a token alone opens no debug route: they have to be allowed', async () => {
  await during({ DASHBOARD_TOKEN: `grace:${TOKEN}` }, async (base) => {
    for (const target of ROUTES.filter((route) => route !== '/dashboard')) {
      await assertNothingThere(base, target, [`Authorization: Bearer ${TOKEN}`]);
    }
  });
});

const PROXIED = [
  ...['Forwarded: for=203.0.113.9', 'X-Forwarded-For: 127.0.0.1', 'X-Forwarded-Proto: https', 'X-FORWARDED-HOST: a'],
  ...[
    'x-forwarded-anything:',
    'Via: 1.1 proxy',
    'X-Real-IP: 127.0.0.1',
    'CF-Connecting-IP: ::1',
    'True-Client-IP: ::1',
  ],
];
const HOSTS = [
  'example.com',
  'localhost.example.com',
  '127.0.0.1.nip.io',
  '10.0.0.1',
  'localhost@evil.example',
  '[::2]',
  '',
];

test('a request that names no host, or two, is none, and is told so in the shape of every refusal', async () => {
  await during({ ALLOW_DEBUG_ENDPOINTS: 'true' }, async (base) => {
    for (const lines of [[], ['Host: localhost', 'Host: evil.example'], ['Host: localhost', 'Host: localhost']]) {
      const head = ['GET /debug/info HTTP/1.1', ...lines].join('\r\n');
      const [answer] = await exchange(base, `${head}\r\n\r\n`);
      assert.equal([answer!.status, JSON.parse(answer!.body).error.code], [400, 'bad_request']);
    }
  });
});

test('allowed, without a token: this machine alone, by its own name, and nothing that came through a proxy', async () => {
  await during({ ALLOW_DEBUG_ENDPOINTS: 'true' }, async (base) => {
    for (const host of ['localhost', '127.0.0.1:8000', '[::1]']) {
      const { status, body } = await ask(base, '/debug/info', [`Host: ${host}`]);
      assert.is(status, 200);
      assert.type(JSON.parse(body).settings, 'object');
    }
    for (const target of ['/debug/info', '/DEBUG/info']) {
      for (const line of PROXIED) await assertNothingThere(base, target, [line]);
      for (const host of HOSTS) await assertNothingThere(base, target, [`Host: ${host}`]);
    }
  });
});

test('a proxy’s header counts also behind a thousand others, where Node would drop it', async () => {
  await during({ ALLOW_DEBUG_ENDPOINTS: 'true' }, async (base) => {
    const many = Array.from({ length: 2_500 }, () => 'a:');
    assert.is((await ask(base, '/debug/info', many)).status, 200);
    await assertNothingThere(base, '/debug/info', [...many, 'X-Forwarded-For: 203.0.113.9']);
  });
});

test('allowed, without a token: nobody from another address', async () => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === 'IPv4' && !address.internal);
  if (outside === undefined) return;
  await during({ ALLOW_DEBUG_ENDPOINTS: 'true' }, async (base) => {
    const response = await fetch(`http://${outside.address}:${new URL(base).port}/debug/info`);
    assert.is(response.status, 404);
  });
});

test('in production without a token: nobody', async () => {
  const settings = { ALLOW_DEBUG_ENDPOINTS: 'true', NODE_ENV: 'production', READAI_SHARED_SECRET: 'x' };
  await during(settings, async (base) => {
    for (const target of [...ROUTES, ...SPELLINGS]) await assertNothingThere(base, target);
  });
});

const WRONG = [
  ...['Bearer', 'Bearer ', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`, `Bearer ${TOKEN} more`],
  ...[
    `Bearer grace:${TOKEN}`,
    TOKEN,
    'Bearer undefined',
    `Bearer ${sessionOf(TOKEN)}`,
    `Bearer ${TOKEN.toUpperCase()}`,
  ],
].map((value) => `Authorization: ${value}`);

test('with a token: who has it, from anywhere and in production; others are told that one is needed', async () => {
  const settings = {
    ALLOW_DEBUG_ENDPOINTS: 'true',
    NODE_ENV: 'production',
    DASHBOARD_TOKEN: `grace:${TOKEN},bare-token`,
  };
  await during(settings, async (base) => {
    const far = ['Host: gvi.example', 'X-Forwarded-For: 203.0.113.9'];
    for (const proof of [
      `Authorization: Bearer ${TOKEN}`,
      'authorization: bearer bare-token',
      `Cookie: a=b; gvi_session=${sessionOf(TOKEN)}`,
    ]) {
      assert.is((await ask(base, '/debug/info', [...far, proof])).status, 200, proof);
    }
    for (const line of [...WRONG, `Cookie: gvi_session=${TOKEN}`, 'X-None: 1']) {
      const refused = await ask(base, '/debug/info', [line]);
      assert.is(refused.status, 401, line);
      assert.is(JSON.parse(refused.body).error.code, 'unauthorized');
      assert.is(refused.headers['www-authenticate'], 'Bearer');
    }
    for (const target of ['/DEBUG/info', '/debug/INFO', '//debug/info']) {
      const { status } = await ask(base, target, far);
      assert.ok(status === 401 || status === 404, `${target} is ${status}`);
    }
    const { body } = await ask(base, '/debug/info', [`Authorization: Bearer ${TOKEN}`]);
    assert.not.match(body, TOKEN);
    assert.not.match(body, 'bare-token');
  });
});

test('no answer lets another origin read it', async () => {
  await during({ ALLOW_DEBUG_ENDPOINTS: 'true' }, async (base) => {
    for (const target of ['/debug/info', '/metrics', '/healthz']) {
      const { headers } = await ask(base, target, ['Origin: https://evil.example']);
      assert.ok(Object.keys(headers).every((name) => !name.startsWith('access-control-')));
      assert.is(headers['cache-control'], 'no-store');
    }
  });
});

test.run();
