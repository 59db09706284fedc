import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeAlert } from '../../src/consumers/alert.js';
import { makeAlertState } from '../../src/lib/alert-state.js';
import { NotYetError, OutageError } from '../../src/lib/errors.js';
import { makeKeys } from '../../src/lib/keys.js';
import { makeSlack } from '../../src/lib/providers/slack/slack.js';
import { errorOf, sentOf, setUpAlert as setUp } from '../helpers/alert.js';
import { enrichedEvent, failedEvent, pausedEvent, resumedEvent } from '../helpers/alert-events.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, lastingClaims, readStream, startTestWorker } from '../helpers/worker.js';
import { SLACK_CHANNEL, SLACK_TOKEN, type SlackStandin, slackFaults, startSlack } from '../standins/slack.js';

const postsTo = ({ calls }: SlackStandin) => calls.filter(({ path }) => path.endsWith('chat.postMessage')).length;

const test = suite<{ slack: SlackStandin }>('alert');
test.before(async (context) => {
  context.slack = await startSlack();
});
test.after.each(({ slack }) => {
  slack.faults.clear();
  slack.calls.length = 0;
  slack.messages().length = 0;
});
test.after(({ slack }) => slack.stop());

test('a failure is one message that names the lead, and one alert.sent with its ts', async ({ slack }) => {
  const { tell, entries } = setUp(slack);
  const lead = enrichedEvent();
  entries.set(lead.id, lead);
  const failure = failedEvent({ eventId: lead.id });
  const [outcome] = await tell([failure]);
  const [message] = slack.messages();
  assert.equal(sentOf(outcome), { failureId: failure.id, eventId: lead.id, delivery: 'slack', ts: message!.ts });
  assert.is(slack.messages().length, 1);
  assert.match(message!.text, 'Mara Lindqvist');
});

test('up to three failures at once are a message each', async ({ slack }) => {
  const outcomes = await setUp(slack).tell([failedEvent(), failedEvent(), failedEvent()]);
  assert.is(new Set(outcomes.map((outcome) => sentOf(outcome).ts)).size, 3);
  assert.ok(outcomes.every((outcome) => sentOf(outcome).digest === undefined));
});

test('a flood is one digest, which says how to send all of it again', async ({ slack }) => {
  await setUp(slack).tell(Array.from({ length: 500 }, () => failedEvent()));
  assert.is(slack.messages().length, 1);
  assert.match(JSON.stringify(slack.messages()[0]!.blocks), 'gvi -- redrive --all');
});

test('a misconfigured Slack has answered, which ends its pause', async ({ slack }) => {
  slack.faults.next(slackFaults.refusal('channel_not_found'));
  const [outcome] = await setUp(slack).tell([failedEvent()], undefined, true);
  assert.equal([sentOf(outcome).delivery, 'events' in outcome! && outcome.isWithoutProvider], ['log', undefined]);
});

test('more are one digest that all of them share', async ({ slack }) => {
  const failures = Array.from({ length: 50 }, () => failedEvent());
  const outcomes = await setUp(slack).tell(failures);
  assert.is(slack.messages().length, 1);
  const { ts } = slack.messages()[0]!;
  outcomes.forEach((outcome, index) => {
    const { id, data } = failures[index]!;
    assert.equal(sentOf(outcome), { failureId: id, eventId: data.eventId, delivery: 'slack', ts, digest: true });
  });
});

test('what exceeds the budget of the minute waits for its end, and is then one digest', async ({ slack }) => {
  let left = 1;
  const { tell } = setUp(slack, { budget: async () => left-- > 0, now: '2026-11-23T12:30:45.000Z' });
  const failures = [failedEvent(), failedEvent(), failedEvent()];
  const [first, ...others] = await tell(failures);
  assert.is(sentOf(first).delivery, 'slack');
  for (const other of others) assert.is(errorOf(other, NotYetError).delayMs, 15_500);
  const digest = await tell([...failures.slice(1), failedEvent(), failedEvent()]);
  assert.ok(digest.every((outcome) => sentOf(outcome).digest));
  assert.is(slack.messages().length, 2);
});

