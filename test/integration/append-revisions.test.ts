/** Revisions: the same meeting again with other content. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ONLY_ASKED, shortHash } from '../../src/lib/append.js';
import { type AppendBench, MEETING_KEY, PREFIX, reported, startAppendBench, TTL_S } from '../helpers/append-bench.js';

const test = suite('append: revisions of a meeting');

let bench: AppendBench;

test.before(async () => {
  bench = await startAppendBench();
});
test.before.each(async () => {
  await bench.redis.flushall();
});
test.after(() => bench.server.stop());

const revision = (number: number) => (number === 1 ? MEETING_KEY : `${MEETING_KEY}:r${number}`);

test('other content under new request ids counts up; what is known is a duplicate of its revision', async () => {
  const steps = [
    { content: 'A', request: 'q1', status: 'accepted', number: 1 },
    { content: 'A', request: 'q1', status: 'duplicate', number: 1 },
    { content: 'A', request: 'q2', status: 'duplicate', number: 1 },
    { content: 'B', request: 'q3', status: 'accepted', number: 2 },
    { content: 'B', request: 'q4', status: 'duplicate', number: 2 },
    { content: 'A', request: 'q1', status: 'duplicate', number: 1 },
    { content: 'A', request: 'q2', status: 'duplicate', number: 1 },
    { content: 'A', request: 'q5', status: 'accepted', number: 3 },
    { content: 'B', request: 'q3', status: 'duplicate', number: 2 },
    { content: 'A', request: undefined, status: 'duplicate', number: 3 },
    { content: 'B', request: undefined, status: 'duplicate', number: 2 },
    { content: 'C', request: undefined, status: 'accepted', number: 4 },
    { content: 'C', request: undefined, status: 'duplicate', number: 4 },
  ];
  for (const { content, request, status, number } of steps) {
    const answer = await bench.append(reported(content, request));
    assert.equal([answer.status, answer.idempotencyKey], [status, revision(number)], `${content} ${request}`);
    assert.is(answer.eventId, await bench.seenOf(revision(number)));
  }
  const keys = (await bench.entriesOf('readai')).map(([, fields]) => fields[3]);
  assert.equal(keys, [1, 2, 3, 4].map(revision));
});

test('what is only asked about is answered as it would be, and changes nothing', async () => {
  const asked = async (content: string, request?: string) => {
    const { status, idempotencyKey } = await bench.append(reported(content, request), ONLY_ASKED);
    return [status, idempotencyKey];
  };
  assert.equal(await asked('A', 'q1'), ['accepted', MEETING_KEY]);
  assert.is(await bench.redis.dbsize(), 0);
  await bench.append(reported('A', 'q1'));
  const before = [await bench.redis.dbsize(), await bench.progressOf(MEETING_KEY)];
  assert.equal(await asked('A', 'q2'), ['duplicate', MEETING_KEY]);
  assert.equal(await asked('B', 'q3'), ['accepted', revision(2)]);
  assert.equal([await bench.redis.dbsize(), await bench.progressOf(MEETING_KEY)], before);
});

test('a known request id is a duplicate, whatever it carries now', async () => {
  await bench.append(reported('A', 'q1'));
  const answer = await bench.append(reported('B', 'q1'));
  assert.equal([answer.status, answer.idempotencyKey], ['duplicate', MEETING_KEY]);
});

test('each revision has guards of its own; the first keeps count', async () => {
  const one = await bench.append(reported('A', 'q1'));
  const two = await bench.append(reported('B', 'q2'));
  assert.equal(await bench.progressOf(revision(2)), { id: two.eventId!, hash: shortHash('B'), [two.eventId!]: '' });
  assert.equal(await bench.progressOf(MEETING_KEY), {
    id: one.eventId!,
    hash: shortHash('A'),
    [one.eventId!]: '',
    rev: '2',
    [`h:${shortHash('A')}`]: '1',
    [`h:${shortHash('B')}`]: '2',
    [`q:${shortHash('q1')}`]: '1',
    [`q:${shortHash('q2')}`]: '2',
  });
});

test('the entry carries all that the count follows from, and no request id as it came', async () => {
  await bench.append(reported('A', 'q1'), 'one');
  await bench.append(reported('B'), 'two');
  const [first, second] = (await bench.entriesOf('readai')).map(([, fields]) => fields.slice(10));
  assert.equal(first, ['hash', shortHash('A'), 'delivery', 'one', 'request', shortHash('q1')]);
  assert.equal(second, ['hash', shortHash('B'), 'delivery', 'two']);
});

test('a revision that failed is tried again under its own key, also below a later one', async () => {
  const one = await bench.append(reported('A', 'q1'));
  await bench.append(reported('B', 'q2'));
  await bench.fail(MEETING_KEY);
  const again = await bench.append(reported('A', 'q1'));
  assert.equal([again.status, again.idempotencyKey], ['accepted', MEETING_KEY]);
  assert.is.not(again.eventId, one.eventId);
  assert.is((await bench.append(reported('B', 'q3'))).idempotencyKey, revision(2));
  await bench.fail(revision(2));
  const second = await bench.append(reported('B', 'q4'));
  assert.equal([second.status, second.idempotencyKey], ['accepted', revision(2)]);
  assert.is((await bench.progressOf(MEETING_KEY)).rev, '2');
  assert.is((await bench.append(reported('C', 'q5'))).idempotencyKey, revision(3));
});

test('a delivery makes one revision, also where it is sent again after that failed or a later one came', async () => {
  const deliveries = [
    { webhook: reported('A', 'q1'), name: 'one' },
    { webhook: reported('B'), name: 'two' },
    { webhook: reported('C', 'q3'), name: 'three' },
  ];
  for (const { webhook, name } of deliveries) await bench.append(webhook, name);
  for (const [index, { webhook, name }] of deliveries.entries()) {
    const key = revision(index + 1);
    const eventId = await bench.seenOf(key);
    await bench.fail(key);
    const again = await bench.append(webhook, name);
    assert.equal(again, { status: 'duplicate', eventId, idempotencyKey: key });
    const redelivered = await bench.append(webhook, `${name} again`);
    assert.equal([redelivered.status, redelivered.idempotencyKey], ['accepted', key]);
    assert.is.not(redelivered.eventId, eventId);
  }
  assert.is((await bench.entriesOf('readai')).length, 6);
});

test('of many pushes of other content at once each content is one revision', async () => {
  await bench.append(reported('A', 'q0'));
  const answers = await Promise.all(
    Array.from({ length: 30 }, (_, index) => bench.append(reported('B', `q${index + 1}`))),
  );
  assert.is(answers.filter(({ status }) => status === 'accepted').length, 1);
  assert.is((await bench.entriesOf('readai')).length, 2);
});

test('a meeting that the former service processed is a duplicate', async () => {
  await bench.redis.set(`${PREFIX}idem:processed:${MEETING_KEY}`, '1');
  for (const content of ['A', 'B']) {
    const answer = await bench.append(reported(content, content));
    assert.equal(answer, { status: 'duplicate', eventId: null, idempotencyKey: MEETING_KEY });
  }
});

test('after `idem:seen` expired the revisions are known all the same', async () => {
  await bench.append(reported('A', 'q1'));
  const two = await bench.append(reported('B', 'q2'));
  await bench.redis.del(`${PREFIX}idem:seen:${MEETING_KEY}`);
  await bench.redis.del(`${PREFIX}idem:seen:${revision(2)}`);
  const answer = await bench.append(reported('B', 'q9'));
  assert.equal(answer, { status: 'duplicate', eventId: two.eventId, idempotencyKey: revision(2) });
});

test('the request ids of duplicates are known as long as the meeting is', async () => {
  const lifetime = () => bench.redis.ttl(`${PREFIX}requests:${MEETING_KEY}`);
  await bench.append(reported('A', 'q1'));
  await bench.append(reported('A', 'q2'));
  assert.is(await lifetime(), -1);
  await bench.append(reported('B', 'q3'));
  for (const number of [1, 2]) await bench.redis.del(`${PREFIX}idem:seen:${revision(number)}`);
  // Sent again it is no news, however old its content is by now.
  const again = await bench.append(reported('A', 'q2'));
  assert.equal([again.status, again.idempotencyKey], ['duplicate', MEETING_KEY]);
  await bench.redis.flushall();
  await bench.redis.set(`${PREFIX}idem:processed:${MEETING_KEY}`, '1');
  await bench.append(reported('A', 'q2'));
  assert.ok((await lifetime()) > 0 && (await lifetime()) <= TTL_S);
});

test.run();
