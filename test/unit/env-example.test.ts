import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseConfig } from '../../src/lib/config.js';

const test = suite('.env.example');

const example = readFileSync('.env.example', 'utf8');
const listed = [...example.matchAll(/^([A-Z][A-Z0-9_]+)=(.*)$/gm)].map(([, name, value]) => ({ name, value: value! }));
const known = [...readFileSync('src/lib/config.ts', 'utf8').matchAll(/^ {2}([A-Z][A-Z0-9_]+): /gm)].map(
  ([, name]) => name,
);

test('it lists every setting that the service knows, and no other, each once', () => {
  assert.ok(known.length > 30);
  assert.equal(listed.map(({ name }) => name).sort(), [...known].sort());
});

test('it can be used as it is', () => {
  parseConfig({
    ...Object.fromEntries(listed.map(({ name, value }) => [name, value])),
    REDIS_URL: 'redis://127.0.0.1',
  });
});

test('the values in it are the defaults, but for the dry run', () => {
  const values = Object.fromEntries(listed.map(({ name, value }) => [name, value]));
  const settings = { ...values, REDIS_URL: 'redis://127.0.0.1', DRY_RUN: '' };
  assert.equal(parseConfig(settings), parseConfig({ REDIS_URL: 'redis://127.0.0.1' }));
  assert.is(values.DRY_RUN, 'true');
});

test('no secret stands in it', () => {
  const secrets = listed.filter(({ name }) => /(KEY|SECRET|TOKEN|CLIENT_ID)$/.test(name!));
  assert.ok(secrets.length >= 8);
  assert.equal(
    secrets.filter(({ value }) => value !== ''),
    [],
  );
});

test('every setting is explained', () => {
  const lines = example.split('\n');
  const bare = lines.filter((line, index) => /^[A-Z]/.test(line) && !/^(#|[A-Z])/.test(lines[index - 1] ?? ''));
  assert.equal(bare, []);
});

test.run();