test('a probe of Slack is posted at once, whatever is left of the minute', async ({ slack }) => {
  const { tell } = setUp(slack, { budget: async () => false });
  const [outcome] = await tell([failedEvent()], undefined, true);
  assert.is(sentOf(outcome).delivery, 'slack');
});

test('what goes to the log because Slack does not answer says nothing of its return', async ({ slack }) => {
  const { tell } = setUp(slack);
  const failure = failedEvent();
  for (const isLast of [false, true]) {
    slack.faults.next({ doneButAnswerLost: true }, { path: '/api/chat.postMessage' });
    const [outcome] = await tell([failure]);
    if (!isLast) errorOf(outcome, OutageError);
    else assert.equal([sentOf(outcome).delivery, 'events' in outcome! && outcome.isWithoutProvider], ['log', true]);
  }
  const { tell: tellNobody } = setUp(undefined);
  const [logged] = await tellNobody([failedEvent()]);
  assert.is('events' in logged! && logged.isWithoutProvider, undefined);
});

test('without Slack an alert is a log line at error without personal data', async () => {
  const { tell, entries, logged } = setUp(undefined, { budget: async () => false });
  const lead = enrichedEvent();
  entries.set(lead.id, lead);
  const failure = failedEvent({ eventId: lead.id, message: 'Zoho refused the lead mara@northlight.example' });
  assert.equal(sentOf((await tell([failure]))[0]), { failureId: failure.id, eventId: lead.id, delivery: 'log' });
  assert.is(logged.length, 1);
  assert.equal(
    [logged[0]?.level, logged[0]?.failureId, logged[0]?.code, logged[0]?.redrive],
    [50, failure.id, 'zoho_invalid_data', `npm run -s gvi -- redrive ${lead.id}`],
  );
  assert.not.match(JSON.stringify(logged), /mara|lindqvist|northlight/i);
});

test('without Slack many failures are one log line', async () => {
  const { tell, logged } = setUp(undefined);
  const outcomes = await tell(Array.from({ length: 50 }, () => failedEvent()));
  assert.ok(outcomes.every((outcome) => sentOf(outcome).delivery === 'log'));
  assert.is(logged.length, 1);
});

for (const code of ['token_revoked', 'channel_not_found', 'is_archived', 'missing_scope', 'something_new']) {
  test(`what Slack refuses for good (${code}) goes to the log at once, and fails nothing`, async ({ slack }) => {
    slack.faults.on({}, slackFaults.refusal(code));
    const { tell, logged } = setUp(slack);
    assert.is(sentOf((await tell([failedEvent()]))[0]).delivery, 'log');
    assert.is(postsTo(slack), 1);
    assert.equal(
      logged.map((line) => line.slack),
      [`slack_${code}`],
    );
  });
}

test('blocks that Slack does not take are sent as text', async ({ slack }) => {
  slack.faults.next(slackFaults.refusal('invalid_blocks'));
  assert.is(sentOf((await setUp(slack).tell([failedEvent()]))[0]).delivery, 'slack');
  assert.equal(slack.messages()[0]?.blocks, []);
});

test('an outage in which nothing was posted is rethrown, and the next try is no repeat', async ({ slack }) => {
  const { tell, tries } = setUp(slack);
  const failure = failedEvent();
  for (const fault of [slackFaults.rateLimited(3), slackFaults.refusal('service_unavailable')]) {
    slack.faults.next(fault);
    errorOf((await tell([failure]))[0], OutageError);
    assert.is(tries.size, 0);
  }
  assert.is(sentOf((await tell([failure]))[0]).delivery, 'slack');
  assert.not.match(slack.messages()[0]!.text, 'possible repeat');
});

test('once Slack is down the rest of a batch does not try', async ({ slack }) => {
  slack.faults.on({}, slackFaults.rateLimited(3));
  const outcomes = await setUp(slack).tell([failedEvent(), failedEvent(), failedEvent()]);
  for (const outcome of outcomes) assert.is(errorOf(outcome, OutageError).retryAfterMs, 3_000);
  assert.is(postsTo(slack), 1);
});

