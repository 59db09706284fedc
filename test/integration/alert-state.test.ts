import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeAlertState } from '../../src/lib/alert-state.js';
import { makeKeys } from '../../src/lib/keys.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { setUpAlert } from '../helpers/alert.js';
import { failedEvent } from '../helpers/alert-events.js';
import { startRedis } from '../helpers/redis-server.js';
import { startSlack } from '../standins/slack.js';

const test = suite('what alerts remember');

let server: Awaited<ReturnType<typeof startRedis>>;
let state: ReturnType<typeof makeAlertState>;
let redis: RedisClient;

test.before(async () => {
  server = await startRedis();
  redis = server.connect() as unknown as RedisClient;
});
test.before.each(async () => {
  await redis.flushall();
  state = makeAlertState({ redis, keys: makeKeys('p:') });
});
test.after(() => server.stop());

test('an alert that may have been posted is known until its outcome is', async () => {
  assert.is(await state.wasSent('failed-1-0'), false);
  await state.markSending('failed-1-0');
  assert.is(await state.wasSent('failed-1-0'), true);
  await state.clearSent('failed-1-0');
  assert.is(await state.wasSent('failed-1-0'), false);
});

test('five single messages go out in a minute, then they gather', async () => {
  const asked: boolean[] = [];
  for (let second = 0; second < 7; second += 1) asked.push(await state.budget(new Date(second * 1000)));
  assert.equal(asked, [true, true, true, true, true, false, false]);
  assert.is(await state.budget(new Date(60_000)), true);
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
