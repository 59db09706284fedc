import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { AlertOptions } from '../../src/consumers/alert.js';
import type { CrmSyncOptions } from '../../src/consumers/crm-sync.js';
import { makeConsumers } from '../../src/consumers/index.js';
import { parseConfig } from '../../src/lib/config.js';
import { catalogue, type EventType, GROUPS, STREAMS, streamsOf } from '../../src/lib/events.js';

const test = suite('event catalogue');

const config = parseConfig({ REDIS_URL: 'redis://127.0.0.1:1' });
const unused = {} as unknown;
const consumers = makeConsumers({
  config,
  gemini: undefined,
  crm: { zoho: undefined, dryRun: true } as CrmSyncOptions,
  alert: unused as AlertOptions,
});
const EMITTED_BY_RUNTIME: EventType = 'event.failed';

for (const [type, definition] of Object.entries(catalogue)) {
  test(`${type} lists exactly the consumers that hear it and write it`, () => {
    const hear = consumers.filter(({ on }) => on.includes(type)).map(({ name }) => name);
    const write = consumers.filter(({ emits }) => emits.includes(type)).map(({ name }) => name);
    assert.equal([...definition.readBy], hear);
    if (type !== EMITTED_BY_RUNTIME) {
      assert.equal(
        definition.writtenBy.filter((writer) => (GROUPS as readonly string[]).includes(writer)),
        write,
      );
    }
  });
}

test('the streams are those of the contract, in the order of the flow', () => {
  assert.equal(STREAMS, [
    ...['events:calendly', 'events:readai', 'events:enriched', 'events:summarized', 'events:synced'],
    ...['events:failed', 'events:health', 'events:alerted', 'events:rejected', 'events:operations'],
  ]);
});

test('each group reads the streams of the events that it hears', () => {
  assert.equal(streamsOf('enrich'), ['events:calendly']);
  assert.equal(streamsOf('summarize'), ['events:readai']);
  assert.equal(streamsOf('crm-sync'), ['events:enriched', 'events:summarized']);
  assert.equal(streamsOf('alert'), ['events:failed', 'events:health']);
});

test.run();