for (const [name, fault] of Object.entries({
  'a lost answer': { doneButAnswerLost: true },
  'an internal error': slackFaults.postedButInternalError(),
  'a gateway error': { doneButAnswerLost: true, ...slackFaults.unavailable() },
  'a time-out': { doneButAnswerLost: true, latencyMs: 600 },
})) {
  test(`after ${name} the message is posted once more, marked as a possible repeat`, async ({ slack }) => {
    const { tell, tries } = setUp(slack);
    // Only the first message may come to be late.
    const { tell: tellFirst } = setUp(slack, { tries, ...(name === 'a time-out' && { timeoutMs: 200 }) });
    const failure = failedEvent();
    slack.faults.next(fault, { path: '/api/chat.postMessage' });
    assert.is(errorOf((await tellFirst([failure]))[0], OutageError).mayBeDone, true);
    assert.is(sentOf((await tell([failure]))[0]).delivery, 'slack');
    await waitFor('both messages', () => slack.messages().length === 2);
    const repeats = slack.messages().filter(({ text }) => text.startsWith('(possible repeat)'));
    assert.is(repeats.length, 1);
  });
}

test('a second answer that leaves it open is the last: the log takes over', async ({ slack }) => {
  const { tell, logged } = setUp(slack);
  const failure = failedEvent();
  slack.faults.on({ path: '/api/chat.postMessage' }, { doneButAnswerLost: true });
  errorOf((await tell([failure]))[0], OutageError);
  assert.is(sentOf((await tell([failure]))[0]).delivery, 'log');
  assert.is(slack.messages().length, 2);
  assert.is(logged[0]?.slack, 'slack_connection_lost');
});

for (const [what, crashes] of [
  ['after each post', 4],
  ['after the repeat of a message whose answer was lost', 2],
] as const) {
  test(`a worker that dies ${what} posts nothing a third time: the log takes over`, async ({ slack }) => {
    const { tell, logged } = setUp(slack);
    const failure = failedEvent();
    if (crashes === 2) slack.faults.next({ doneButAnswerLost: true }, { path: '/api/chat.postMessage' });
    // None of these outcomes is settled.
    for (let crash = 0; crash < crashes; crash += 1) await tell([failure]);
    const [outcome] = await tell([failure]);
    assert.is(sentOf(outcome).delivery, 'log');
    assert.is((outcome as { isWithoutProvider?: boolean }).isWithoutProvider, true, 'it says nothing about Slack');
    assert.equal(
      slack.messages().map(({ text }) => text.startsWith('(possible repeat)')),
      [false, true],
    );
    assert.is(logged[0]?.eventId, failure.data.eventId);
  });
}

test('a second try in which nothing was posted is none', async ({ slack }) => {
  const { tell } = setUp(slack);
  const failure = failedEvent();
  slack.faults.next({ doneButAnswerLost: true }, { path: '/api/chat.postMessage' });
  errorOf((await tell([failure]))[0], OutageError);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    slack.faults.next(slackFaults.rateLimited(3), { path: '/api/chat.postMessage' });
    errorOf((await tell([failure]))[0], OutageError);
  }
  assert.is(sentOf((await tell([failure]))[0]).delivery, 'slack');
  assert.is(slack.messages().length, 2);
});

test('what was posted twice is in no digest: the log takes it over', async ({ slack }) => {
  const { tell, logged } = setUp(slack);
  const failure = failedEvent();
  for (let crash = 0; crash < 2; crash += 1) await tell([failure]);
  const outcomes = await tell([failure, failedEvent(), failedEvent(), failedEvent()]);
  assert.equal(
    outcomes.map((outcome) => sentOf(outcome).delivery),
    ['log', 'slack', 'slack', 'slack'],
  );
  assert.match(slack.messages()[2]!.text, 'Not in Zoho: 3 events');
  assert.is(logged[0]?.failures, 1);
});

