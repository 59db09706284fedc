import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigError, parseConfig } from '../../src/lib/config.js';
import { parseNodeList } from '../../src/lib/redis-url.js';

const test = suite('settings, and those that cannot be used');

const GOOD = { REDIS_URL: 'redis://127.0.0.1:6379' };

function refusalOf(env: Record<string, string>): string {
  try {
    parseConfig({ ...GOOD, ...env });
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as Error).message;
  }
  throw new Error('they were taken');
}

test('times of days come out in whole milliseconds, however small and however they are written', () => {
  const msOf = (days: string) => parseConfig({ ...GOOD, RETENTION_DAYS: days, IDEMPOTENCY_TTL_DAYS: days }).retentionMs;
  assert.equal(
    ['90', '0.000023', '0.3333333', '5.787037e-7', '1e-12'].map(msOf),
    [7_776_000_000, 1_987, 28_799_997, 50, 1],
  );
});

const BAD: [variable: string, value: string][] = [
  ['PORT', '70000'],
  ['WORKER_PORT', 'eighty'],
  ['BASE_URL', 'ftp://hooks.example.com'],
  ['REDIS_URL', 'http://secret@redis.example.com'],
  ['REDIS_URL', 'redis://h:6379/second'],
  ['REDIS_URL', 'redis://h:6379/1/2'],
  ['REDIS_URL', 'rediss://h/?db=second'],
  ['REDIS_URL', 'redis-sentinel://h:26379,i:26379/mymaster/second'],
  ['REDIS_URL', 'redis-sentinel://h:26379/mymaster?tls=true&db=-1'],
  ['REDIS_URL', 'redis-sentinel://user:pass@word@h:1/main'],
  ['REDIS_URL', 'redis-sentinel://user:pass%zz@h:1/main'],
  ['REDIS_URL', 'redis-sentinel://h:1,/main'],
  ['REDIS_URL', 'redis-cluster://h:1,i:99999'],
  ['REDIS_URL', 'redis-cluster://h#1,i:2'],
  ['LOG_LEVEL', 'chatty'],
  ['NODE_ENV', 'Production'],
  ['NODE_ENV', 'staging'],
  ['DRY_RUN', 'perhaps'],
  ['BODY_LIMIT_MB', '-1'],
  ['CALENDLY_TOLERANCE_S', '3.5'],
  ['CALENDLY_SIGNING_KEY', ',,'],
  ['READAI_SIGNING_KEY', 'not base64 at all!'],
  ['READAI_SIGNING_KEY', ' , ,'],
  ['INTERNAL_DOMAINS', ',,'],
  ['INTERNAL_DOMAINS', 'seller'],
  ['INTERNAL_DOMAINS', 'me@seller.example'],
  ['INTERNAL_DOMAINS', 'seller.example,not a domain'],
  ['INTERNAL_DOMAINS', '*.seller.example'],
  ['INTERNAL_DOMAINS', 'seller.example.'],
  ['RETRY_MAX_MS', '0'],
  ['ZOHO_DC', 'atlantis'],
  ['ZOHO_API_URL', 'www.zohoapis.eu'],
  ['ZOHO_FIELD_MAP', '{"company":"Company_Name__x"}'],
  ['GEMINI_MODEL', 'a model with spaces'],
  ['MAX_ATTEMPTS', '0'],
  ['VISIBILITY_TIMEOUT_MS', '5'],
  ['VISIBILITY_TIMEOUT_MS', '90000000'],
  ['SHUTDOWN_GRACE_MS', '2147483648'],
  ['IDEMPOTENCY_TTL_DAYS', '1e12'],
  ['RETENTION_DAYS', '1e300'],
  ['DASHBOARD_TOKEN', 'ops:,second-secret'],
  ['DASHBOARD_TOKEN', ':a-secret'],
  ['DASHBOARD_TOKEN', 'a-secret,,'],
];

test('a field map that names no field of ours is refused with its place, and with the names that there are', () => {
  const map = { phone: { field: 'Phone' }, compny: { field: 'Company' }, telefon: { field: 'Phone' } };
  const message = refusalOf({ ZOHO_FIELD_MAP: JSON.stringify(map) });
  assert.match(message, /ZOHO_FIELD_MAP: should .* number 2, 3 is none of .*company, .*meddic\.champion/);
  assert.not.match(message, /compny|telefon|Company/);
});

test('a secret that a file gave a line break is used without it', () => {
  assert.is(parseConfig({ ...GOOD, READAI_SHARED_SECRET: ' the secret\n' }).readai.sharedSecret, 'the secret');
});

for (const [variable, value] of BAD) {
  test(`${variable}=${value} is refused by its name, and the value is not told`, () => {
    const message = refusalOf({ [variable]: value });
    assert.match(message, new RegExp(`\\n  ${variable}: should be|\\n  ${variable}: Invalid option`));
    assert.not(message.includes(value));
  });
}

for (const url of [
  ...['redis://:p#w@host:99999/', 'redis://u:sec/ret@h', 'redis://u:sec?ret@h', 'redis://u:sec%zz@h', 'redis://h#1@h'],
  ...['rediss://u:p@[::1', 'redis://h:99999', 'redis-sentinel://', 'redis-cluster://u:a/b@h'],
]) {
  test(`REDIS_URL=${url} is refused with the form that it should have`, () => {
    const message = refusalOf({ REDIS_URL: url, KEY_PREFIX: '{gvi}:' });
    assert.match(message, /^The settings cannot be used:\n {2}REDIS_URL: should be a URL such as redis:\/\/[^\n]+$/);
    assert.match(message, 'percent-encoded (%23 for #');
  });
}

