/** Walking a stream without its data: in order, each entry once, and never so much of it at once that Redis stands still. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { makeSkim, type SkimmedEntry } from '../../src/lib/maintenance.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';

const test = suite('skim');
const STREAM = 'events:readai';
const MB = 1_048_576;
/** What one call may copy. */
const MB_MAX = 4;

let server: TestRedis;
let redis: RedisClient;
let prefixes = 0;
let keys: ReturnType<typeof makeKeys>;

test.before(async () => {
  server = await startRedis();
  redis = connectRedis({ url: server.url, role: 'tool' });
});
test.before.each(() => {
  prefixes += 1;
  keys = makeKeys(`{s${prefixes}}:`);
});
test.after(async () => {
  redis.disconnect();
  await server.stop();
});

/** Ids are 1-0, 2-0 and so on. */
async function add(sizes: readonly number[]): Promise<void> {
  for (const [index, size] of sizes.entries()) {
    await redis.xadd(keys.stream(STREAM), `${index + 1}-0`, 'type', 't', 'data', 'x'.repeat(size), 'key', `k${index}`);
  }
}

async function walk(options: Parameters<ReturnType<typeof makeSkim>>[1] = {}) {
  const chunks: SkimmedEntry[][] = [];
  for await (const chunk of makeSkim({ redis, keys })(STREAM, options)) chunks.push(chunk);
  return chunks;
}

const ids = (chunks: readonly { id: string }[][]) => chunks.flat().map(({ id }) => Number.parseInt(id, 10));
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test('every entry comes once, in order, with all fields but the data', async () => {
  await add(Array.from({ length: 25 }, () => 10));
  const chunks = await walk({ count: 10 });
  assert.equal(ids(chunks), upTo(25));
  assert.equal(
    chunks.map(({ length }) => length),
    [10, 10, 5],
  );
  assert.equal(chunks[0]![0]!.fields, { type: 't', key: 'k0' });
  assert.equal(ids(await walk({ from: '(3', to: '20-0', count: 10 })), upTo(20).slice(3));
  assert.equal(ids(await walk({ from: '26', count: 10 })), []);
});

test('with a text those alone come whose data holds it, also where a whole chunk has none', async () => {
  await add([10, 20, 10, 10, 10, 10, 30]);
  const found = async (text: string) => ids(await walk({ text, count: 2 }));
  assert.equal(await found('x'.repeat(15)), [2, 7]);
  assert.equal(await found('type'), []);
  assert.equal(await found(''), upTo(7));
});

test('of large entries only as many are looked at in one call as do not hold Redis up', async () => {
  await add([10, ...Array.from({ length: 10 }, () => 1.5 * MB), 6 * MB, 10]);
  const chunks = await walk();
  assert.equal(ids(chunks), upTo(13));
  for (const chunk of chunks) assert.ok(chunk.length <= MB_MAX, `${chunk.length} in one call`);
});

test.run();