test('the second try is not spent on a Slack that is still down', async ({ slack }) => {
  const { tell } = setUp(slack);
  const failure = failedEvent();
  const end = slack.faults.on({}, slackFaults.unavailable());
  for (let attempt = 0; attempt < 5; attempt += 1) errorOf((await tell([failure]))[0], OutageError);
  assert.is(postsTo(slack), 1);
  end();
  assert.is(sentOf((await tell([failure]))[0]).delivery, 'slack');
  assert.equal(
    slack.messages().map(({ text }) => text.startsWith('(possible repeat)')),
    [true],
  );
});

test('a token that may not be tested holds no second try back', async ({ slack }) => {
  const { tell } = setUp(slack);
  const failure = failedEvent();
  slack.faults.next(slackFaults.postedButInternalError(), { path: '/api/chat.postMessage' });
  slack.faults.on({ path: '/api/auth.test' }, { status: 404 });
  errorOf((await tell([failure]))[0], OutageError);
  assert.is(sentOf((await tell([failure]))[0]).delivery, 'slack');
});

test('a digest that may stand already is marked; a second doubt ends only for those it concerns', async ({ slack }) => {
  const { tell } = setUp(slack);
  const failures = Array.from({ length: 5 }, () => failedEvent());
  slack.faults.on({ path: '/api/chat.postMessage', times: 2 }, { doneButAnswerLost: true });
  for (const outcome of await tell(failures)) errorOf(outcome, OutageError);
  const late = failedEvent();
  const outcomes = await tell([...failures, late]);
  for (const outcome of outcomes.slice(0, 5)) assert.is(sentOf(outcome).delivery, 'log');
  errorOf(outcomes[5], OutageError);
  assert.match(slack.messages()[1]!.text, '(possible repeat)');
});

test('an abort posts no second message and is no outcome', async ({ slack }) => {
  const { tell } = setUp(slack);
  const abort = new AbortController();
  slack.faults.next({ hang: true });
  const told = tell([failedEvent()], abort.signal);
  abort.abort(new Error('let go'));
  assert.is(errorOf((await told)[0], Error).message, 'let go');
  assert.is(slack.messages().length, 0);
});

test('what is settled is forgotten', async ({ slack }) => {
  const { alert, tell, tries } = setUp(slack);
  const failure = failedEvent();
  await tell([failure]);
  assert.equal([...tries], [[failure.id, 1]]);
  await alert.settled?.([failure]);
  assert.is(tries.size, 0);
});

test('a configuration fault of a provider is told at once, and its end as well', async ({ slack }) => {
  const { tell, paused: pauses } = setUp(slack);
  const paused = pausedEvent({ kind: 'configuration', reason: 'zoho_invalid_code' });
  pauses.add(`zoho ${paused.data.since}`);
  const { ts, ...rest } = sentOf((await tell([paused]))[0]);
  assert.equal(rest, { failureId: paused.id, eventId: paused.id, delivery: 'slack' });
  assert.match(slack.messages()[0]!.text, 'scripts/zoho_oauth_helper.md');
  await tell([resumedEvent(paused, '2026-11-23T12:40:00.000Z')]);
  assert.match(slack.messages()[1]!.text, 'Zoho works again');
});

test('a configuration fault that Slack’s limit kept back is not told after its end', async ({ slack }) => {
  const { tell, paused: pauses } = setUp(slack);
  const paused = pausedEvent({ kind: 'configuration', reason: 'zoho_invalid_code' });
  pauses.add(`zoho ${paused.data.since}`);
  slack.faults.next(slackFaults.rateLimited(1), { path: '/api/chat.postMessage' });
  errorOf((await tell([paused]))[0], OutageError);
  pauses.clear();
  await tell([resumedEvent(paused, '2026-11-23T12:05:00.000Z')]);
  assert.equal((await tell([paused]))[0], { events: [] });
  assert.equal(
    slack.messages().map(({ text }) => /^Zoho works again/.test(text)),
    [true],
  );
});

