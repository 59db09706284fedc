import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { NotYetError, OutageError, RetryableError, TerminalError } from '../../src/lib/errors.js';
import type { AttemptRecord } from '../../src/lib/runtime/entry.js';
import { backOff, decideFailure } from '../../src/lib/runtime/failure.js';

const test = suite('what becomes of a failed attempt');

const policy = { attemptsMax: 3, retryBaseMs: 1_000, retryMaxMs: 60_000, outageGiveUpMs: 3_600_000 };
const now = 10_000_000;
const record = (over: Partial<AttemptRecord> = {}): AttemptRecord => ({
  ...{ spent: 0, firstFailureAt: now - 5_000, waitedMs: 0, parkedAt: now - 5_000, code: 'x', message: 'x' },
  ...over,
});
const outage = (over: { kind?: 'configuration'; retryAfterMs?: number } = {}) =>
  new OutageError('Zoho answered 503', { code: 'zoho_503', provider: 'zoho', ...over });
const decide = (error: unknown, known?: AttemptRecord, otherSuccessAt = 0, pausedSince?: number) =>
  decideFailure({ error, record: known, now, otherSuccessAt, pausedSince, random: 0.5 }, policy);

test('a terminal error fails at once', () => {
  assert.equal(decide(new TerminalError('no', { code: 'refused' })), {
    kind: 'fail',
    code: 'refused',
    message: 'no',
    attempts: 1,
  });
});

test('a retryable error is parked and spends an attempt', () => {
  const decision = decide(new RetryableError('busy', { code: 'busy' }));
  assert.is(decision.kind, 'park');
  if (decision.kind === 'park') assert.equal([decision.delayMs, decision.record.spent], [1_000, 1]);
});

test('the last attempt fails for good', () => {
  assert.is(decide(new RetryableError('busy', { code: 'busy' }), record({ spent: 2 })).kind, 'fail');
});

test('what the provider asked for is waited, and not by all to the same instant', () => {
  const delays = [0, 0.999].map((random) => backOff(1, 7_000, random, policy));
  assert.is(delays[0], 7_000);
  assert.ok(delays[1]! > 7_500 && delays[1]! <= 8_400, `${delays[1]} ms`);
});

test('what the provider asked for is waited no longer than an event is held on to', () => {
  const decision = decide(new RetryableError('busy', { code: 'busy', retryAfterMs: 10 * policy.outageGiveUpMs }));
  assert.is(decision.kind === 'park' && decision.delayMs, policy.outageGiveUpMs);
});

test("an unknown error is this event's own, and its text is not told", () => {
  const decision = decide(new TypeError('secret'));
  assert.is(decision.kind, 'park');
  if (decision.kind === 'park') {
    assert.is(decision.record.code, 'unexpected');
    assert.not.match(decision.record.message, /secret/);
  }
});

test('a Redis that refuses or is away costs the event no attempt', () => {
  for (const error of [
    Object.assign(new Error('OOM command not allowed'), { name: 'ReplyError' }),
    new Error('Connection is closed.'),
  ]) {
    const decision = decide(error, record({ spent: 2 }));
    assert.is(decision.kind === 'park' && decision.record.spent, 2);
    assert.is(decide(error, record({ firstFailureAt: now - 3_600_000, spent: 2 })).kind, 'fail');
  }
});

test('waiting for something costs no attempt', () => {
  const decision = decide(new NotYetError('leased', { delayMs: 100 }), record({ spent: 2 }));
  assert.is(decision.kind === 'park' && decision.record.spent, 2);
});

test('one event alone in the night is enough for an outage, and burns no attempt', () => {
  const decision = decide(outage());
  assert.is(decision.kind, 'wait');
  assert.is(decision.kind === 'wait' && decision.record.spent, 0);
});

test('while others have just succeeded, the first failure is no outage yet and burns no attempt', () => {
  const decision = decide(outage(), undefined, now - 500);
  assert.is(decision.kind, 'park');
  assert.is(decision.kind === 'park' && decision.record.spent, 0);
  const hasty = decideFailure(
    { error: outage(), record: undefined, now, otherSuccessAt: now - 500, pausedSince: undefined, random: 0 },
    { ...policy, retryBaseMs: 50 },
  );
  assert.ok(hasty.kind === 'park' && hasty.delayMs >= 1_000, 'others must have time to show that it is up');
});

test('an event that fails again although others succeeded since spends its own attempt', () => {
  const decision = decide(outage(), record({ doubtAt: now - 1_000 }), now - 500);
  assert.is(decision.kind === 'park' && decision.record.spent, 1);
  assert.is(decide(outage(), record({ doubtAt: now - 1_000, spent: 2 }), now - 500).kind, 'fail');
});

