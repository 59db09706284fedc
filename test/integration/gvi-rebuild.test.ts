/** `gvi rebuild` as an operator runs it, and as it is killed. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { rebuild } from '../../src/lib/rebuild.js';
import { projections } from '../../src/projections/index.js';
import { snapshot } from '../helpers/derived-keys.js';
import { runGvi, startGvi } from '../helpers/gvi.js';
import { type History, startHistory } from '../helpers/history.js';
import { quiet } from '../helpers/random-history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { readStream } from '../helpers/worker.js';

const test = suite('gvi rebuild');
const TTL_S = 3_600;

let server: TestRedis;
let history: History;
let prefixes = 0;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `{r${prefixes}}:` });
});
test.after.each(() => history.stop());
test.after(() => server.stop());

const phases = async () => (await readStream(history, 'events:operations')).map(({ data }) => data.details.phase);

test('a gvi rebuild that is killed has changed nothing, and the next one ends well', async () => {
  const settings = {
    ...{ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix, IDEMPOTENCY_TTL_DAYS: String(TTL_S / 86_400) },
  };
  for (let i = 0; i < 400; i += 1) await history.book(`k${i}`);
  await quiet(history);
  const before = await snapshot(history);
  const { prefix } = history.keys;
  for (const sign of ['rebuild:projector:lead', 'progress:calendly:invitee.created:k7']) {
    // The one before may have come as far as that.
    await history.redis.del(history.keys.progress('calendly:invitee.created:k7'));
    const running = startGvi(['rebuild', '--yes'], settings);
    const isAtWork = async () => (await history.redis.exists(`${prefix}${sign}`)) === 1;
    // On a fast machine it may be over between two looks.
    await waitFor('it to be at work', async () => running.child.exitCode !== null || (await isAtWork()), 30_000);
    running.child.kill('SIGKILL');
    await running.exited;
    await history.redis.del(history.keys.lease('maintenance'));
  }
  assert.is((await phases()).filter((phase) => phase === 'begun').length, 2);
  await history.book('meanwhile');
  await quiet(history);
  const done = await runGvi(['rebuild', '--yes', '--json'], settings);
  assert.is(done.code, 0, done.stderr);
  assert.is(JSON.parse(done.stdout).chains.left, 0);
  const after = await snapshot(history);
  for (const [key, value] of before.values) {
    if (!key.includes('projector:')) assert.equal(after.values.get(key), value, key);
  }
  assert.equal(await history.redis.keys(`${prefix}rebuild:*`), []);
});

test('one that was interrupted is told of, with the command that ends it, until that has run', async () => {
  await history.ended(await history.book('a'));
  await history.projected();
  const settings = { REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix };
  const command = 'npm run -s gvi -- rebuild';
  const told = async () => {
    const { stdout } = await runGvi(['status'], settings);
    const findings = (await runGvi(['doctor'], settings)).stdout;
    return [stdout, findings].map((text) => /A rebuild was interrupted/.test(text) && text.includes(command));
  };
  assert.equal(await told(), [false, false]);
  const killed = rebuild({ ...history, projections, idempotencyTtlS: TTL_S }, () => {
    throw new Error('killed');
  });
  assert.is(await killed.catch(({ message }: Error) => message), 'killed');
  assert.equal(await told(), [true, true]);
  assert.ok(JSON.parse((await runGvi(['status', '--json'], settings)).stdout).rebuildInterrupted);
  assert.is((await runGvi(['rebuild', '--yes'], settings)).code, 0);
  assert.equal(await told(), [false, false]);
});

test('gvi rebuild asks, rebuilds and records', async () => {
  await history.ended(await history.book('a'));
  const settings = {
    ...{ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix, IDEMPOTENCY_TTL_DAYS: String(TTL_S / 86_400) },
  };
  assert.is((await runGvi(['rebuild'], settings)).code, 2);
  await history.redis.del(history.keys.progress('calendly:invitee.created:a'));
  const done = await runGvi(['rebuild', '--yes', '--json'], settings);
  assert.is(done.code, 0);
  assert.equal(JSON.parse(done.stdout).chains, { keys: 1, restored: 1, left: 0 });
  assert.equal(await phases(), ['begun', 'ended']);
});

test.run();