test('a URL of each form is taken, with a password of any characters once they are encoded', () => {
  const password = encodeURIComponent('p#w/?@:%ü');
  for (const url of [
    ...[`redis://:${password}@h:6380/2`, `rediss://u:${password}@h`, 'redis://[::1]:6379', 'redis://h?family=6'],
    ...[`redis-sentinel://u:${password}@h:1,i,[::1]:3/main?sentinelPassword=${password}`, 'redis-cluster://h:1,i'],
  ]) {
    assert.is(parseConfig({ REDIS_URL: url, KEY_PREFIX: '{gvi}:' }).redisUrl, url);
  }
});

test('NODE_ENV that is empty or not set means development', () => {
  for (const env of [{}, { NODE_ENV: '' }, { NODE_ENV: 'development' }, { NODE_ENV: 'test' }]) {
    assert.is(parseConfig({ ...GOOD, ...env }).isProduction, false);
  }
  assert.is(parseConfig({ ...GOOD, NODE_ENV: 'production' }).isProduction, true);
  assert.match(refusalOf({ NODE_ENV: 'prod' }), /\n {2}NODE_ENV: should be development, production or test$/);
});

test('all that is wrong is told at once', () => {
  const message = refusalOf({ PORT: 'x', ZOHO_DC: 'y', DRY_RUN: 'z' });
  for (const variable of ['PORT', 'ZOHO_DC', 'DRY_RUN']) assert.match(message, `${variable}:`);
});

test('what belongs together is refused by halves, and no secret is told', () => {
  const halves = { ZOHO_CLIENT_ID: '1000.HALF', ZOHO_CLIENT_SECRET: 'half-a-secret', SLACK_BOT_TOKEN: 'xoxb-half' };
  const message = refusalOf(halves);
  assert.match(message, 'ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET, ZOHO_REFRESH_TOKEN: should be set together');
  assert.match(message, 'SLACK_BOT_TOKEN, SLACK_CHANNEL: should be set together');
  for (const secret of Object.values(halves)) assert.not(message.includes(secret));
});

test('several keys are taken while one is rotated, in production each of a sensible length', () => {
  const keys = ['first key of Read.ai', 'second key of Read.ai'].map((key) => Buffer.from(key).toString('base64'));
  assert.equal(parseConfig({ ...GOOD, READAI_SIGNING_KEY: keys.join(', ') }).readai.signingKeys, keys);
  const short = `${keys[0]},c2hvcnQ=`;
  assert.is(parseConfig({ ...GOOD, READAI_SIGNING_KEY: short }).readai.signingKeys.length, 2);
  assert.match(
    refusalOf({ READAI_SIGNING_KEY: short, NODE_ENV: 'production' }),
    /\n {2}READAI_SIGNING_KEY: should decode/,
  );
});

test('a domain is taken as people write it', () => {
  const { internalDomains } = parseConfig({
    ...GOOD,
    INTERNAL_DOMAINS: 'Seller.example, @mail.seller.example,müller.de,',
  });
  assert.equal(internalDomains, ['seller.example', 'mail.seller.example', 'müller.de']);
});

test('a token has a name, or is the operator’s', () => {
  const { dashboardTokens } = parseConfig({ ...GOOD, DASHBOARD_TOKEN: 'ops:to:ken, bare' });
  assert.equal(dashboardTokens, [
    { name: 'ops', token: 'to:ken' },
    { name: 'operator', token: 'bare' },
  ]);
});

test('retries begin as early as their longest wait allows, where only that is set', () => {
  const waits = (env: Record<string, string>) => {
    const { retryBaseMs, retryMaxMs } = parseConfig({ ...GOOD, ...env }).work;
    return [retryBaseMs, retryMaxMs];
  };
  assert.equal(waits({}), [1_000, 300_000]);
  assert.equal(waits({ RETRY_MAX_MS: '500' }), [500, 500]);
  assert.equal(waits({ RETRY_BASE_MS: '50' }), [50, 300_000]);
  assert.match(
    refusalOf({ RETRY_BASE_MS: '501', RETRY_MAX_MS: '500' }),
    'RETRY_MAX_MS: should be at least RETRY_BASE_MS',
  );
});

test('a database of Redis is named by its number, where there are several', () => {
  for (const url of ['redis://h', 'redis://h:1/', 'rediss://u:p@h/15', 'redis://h?db=1', 'redis-cluster://h:1,i:2/0']) {
    assert.is(parseConfig({ ...GOOD, KEY_PREFIX: '{gvi}:', REDIS_URL: url }).redisUrl, url);
  }
  assert.match(
    refusalOf({ KEY_PREFIX: '{gvi}:', REDIS_URL: 'redis-cluster://h:1,i:2/1' }),
    'a cluster has number 0 alone',
  );
  const { name, db } = parseNodeList('redis-sentinel://h:1,i:2/mymaster/3?tls=true');
  assert.equal([name, db], ['mymaster', 3]);
  assert.is(parseNodeList('redis-sentinel://h:1/mymaster?db=3').db, 3);
  assert.is(parseNodeList('redis-sentinel://h:1/mymaster').db, 0);
});

test.run();
