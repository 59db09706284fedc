/** What becomes of a webhook that is taken in: the answers, and what then stands in Redis. */
import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type IngestBench,
  KEYED,
  post,
  postCalendly,
  postReadai,
  send,
  startIngestBench,
} from '../helpers/ingest-bench.js';
import { booking, calendlySignature, report } from '../helpers/webhooks.js';

const test = suite('webhooks');

let bench: IngestBench;

test.before(async () => {
  bench = await startIngestBench({ isPatient: true });
});
test.after.each(() => bench.reset());
test.after(() => bench.stop());

const sha256 = (body: string | Buffer) => createHash('sha256').update(body).digest('hex');

const ADA_KEY = 'calendly:invitee.created:ADA-1';
const MEETING_KEY = 'readai:meeting_completed:01ADA0000000000000000000AA';

test('a booking is accepted, and again it is a duplicate of the same event', async () => {
  const base = await bench.start();
  const first = await postCalendly(base, JSON.stringify(booking()));
  assert.is(first.status, 202);
  const eventId = await bench.lastEventId('calendly');
  assert.equal(first.body, { status: 'accepted', eventId, idempotencyKey: ADA_KEY });
  const again = await postCalendly(base, JSON.stringify(booking()));
  assert.is(again.status, 200);
  assert.equal(again.body, { status: 'duplicate', eventId, idempotencyKey: ADA_KEY });
  assert.is((await bench.entriesOf('calendly')).length, 1);
});

test('a report is accepted, and again it is a duplicate of the same event', async () => {
  const base = await bench.start();
  const first = await postReadai(base, JSON.stringify(report()));
  assert.is(first.status, 202);
  const eventId = await bench.lastEventId('readai');
  assert.equal(first.body, { status: 'accepted', eventId, idempotencyKey: MEETING_KEY });
  const again = await postReadai(base, JSON.stringify(report()));
  assert.is(again.status, 200);
  assert.equal(again.body, { status: 'duplicate', eventId, idempotencyKey: MEETING_KEY });
});

for (const [name, body] of [
  ['pretty-printed', JSON.stringify(booking(), null, 2)],
  ['with white space at its ends', ` \r\n${JSON.stringify(booking())}\n`],
  ['with escaped letters', JSON.stringify(booking({ name: 'X' })).replace('"X"', '"Zo\\u00eb \\/ \\ud83d\\ude80"')],
  ['in UTF-8', JSON.stringify(booking({ name: 'Zoë 李小龍 🚀' }))],
  [
    'with a number that JavaScript would write otherwise',
    JSON.stringify(booking()).replace('"position":0', '"position":1.0e2'),
  ],
] as const) {
  test(`a body ${name} is stored as it came`, async () => {
    const base = await bench.start();
    assert.is((await postCalendly(base, body)).status, 202);
    const [[, fields] = ['', []]] = await bench.entriesOf('calendly');
    assert.is(fields[fields.indexOf('data') + 1], body);
  });
}

test('of fifty identical posts at once one makes an entry', async () => {
  const base = await bench.start();
  const answers = await Promise.all(Array.from({ length: 50 }, () => postCalendly(base, JSON.stringify(booking()))));
  assert.is(answers.filter(({ status }) => status === 202).length, 1);
  assert.is(answers.filter(({ status }) => status === 200).length, 49);
  assert.is(new Set(answers.map(({ body }) => body.eventId)).size, 1);
  assert.is((await bench.entriesOf('calendly')).length, 1);
});

test('a redelivery after a terminal failure is a new try', async () => {
  const base = await bench.start();
  const first = await postCalendly(base, JSON.stringify(booking()));
  await bench.redis.hset(`progress:${ADA_KEY}`, 'state', 'failed');
  const second = await postCalendly(base, JSON.stringify(booking()));
  assert.is(second.status, 202);
  assert.is(second.body.status, 'accepted');
  assert.is.not(second.body.eventId, first.body.eventId);
  assert.is(await bench.redis.get(`idem:seen:${ADA_KEY}`), second.body.eventId);
});

test('a duplicate whose payload differs says so, and its body is kept', async () => {
  const base = await bench.start();
  const { body: first } = await postCalendly(base, JSON.stringify(booking()));
  const other = JSON.stringify(booking({ name: 'Ada King' }));
  const answer = await postCalendly(base, other);
  assert.is(answer.status, 200);
  assert.equal(answer.body, { status: 'duplicate', eventId: first.eventId, idempotencyKey: ADA_KEY, changed: true });
  const [[, fields] = ['', []]] = await bench.entriesOf('rejected');
  assert.equal(fields.slice(-6), ['source', 'calendly', 'reason', 'changed', 'of', 'calendly:invitee.created:ADA-1']);
  assert.is(fields[3], `rejected:calendly:${sha256(other)}`);
});

