/** Entries as they stand in Redis, one for each version that an event ever had: what is written stays readable for ever. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeEntry } from '../../src/lib/codec.js';
import { catalogue, type EventType } from '../../src/lib/events.js';

const test = suite('old entries');

const FOLDER = join(import.meta.dirname, '..', 'fixtures', 'entries');

for (const [type, { version: present, stream }] of Object.entries(catalogue)) {
  for (let version = 1; version <= present; version += 1) {
    test(`${type} of version ${version} can be read`, () => {
      const { id, fields } = JSON.parse(readFileSync(join(FOLDER, `${type}.v${version}.json`), 'utf8'));
      assert.is(fields.v, String(version));
      const event = decodeEntry(stream, id, fields);
      assert.is(event.type, type as EventType);
      assert.is(event.key, fields.key);
      assert.equal(event.data, catalogue[type as EventType].data.parse(event.data));
    });
  }
}

test.run();