test('what others did before the pause began burns no attempt in it', () => {
  const longAgo = record({ doubtAt: now - 600_000 });
  assert.is(decide(outage(), longAgo, now - 300_000, now - 120_000).kind, 'wait');
});

test('what the provider asks for is waited no longer where it may be this event’s own than where it is an outage', () => {
  const quota = outage({ retryAfterMs: 3_600_000 });
  for (const [known, otherSuccessAt] of [
    [undefined, now - 1_000],
    [record({ doubtAt: now - 1_000 }), now - 500],
  ] as const) {
    const decision = decide(quota, known, otherSuccessAt);
    assert.ok(decision.kind === 'park' && decision.delayMs <= 90_000, `${JSON.stringify(decision)}`);
  }
});

test('what has failed together is tried in tens, and then alone, at no cost; an outage and Redis make no batch smaller', () => {
  const together = (error: unknown, count: number, known?: AttemptRecord, otherSuccessAt = 0) =>
    decideFailure(
      { error, together: count, record: known, now, otherSuccessAt, pausedSince: undefined, random: 0 },
      policy,
    );
  const doubted = record({ doubtAt: now - 1_000, spent: 1 });
  const batches = [
    together(outage(), 100, doubted, now - 500),
    together(outage(), 10, doubted, now - 500),
    together(new TypeError('of one event'), 3, record({ spent: 1 })),
    together(outage(), 100, doubted),
    together(outage(), 100, undefined, now - 500),
    together(new Error('Connection is closed.'), 100, record({ spent: 1 })),
    together(new NotYetError('leased', { delayMs: 100 }), 100, record({ spent: 1 })),
  ].map((decision) => decision.kind !== 'fail' && [decision.record.batchMax, decision.record.spent]);
  const whole = [undefined, 1];
  assert.equal(batches, [[10, 1], [1, 1], [1, 1], whole, [undefined, 0], whole, whole]);
});

test('an event that fails again with no success since is an outage', () => {
  assert.is(decide(outage(), record({ doubtAt: now - 1_000 }), now - 1_500).kind, 'wait');
});

const misconfigured = () => outage({ kind: 'configuration' });

test('a configuration error of one event alone pauses', () => {
  assert.is(decide(misconfigured()).kind, 'wait');
  assert.is(decide(misconfigured(), record({ doubtAt: now - 1_000 }), now - 1_500).kind, 'wait');
});

test("a configuration error while others succeed is the event's own", () => {
  const decision = decide(misconfigured(), record({ doubtAt: now - 1_000 }), now - 500);
  assert.is(decision.kind === 'park' && decision.record.spent, 1);
});

test('an event found out for its own configuration error pauses nobody again while the provider is up', () => {
  const known = record({ doubtAt: now - 1_000, spent: 1, code: 'zoho_503' });
  const decision = decide(misconfigured(), known);
  assert.is(decision.kind === 'park' && decision.record.spent, 2);
  assert.is(decide(misconfigured(), { ...known, code: 'another' }).kind, 'wait');
  assert.is(decide(misconfigured(), known, 0, now - 1_000).kind, 'wait', 'the provider is paused');
});

test('an outage is given up only after OUTAGE_GIVE_UP_HOURS', () => {
  assert.is(decide(outage(), record({ firstFailureAt: now - 3_599_999 }), 0, now - 3_600_000).kind, 'wait');
  assert.is(decide(outage(), record({ firstFailureAt: now - 3_600_000 }), 0, now - 3_600_000).kind, 'fail');
});

test('an event is held on to for as long in its next outage', () => {
  const longAgo = record({ firstFailureAt: now - 10 * policy.outageGiveUpMs });
  assert.is(decide(outage(), longAgo).kind, 'wait', 'it has just begun');
  assert.is(decide(outage(), longAgo, 0, now - 3_599_999).kind, 'wait');
  assert.is(decide(outage(), longAgo, 0, now - 3_600_000).kind, 'fail');
});

test('a success from before the clock went back proves nothing', () => {
  assert.is(decide(outage(), record({ doubtAt: now - 1_000 }), now + 3_600_000).kind, 'wait');
});

test('the back-off doubles, varies by a fifth, and stays under its cap without being the same for all', () => {
  const delays = [1, 2, 3].map((attempt) => backOff(attempt, undefined, 0.5, policy));
  assert.equal(delays, [1_000, 2_000, 4_000]);
  assert.is(backOff(1, undefined, 0, policy), 800);
  assert.is(backOff(1, undefined, 0.999, policy), 1_200);
  const [least, most] = [0, 0.999].map((random) => backOff(20, undefined, random, policy));
  assert.ok(least! >= 40_000 && least! < 50_000 && most! > 59_000 && most! <= 60_000, `${least} to ${most} ms`);
});

test.run();