test('a duplicate in another envelope has not changed', async () => {
  const base = await bench.start();
  await postCalendly(base, JSON.stringify(booking()));
  const answer = await postCalendly(base, JSON.stringify(booking({}, { created_at: '2026-11-02T09:30:00Z' }), null, 1));
  assert.equal([answer.status, answer.body.changed], [200, undefined]);
  assert.is((await bench.entriesOf('rejected')).length, 0);
});

test('pushes of a meeting with other content are revisions: A, B, A', async () => {
  const base = await bench.start();
  const push = (summary: string, request_id: string) =>
    postReadai(base, JSON.stringify(report({ summary, request_id })));
  const answers = [await push('A', 'q1'), await push('B', 'q2'), await push('A', 'q3'), await push('A', 'q4')];
  assert.equal(
    answers.map(({ status, body }) => [status, body.idempotencyKey]),
    [
      [202, MEETING_KEY],
      [202, `${MEETING_KEY}:r2`],
      [202, `${MEETING_KEY}:r3`],
      [200, `${MEETING_KEY}:r3`],
    ],
  );
});

test('of a meeting among colleagues only, nothing that was said reaches Redis', async () => {
  const base = await bench.start();
  const participants = [{ name: 'Rob Rep', email: 'rep@seller.example' }];
  const answer = await postReadai(base, JSON.stringify(report({ participants, summary: 'A secret of the house' })));
  assert.is(answer.status, 202);
  const [[, fields] = ['', []]] = await bench.entriesOf('readai');
  const data = JSON.parse(fields[fields.indexOf('data') + 1]!);
  assert.is(data.session_id, '01ADA0000000000000000000AA');
  assert.not.match(JSON.stringify(fields), /secret of the house|transcript|action_items|chapter_summaries/);
});

for (const [name, body] of [
  ['a session placeholder', report({ session_id: 'SESSIONID' })],
  ['no meeting id', report({ session_id: undefined })],
] as const) {
  test(`a test delivery with ${name} is ignored and stored nowhere`, async () => {
    const base = await bench.start();
    const answer = await postReadai(base, JSON.stringify(body));
    assert.equal([answer.status, answer.body], [200, { status: 'ignored', reason: 'test_delivery' }]);
    assert.is(await bench.redis.dbsize(), 0);
  });
}

test('types that the service has no use for are ignored and stored nowhere', async () => {
  const base = await bench.start();
  const ignored = { status: 'ignored', reason: 'unhandled_type' };
  const recap = await postCalendly(base, JSON.stringify({ event: 'meeting_recap.created', payload: {} }));
  assert.equal([recap.status, recap.body], [200, ignored]);
  const begun = await postReadai(base, JSON.stringify(report({ trigger: 'meeting_start' })));
  assert.equal([begun.status, begun.body], [200, ignored]);
  assert.is(await bench.redis.dbsize(), 0);
});

for (const type of [
  'application/json; charset=utf-8',
  'APPLICATION/JSON',
  'application/webhook+json',
  'application/json;',
]) {
  test(`the content type ${type} is JSON`, async () => {
    const base = await bench.start();
    assert.is((await postCalendly(base, JSON.stringify(booking()), { 'content-type': type })).status, 202);
  });
}

test('a key is rotated: the old and the new one sign, and later only the new one', async () => {
  const body = JSON.stringify(booking());
  const signed = (key: string) => ({ 'calendly-webhook-signature': calendlySignature(body, { key }) });
  const both = await bench.start({
    settings: { ...KEYED, calendly: { signingKeys: ['new', 'old'], toleranceS: 300 } },
  });
  assert.is((await postCalendly(both, body, signed('old'))).status, 202);
  assert.is((await postCalendly(both, body, signed('new'))).status, 200);
  const later = await bench.start({ settings: { ...KEYED, calendly: { signingKeys: ['new'], toleranceS: 300 } } });
  assert.is((await postCalendly(later, body, signed('old'))).status, 401);
});

test('a relay that knows the shared secret needs no signature', async () => {
  const settings = { ...KEYED, readai: { signingKeys: [], sharedSecret: 'relay sécret' } };
  const base = await bench.start({ settings });
  const secret = Buffer.from('relay sécret', 'utf8').toString('latin1');
  const answer = await post(`${base}/webhooks/readai`, JSON.stringify(report()), { 'x-readai-secret': secret });
  assert.is(answer.status, 202);
  assert.is(
    (await post(`${base}/webhooks/readai`, JSON.stringify(report()), { 'x-readai-secret': 'wrong' })).status,
    401,
  );
  assert.is((await postReadai(base, JSON.stringify(report()))).status, 401);
});

