import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseConfig } from '../../src/lib/config.js';
import { describeSettings } from '../../src/lib/debug.js';
import { SECRETS } from '../helpers/planted.js';

const test = suite('described settings');

const GOOD = { REDIS_URL: 'redis://127.0.0.1:6379', SLACK_CHANNEL: 'C0PUBLIC' };
const URLS = ['BASE_URL', 'ZOHO_ACCOUNTS_URL', 'ZOHO_API_URL', 'GEMINI_BASE_URL', 'SLACK_API_URL'];

test('no secret is among them, only whether each is set', () => {
  const described = JSON.stringify(describeSettings(parseConfig({ ...GOOD, ...SECRETS })));
  for (const value of Object.values(SECRETS)) assert.not(described.includes(value));
  assert.not.match(described, 'planted');
  assert.match(described, '"signingKeys":2');
  assert.match(described, '"credentials":true');
  assert.match(described, '"dashboardUsers":["grace"]');
});

test('of a URL neither user, password nor query is told, whatever characters they hold', () => {
  const url = 'https://planted-user:planted/p@ss@gvi.example/path?key=planted-key';
  const config = parseConfig({ ...GOOD, ...SECRETS, ...Object.fromEntries(URLS.map((name) => [name, url])) });
  for (const redisUrl of [
    'redis://u:planted/p@ss@h:1/0',
    'redis://h:1?password=planted-x',
    'redis-sentinel://u:planted-x@h:1,i:2/m',
    'redis-cluster://:planted@h:1,i:2',
  ]) {
    const described = JSON.stringify(describeSettings({ ...config, redisUrl }));
    assert.not.match(described, 'planted');
    assert.is(described.split('gvi.example/path').length, URLS.length + 1);
  }
});

test('a new setting that holds text stays hidden until somebody lists it', () => {
  const config = { ...parseConfig({ ...GOOD, ...SECRETS }), token: 'planted', nested: { token: 'planted' }, limit: 7 };
  const described = describeSettings(config) as Record<string, unknown>;
  assert.not.match(JSON.stringify(described), 'planted');
  assert.is(described.limit, 7);
});

test.run();