test('a configuration fault that is over before it could be told is told to nobody, nor is its end', async ({
  slack,
}) => {
  const { tell } = setUp(slack);
  const paused = pausedEvent({ kind: 'configuration', reason: 'zoho_invalid_code' });
  const outcomes = await tell([paused, resumedEvent(paused, '2026-11-23T12:05:00.000Z')]);
  assert.equal(outcomes, [{ events: [] }, { events: [] }]);
  assert.is(slack.calls.length, 0);
});

test('a configuration fault that comes and goes, as it touches one kind of call alone, is told again only if it lasts', async ({
  slack,
}) => {
  const { tell, paused: pauses, clock } = setUp(slack, { now: '2026-11-23T12:00:00.000Z' });
  const fault = { kind: 'configuration', reason: 'zoho_oauth_scope_mismatch' } as const;
  const first = pausedEvent({ ...fault, since: '2026-11-23T12:00:00.000Z' });
  const again = pausedEvent({ ...fault, since: '2026-11-23T12:00:20.000Z' });
  pauses.add(`zoho ${first.data.since}`);
  for (const _ of ['first', 'sent again']) assert.is(sentOf((await tell([first]))[0]).delivery, 'slack');
  await tell([resumedEvent(first, '2026-11-23T12:00:10.000Z')]);
  pauses.add(`zoho ${again.data.since}`);
  clock.now = '2026-11-23T12:00:22.000Z';
  assert.is(errorOf((await tell([again]))[0], NotYetError).delayMs, 2_000);
  pauses.clear();
  assert.equal(await tell([again, resumedEvent(again, '2026-11-23T12:00:30.000Z')]), [{ events: [] }, { events: [] }]);
  assert.is(slack.messages().length, 3);

  const lasting = pausedEvent({ ...fault, since: '2026-11-23T12:01:00.000Z' });
  pauses.add(`zoho ${lasting.data.since}`);
  clock.now = '2026-11-23T12:03:00.000Z';
  assert.is(sentOf((await tell([lasting]))[0]).delivery, 'slack');
  const other = pausedEvent({ kind: 'configuration', reason: 'zoho_invalid_code', since: '2026-11-23T12:02:59.000Z' });
  pauses.add(`zoho ${other.data.since}`);
  assert.is(sentOf((await tell([other]))[0]).delivery, 'slack');
});

test('an outage is told once it has lasted ten minutes', async ({ slack }) => {
  const { tell, paused: pauses, clock } = setUp(slack, { now: '2026-11-23T12:00:05.000Z' });
  const paused = pausedEvent();
  pauses.add(`zoho ${paused.data.since}`);
  assert.is(errorOf((await tell([paused]))[0], NotYetError).delayMs, 5_000);
  clock.now = '2026-11-23T12:09:50.000Z';
  assert.is(errorOf((await tell([paused]))[0], NotYetError).delayMs, 10_000);
  assert.is(slack.messages().length, 0);
  clock.now = '2026-11-23T12:10:00.000Z';
  assert.is(sentOf((await tell([paused]))[0]).delivery, 'slack');
  assert.match(slack.messages()[0]!.text, 'Zoho has been out of reach since 12:00 UTC');
});

test('an outage that is over before is told to nobody, nor is its end', async ({ slack }) => {
  const { tell } = setUp(slack, { now: '2026-11-23T12:00:09.000Z' });
  const paused = pausedEvent();
  const outcomes = await tell([paused, resumedEvent(paused, '2026-11-23T12:00:08.000Z')]);
  assert.equal(outcomes, [{ events: [] }, { events: [] }]);
  assert.is(slack.calls.length, 0);
});

for (const kind of ['outage', 'configuration'] as const) {
  test(`the end of a long pause (${kind}) is told even where its beginning was missed`, async ({ slack }) => {
    const { tell } = setUp(slack);
    const paused = pausedEvent({ kind });
    const outcomes = await tell([paused, resumedEvent(paused, '2026-11-23T12:15:00.000Z')]);
    assert.equal(outcomes[0], { events: [] });
    assert.is(sentOf(outcomes[1]).delivery, 'slack');
    assert.match(slack.messages()[0]!.text, 'from 12:00 UTC on 23 Nov to 12:15 UTC on 23 Nov');
  });
}