const BROKEN: [name: string, body: string | Buffer][] = [
  ['cut JSON', JSON.stringify(booking()).slice(0, -5)],
  ['invalid UTF-8', Buffer.concat([Buffer.from('{"event":"'), Buffer.from([0xff, 0xc0]), Buffer.from('"}')])],
  ['an empty body', ''],
  ['a nesting bomb', '['.repeat(50_000)],
];
for (const [name, body] of BROKEN) {
  test(`${name} from an authentic sender is quarantined as it came, once`, async () => {
    const base = await bench.start();
    const first = await postCalendly(base, body);
    const eventId = await bench.lastEventId('rejected');
    assert.equal([first.status, first.body], [202, { status: 'quarantined', eventId }]);
    const again = await postCalendly(base, body);
    const idempotencyKey = `rejected:calendly:${sha256(body)}`;
    assert.equal([again.status, again.body], [200, { status: 'duplicate', eventId, idempotencyKey }]);
    const [entry, ...others] = await bench.redis.xrangeBuffer('events:rejected', '-', '+');
    assert.is(others.length, 0);
    const fields = entry![1];
    assert.equal(fields[fields.findIndex((field) => String(field) === 'data') + 1], Buffer.from(body));
    assert.is(String(fields.at(-1)), 'invalid_json');
  });
}

test('a shape that is not the expected one is quarantined as an invalid payload', async () => {
  const base = await bench.start();
  const calendly = await postCalendly(base, JSON.stringify(booking({ email: undefined })));
  const readai = await postReadai(base, JSON.stringify(report({ participants: 'everybody' })));
  assert.equal([calendly.status, calendly.body.status], [202, 'quarantined']);
  assert.equal([readai.status, readai.body.status], [202, 'quarantined']);
  const reasons = (await bench.entriesOf('rejected')).map(([, fields]) => fields.slice(-3));
  assert.equal(reasons, [
    ['calendly', 'reason', 'invalid_payload'],
    ['readai', 'reason', 'invalid_payload'],
  ]);
});

test('a report of a meeting as long as the limit of the body allows is taken in', async () => {
  const base = await bench.start();
  const words =
    'so what we would like to see in a pilot is that three sites can work on it together, and that the '.repeat(2);
  const block = { start_time: '1794322800000', end_time: '1794322805900', speaker: { name: 'Ada Lovelace' }, words };
  const body = JSON.stringify(report({ transcript: { speaker_blocks: Array(33_000).fill(block), speakers: [] } }));
  assert.ok(body.length > 9 * 1024 * 1024 && body.length < 10 * 1024 * 1024, String(body.length));
  const answer = await postReadai(base, body);
  assert.equal([answer.status, answer.body.status], [202, 'accepted']);
});

test('a body of more values than anybody sends is quarantined unread, and the log says why', async () => {
  const base = await bench.start();
  const answer = await postReadai(base, JSON.stringify(report({ action_items: Array(1_000_000).fill(1) })));
  assert.equal([answer.status, answer.body.status], [202, 'quarantined']);
  assert.is((await bench.entriesOf('rejected'))[0]![1].at(-1), 'invalid_json');
  const line = bench.logLines().find(({ status }) => status === 'quarantined');
  assert.is(line?.unusable, 'The body has more than 250000 values.');
});

test('each webhook leaves one log line without a person in it, and a figure', async () => {
  const base = await bench.start();
  await postCalendly(base, JSON.stringify(booking()));
  await postCalendly(base, JSON.stringify(booking({ name: 'Ada King' })));
  await postCalendly(base, '{"email": "ada@analytical.example"');
  await postCalendly(base, JSON.stringify(booking()), { 'calendly-webhook-signature': 'v1=wrong' });
  await postReadai(base, JSON.stringify(report()));
  const lines = bench.logLines();
  assert.equal(
    lines.map(({ source, status }) => [source, status]),
    [
      ['calendly', 'accepted'],
      ['calendly', 'duplicate'],
      ['calendly', 'quarantined'],
      ['calendly', 'invalid_signature'],
      ['readai', 'accepted'],
    ],
  );
  assert.equal(
    [lines[0]!.key, lines[0]!.eventId, typeof lines[0]!.ms],
    [ADA_KEY, await bench.lastEventId('calendly'), 'number'],
  );
  assert.is(lines[1]!.changed, true);
  assert.is(lines[3]!.reason, 'mismatch');
  assert.not.match(JSON.stringify(lines), /Ada|Lovelace|analytical|Rob|pilot/);
  const { text: metrics } = await send(`${base}/metrics`);
  assert.match(metrics, 'gvi_ingest_webhooks_total{source="calendly",status="accepted"} 1');
  assert.match(metrics, 'gvi_ingest_webhooks_total{source="calendly",status="invalid_signature"} 1');
  assert.match(metrics, 'gvi_ingest_webhook_seconds_count{source="calendly"} 4');
});

test.run();
