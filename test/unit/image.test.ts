/** What goes into the image: nothing builds it here. */
import { readdirSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('the image');

const copied = [...readFileSync('Dockerfile', 'utf8').matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from]) =>
  from!.split(' '),
);

test('what the Dockerfile copies is not ignored', () => {
  const kept = [...readFileSync('.dockerignore', 'utf8').matchAll(/^!(.+)$/gm)].map(([, path]) => path!);
  assert.equal([...new Set(copied)].sort(), kept.sort());
});

test('the samples of gvi send are in it', () => {
  const names = readdirSync('scripts/gvi', { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const code = names.map((name) => readFileSync(`scripts/gvi/${name}`, 'utf8')).join('\n');
  const read = [...code.matchAll(/'(test\/[^']+)'/g)].map(([, path]) => path!);
  assert.ok(read.length > 0);
  assert.equal(
    read.filter((path) => !copied.includes(path)),
    [],
  );
});

test.run();
