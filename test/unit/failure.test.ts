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
const decide = (error: unknown, known?: AttemptRecord, otherSuccessAt = 0) =>
  decideFailure({ error, record: known, now, otherSuccessAt, random: 0.5 }, policy);

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

test('what the provider asked for is waited', () => {
  const decision = decide(new RetryableError('busy', { code: 'busy', retryAfterMs: 7_000 }));
  assert.is(decision.kind === 'park' && decision.delayMs, 7_000);
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
});

test('an event that fails again although others succeeded since spends its own attempt', () => {
  const decision = decide(outage(), record({ doubtAt: now - 1_000 }), now - 500);
  assert.is(decision.kind === 'park' && decision.record.spent, 1);
  assert.is(decide(outage(), record({ doubtAt: now - 1_000, spent: 2 }), now - 500).kind, 'fail');
});

test('an event that fails again with no success since is an outage', () => {
  assert.is(decide(outage(), record({ doubtAt: now - 1_000 }), now - 1_500).kind, 'wait');
});

test('a configuration error pauses whatever others did', () => {
  assert.is(decide(outage({ kind: 'configuration' }), record({ doubtAt: now - 1_000 }), now - 500).kind, 'wait');
});

test('an outage is given up only after OUTAGE_GIVE_UP_HOURS', () => {
  assert.is(decide(outage(), record({ firstFailureAt: now - 3_599_999 })).kind, 'wait');
  assert.is(decide(outage(), record({ firstFailureAt: now - 3_600_000 })).kind, 'fail');
});

test('the back-off doubles, stays under its cap and varies by a fifth', () => {
  const delays = [1, 2, 3, 20].map((attempt) => backOff(attempt, undefined, 0.5, policy));
  assert.equal(delays, [1_000, 2_000, 4_000, 60_000]);
  assert.is(backOff(1, undefined, 0, policy), 800);
  assert.is(backOff(1, undefined, 0.999, policy), 1_200);
});

test.run();
