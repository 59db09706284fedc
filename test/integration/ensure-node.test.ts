/** What `./scripts/dev` and `./scripts/test` do about npm packages. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('ensure-node.sh');

let tree: string;
let shared: string;

test.before.each(() => {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-packages-'));
  [tree, shared] = [join(dir, 'tree'), join(dir, 'shared')];
  write('package.json', { name: 'tree', version: '1.0.0', dependencies: { one: '^1.0.0' } });
  mkdirSync(join(tree, 'scripts/lib'), { recursive: true });
  cpSync('scripts/lib/ensure-node.sh', join(tree, 'scripts/lib/ensure-node.sh'));
  mkdirSync(shared);
  symlinkSync(shared, join(tree, 'node_modules'));
});
test.after.each(() => rmSync(dirname(tree), { recursive: true, force: true }));

function write(path: string, content: object): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), JSON.stringify(content));
}

function run() {
  const { status, stderr } = spawnSync(join(tree, 'scripts/lib/ensure-node.sh'), { encoding: 'utf8' });
  return { status, stderr };
}

test('a linked node_modules that has what is wanted is used as it is', () => {
  write('node_modules/one/package.json', { name: 'one', version: '1.2.0' });
  assert.equal(run(), { status: 0, stderr: '' });
});

test('into one that has something else nothing is installed: it says what is wrong, and leaves it to others', () => {
  write('node_modules/one/package.json', { name: 'one', version: '0.9.0' });
  const { status, stderr } = run();
  assert.is(status, 1);
  assert.match(stderr, `node_modules is a link to ${shared}`);
  assert.match(stderr, /one@0\.9\.0 invalid/);
  assert.ok(existsSync(join(shared, 'one/package.json')));
});

test.run();
