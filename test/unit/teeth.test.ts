/** The defences that `npm run teeth` takes away stand where it looks for them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFENCES } from '../../scripts/lib/teeth/defences.js';

const test = suite('defences that can be taken away');
const root = join(import.meta.dirname, '..', '..');

for (const { name, changes, tests, faults = [] } of DEFENCES) {
  test(`${name}: each text to take away stands exactly once, and its tests are there`, () => {
    for (const { file, from } of changes) {
      assert.is(readFileSync(join(root, file), 'utf8').split(from).length - 1, 1, `${file}: ${from}`);
    }
    for (const file of [...tests, ...faults]) assert.ok(existsSync(join(root, file)), file);
  });
}

test.run();
