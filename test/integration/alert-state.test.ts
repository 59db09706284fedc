import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeAlertState } from '../../src/lib/alert-state.js';
import { makeKeys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { loadScript } from '../../src/lib/scripts.js';
import { setUpAlert } from '../helpers/alert.js';
import { failedEvent } from '../helpers/alert-events.js';
import { shareRedis } from '../helpers/shared-redis.js';
import { startSlack } from '../standins/slack.js';

const test = suite('what alerts remember');

let state: ReturnType<typeof makeAlertState>;
let redis: RedisClient;

shareRedis(test, (shared) => {
  redis = shared.redis;
});
test.before.each(() => {
  state = makeAlertState({ redis, keys: makeKeys('p:') });
});

test('how often an alert may have been posted is known until its outcome is', async () => {
  assert.is(await state.triesOf('failed-1-0'), 0);
  for (const tries of [1, 2, 2, 0, 0]) {
    await state.setTries('failed-1-0', tries);
    assert.is(await state.triesOf('failed-1-0'), tries);
  }
});

test('five single messages go out in a minute, then they gather', async () => {
  const asked: boolean[] = [];
  for (let second = 0; second < 7; second += 1)
    asked.push(await state.budget(`failed-${second}`, new Date(second * 1000)));
  assert.equal(asked, [true, true, true, true, true, false, false]);
  assert.is(await state.budget('failed-6', new Date(60_000)), true);
});

test('a failure that is told of again takes no second one of these messages', async () => {
  const asked: boolean[] = [];
  for (let times = 0; times < 7; times += 1) asked.push(await state.budget('failed-1', new Date(0)));
  assert.equal(
    asked,
    Array.from({ length: 7 }, () => true),
  );
  assert.is(await state.budget('failed-2', new Date(0)), true);
});

test('a failure counts once in a storm, however often it is told of', async () => {
  const at = new Date('2026-11-23T12:00:00.000Z');
  for (const ids of [
    ['a', 'b'],
    ['b', 'c'],
  ])
    await state.storm.begin(ids, at);
  for (const ids of [['c'], ['d']]) await state.storm.goOn(ids, at);
  assert.equal(await state.storm.takeEnded(0, at), { since: at.toISOString(), failures: 4 });
});

test('a single failure begins no storm', async () => {
  await state.storm.goOn(['a'], new Date(0));
  assert.is(await state.storm.takeEnded(0, new Date(0)), undefined);
});

test('the end of a storm is told although the reply that said so was lost', async () => {
  const at = new Date('2026-11-23T12:00:00.000Z');
  await state.storm.begin(['a', 'b'], at);
  const [storm] = await redis.keys('*storm');
  const script = loadScript(redis, 'end-storm');
  const ask = (asker: string) => script([storm!, `${storm}:failures`, `${storm}:ended`], [at.getTime(), asker, 60]);
  for (const _ of ['first', 'again']) assert.equal(await ask('one'), [at.toISOString(), 2]);
  assert.is(await ask('other'), null, 'it is told once');
});

test('nothing that alerts remember stays for ever', async () => {
  await state.setTries('failed-1-0', 1);
  await state.budget('failed-1-0', new Date());
  await state.storm.begin(['failed-1-0'], new Date());
  await state.markAlerted('zoho', '2026-11-23T12:00:00.000Z', 'zoho_invalid_code');
  assert.is(await state.lastAlerted('zoho', 'zoho_invalid_code'), '2026-11-23T12:00:00.000Z');
  const found = await redis.keys('*');
  assert.is(found.length, 6);
  for (const key of found) assert.ok((await redis.ttl(key)) > 0, key);
});

test('the channel hears once that a storm is over, after ten quiet minutes', async () => {
  const slack = await startSlack();
  const { alert, tell, clock } = setUpAlert(slack, { storm: state.storm });
  const tickAt = async (now: string) =>
    alert.tick!({ log: pino({ level: 'silent' }), now: () => new Date(now), signal: new AbortController().signal });
  try {
    await tell([failedEvent(), failedEvent(), failedEvent(), failedEvent()]);
    clock.now = '2026-11-23T12:35:00.000Z';
    await tell([failedEvent()]);
    await tickAt('2026-11-23T12:44:59.000Z');
    assert.is(slack.messages().length, 2, 'it goes on');
    await tickAt('2026-11-23T12:45:00.000Z');
    await tickAt('2026-11-23T12:46:00.000Z');
    const texts = slack.messages().map(({ text }) => text);
    assert.is(texts.length, 3);
    assert.match(texts[2]!, /Quiet again.*5 events/);
  } finally {
    await slack.stop();
  }
});

test.run();