test('that Slack itself is out of reach is told in the log, its end in the channel', async ({ slack }) => {
  const { tell, paused: pauses, logged } = setUp(slack);
  const paused = pausedEvent({ provider: 'slack', reason: 'slack_http_503' });
  pauses.add(`slack ${paused.data.since}`);
  assert.is(sentOf((await tell([paused]))[0]).delivery, 'log');
  assert.is(logged[0]?.provider, 'slack');
  assert.is(sentOf((await tell([resumedEvent(paused, '2026-11-23T12:40:00.000Z')]))[0]).delivery, 'slack');
});

test('only failures wait for a paused Slack', ({ slack }) => {
  const { alert } = setUp(slack);
  assert.equal(alert.needs?.(failedEvent()), ['slack']);
  assert.equal(alert.needs?.(pausedEvent()), []);
  assert.equal(setUp(undefined).alert.needs?.(failedEvent()), []);
});

test.run();

const inWorker = suite('alert in a worker');

inWorker('failures in the stream reach the channel, through an outage of Slack, once each', async () => {
  const slack = await startSlack();
  const redis = await startRedis();
  const client = redis.connect();
  const alert = makeAlert({
    slack: makeSlack({ token: SLACK_TOKEN, channel: SLACK_CHANNEL, apiUrl: slack.apiUrl }),
    ...makeAlertState({ redis: client, keys: makeKeys('') }),
  });
  slack.faults.on({ times: 2 }, slackFaults.rateLimited(0));
  const worker = await startTestWorker({ redisUrl: redis.url, consumers: [alert], env: lastingClaims });
  const key = 'calendly:invitee.created:karen';
  const eventId = await appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking('karen') });
  for (let index = 0; index < 2; index += 1) {
    const { data } = failedEvent({ eventId, key, stream: 'events:calendly', group: 'enrich', code: 'model_blocked' });
    await appendWebhook(worker, { stream: 'events:failed', type: 'event.failed', key, body: data });
  }
  await waitFor('both alerts', async () => (await readStream(worker, 'events:alerted')).length === 2, 20_000);
  const alerted = await readStream(worker, 'events:alerted');
  await worker.stop();
  await redis.stop();
  await slack.stop();
  assert.equal(
    alerted.map(({ data }) => data.ts).sort(),
    slack.messages().map(({ ts }) => ts),
  );
  assert.ok(slack.messages().every(({ text }) => text.includes('Karen Liu') && !text.includes('possible repeat')));
});

inWorker('an alert that is given up stands in the log as one', async () => {
  const redis = await startRedis();
  const slack = await startSlack();
  await slack.goDown();
  const client = redis.connect();
  const alert = makeAlert({
    slack: makeSlack({ token: SLACK_TOKEN, channel: SLACK_CHANNEL, apiUrl: slack.apiUrl, timeoutMs: 2_000 }),
    ...makeAlertState({ redis: client, keys: makeKeys('') }),
  });
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: 'error' }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const env = { ...lastingClaims, OUTAGE_GIVE_UP_HOURS: '0.0001' };
  const worker = await startTestWorker({ redisUrl: redis.url, consumers: [alert], env, log });
  const { data, key } = failedEvent();
  const failureId = await appendWebhook(worker, { stream: 'events:failed', type: 'event.failed', key, body: data });
  const [sent] = await waitFor('the end', async () => {
    const alerted = await readStream(worker, 'events:alerted');
    return alerted.length === 1 && alerted;
  });
  await worker.stop();
  await redis.stop();
  await slack.stop();
  assert.equal(sent!.data, { failureId, eventId: data.eventId, delivery: 'log' });
  const told = logged.filter(({ msg }) => msg === 'alert');
  assert.equal(
    told.map(({ failureId: id, code, redrive }) => [id, code, redrive]),
    [[failureId, data.error.code, `npm run -s gvi -- redrive ${data.eventId}`]],
  );
});

inWorker.run();
