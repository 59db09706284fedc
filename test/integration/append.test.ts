/** The atomic append: what it writes, what it takes for a duplicate, and what it does when Redis is in trouble. */
import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { StoreUnavailableError, shortHash } from '../../src/lib/append.js';
import { judgeRedisError } from '../../src/lib/redis-errors.js';
import {
  type AppendBench,
  BOOKING_KEY,
  booked,
  fieldsOf,
  PREFIX,
  reported,
  startAppendBench,
  TTL_S,
  unusable,
} from '../helpers/append-bench.js';
import { startRedis } from '../helpers/redis-server.js';

const events = suite('append: events');
const rejected = suite('append: rejected bodies');
const trouble = suite('append: Redis in trouble');

let bench: AppendBench;

for (const test of [events, rejected, trouble]) {
  test.before(async () => {
    bench = await startAppendBench();
  });
  test.before.each(async () => {
    await bench.redis.flushall();
  });
  test.after(() => bench.server.stop());
}

events('a new event becomes one entry of flat fields, in their order, with its guards', async () => {
  const before = Date.now();
  const answer = await bench.append(booked(), 'one');
  const [[id, fields] = ['', []]] = await bench.entriesOf('calendly');
  const eventId = `calendly-${id}`;
  assert.equal(answer, { status: 'accepted', eventId, idempotencyKey: BOOKING_KEY });
  const names = fields.filter((_, index) => index % 2 === 0);
  assert.equal(names, ['type', 'key', 'at', 'v', 'data', 'hash', 'delivery']);
  const [type, key, at, v, data, hash, delivery] = fields.filter((_, index) => index % 2 === 1);
  assert.equal([type, key, v], ['calendly.invitee.created', BOOKING_KEY, '1']);
  assert.equal([hash, delivery], [shortHash('first'), 'one']);
  assert.is(data, '{ "content":\t"first" }\n');
  assert.is(new Date(at!).toISOString(), at);
  assert.is(Date.parse(at!), Number(id.split('-')[0]));
  assert.ok(Date.parse(at!) >= before - 1_000);
  assert.is(await bench.seenOf(BOOKING_KEY), eventId);
  assert.ok((await bench.redis.ttl(`${PREFIX}idem:seen:${BOOKING_KEY}`)) > TTL_S - 60);
  assert.equal(await bench.progressOf(BOOKING_KEY), { id: eventId, hash: shortHash('first'), [eventId]: '' });
  assert.is(await bench.redis.ttl(`${PREFIX}progress:${BOOKING_KEY}`), -1);
});

events('every entry is found by its own time, and where the clock went back it is appended all the same', async () => {
  await Promise.all(Array.from({ length: 300 }, (_, index) => bench.append(booked('', `b${index}`))));
  const entries = await bench.entriesOf('calendly');
  assert.is(entries.length, 300);
  for (const entry of entries) assert.is(Date.parse(fieldsOf(entry).at!), Number(entry[0].split('-')[0]));
  const ahead = `${Date.now() + 3_600_000}-0`;
  await bench.redis.xadd(`${PREFIX}events:calendly`, ahead, 'type', 'x');
  assert.is((await bench.append(booked('', 'later'))).eventId, `calendly-${ahead.replace(/0$/, '1')}`);
});

events('every key begins with the prefix, and nothing inside does', async () => {
  await bench.append(booked());
  await bench.append(booked('other'));
  await bench.append(reported('A', 'q1'));
  await bench.append(reported('B', 'q2'));
  await bench.append(reported('B', 'q3'));
  await bench.append(unusable('{'));
  const keys = await bench.redis.keys('*');
  assert.ok(keys.length > 10);
  assert.equal(
    keys.filter((key) => !key.startsWith(PREFIX)),
    [],
  );
  const inside = JSON.stringify([
    await bench.entriesOf('calendly'),
    await bench.entriesOf('readai'),
    await bench.entriesOf('rejected'),
  ]);
  assert.not.match(inside, PREFIX);
});

events('the same event again is a duplicate of the first, and writes nothing', async () => {
  const first = await bench.append(booked());
  const before = await bench.redis.dbsize();
  const again = await bench.append(booked());
  assert.equal(again, { status: 'duplicate', eventId: first.eventId, idempotencyKey: BOOKING_KEY });
  assert.is(await bench.redis.dbsize(), before);
  assert.is((await bench.entriesOf('calendly')).length, 1);
});

events('of fifty at once over several connections one is accepted', async () => {
  const clients = Array.from({ length: 5 }, () => bench.server.connect());
  const appends = clients.map((client) => bench.appendOver(client));
  const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => appends[index % 5]!(booked())));
  assert.is(answers.filter(({ status }) => status === 'accepted').length, 1);
  assert.is(new Set(answers.map(({ eventId }) => eventId)).size, 1);
  assert.is((await bench.entriesOf('calendly')).length, 1);
});

events('after `idem:seen` expired the progress answers', async () => {
  const first = await bench.append(booked());
  await bench.redis.del(`${PREFIX}idem:seen:${BOOKING_KEY}`);
  assert.equal(await bench.append(booked()), {
    status: 'duplicate',
    eventId: first.eventId,
    idempotencyKey: BOOKING_KEY,
  });
});

events('a mark of `idem:seen` alone makes a duplicate too', async () => {
  await bench.redis.set(`${PREFIX}idem:seen:${BOOKING_KEY}`, 'calendly-1-0');
  assert.equal(await bench.append(booked()), {
    status: 'duplicate',
    eventId: 'calendly-1-0',
    idempotencyKey: BOOKING_KEY,
  });
});

events('what the former service processed is a duplicate without an event', async () => {
  await bench.redis.set(`${PREFIX}idem:processed:${BOOKING_KEY}`, '1');
  assert.equal(await bench.append(booked()), { status: 'duplicate', eventId: null, idempotencyKey: BOOKING_KEY });
  assert.is((await bench.entriesOf('calendly')).length, 0);
});

events('what is processed is a duplicate', async () => {
  const { eventId } = await bench.append(booked());
  await bench.redis.hset(`${PREFIX}progress:${BOOKING_KEY}`, 'state', 'processed');
  await bench.redis.set(`${PREFIX}idem:processed:${BOOKING_KEY}`, '1');
  assert.equal(await bench.append(booked()), { status: 'duplicate', eventId, idempotencyKey: BOOKING_KEY });
});

events('a redelivery of what failed is a new try, once, and keeps what was', async () => {
  const first = await bench.append(booked());
  await bench.fail(BOOKING_KEY);
  const second = await bench.append(booked());
  assert.is(second.status, 'accepted');
  assert.is.not(second.eventId, first.eventId);
  assert.is(await bench.seenOf(BOOKING_KEY), second.eventId);
  assert.equal(await bench.progressOf(BOOKING_KEY), {
    id: second.eventId!,
    hash: shortHash('first'),
    [first.eventId!]: '',
    [second.eventId!]: '',
  });
  assert.equal(await bench.append(booked()), {
    status: 'duplicate',
    eventId: second.eventId,
    idempotencyKey: BOOKING_KEY,
  });
  assert.is((await bench.entriesOf('calendly')).length, 2);
});

events('of many redeliveries at once after a failure one is a new try', async () => {
  await bench.append(booked());
  await bench.fail(BOOKING_KEY);
  const answers = await Promise.all(Array.from({ length: 20 }, () => bench.append(booked())));
  assert.is(answers.filter(({ status }) => status === 'accepted').length, 1);
  assert.is((await bench.entriesOf('calendly')).length, 2);
});

events('other content under a known key is a duplicate that says so, and is kept once for each body', async () => {
  const first = await bench.append(booked());
  const changed = { status: 'duplicate', eventId: first.eventId, idempotencyKey: BOOKING_KEY, changed: true };
  assert.equal(await bench.append(booked('other')), changed);
  assert.equal(await bench.append(booked('other')), changed);
  assert.equal(await bench.append(booked('third')), changed);
  assert.is((await bench.append(booked())).status, 'duplicate');
  const kept = await bench.entriesOf('rejected');
  assert.is(kept.length, 2);
  const sha = createHash('sha256').update(booked('other').data).digest('hex');
  const fields = fieldsOf(kept[0]!);
  assert.is(fields.type, 'webhook.rejected');
  assert.is(fields.key, `rejected:calendly:${sha}`);
  assert.is(fields.data, booked('other').data.toString());
  assert.equal([fields.v, fields.source, fields.reason, fields.of], ['1', 'calendly', 'changed', BOOKING_KEY]);
  assert.is((await bench.entriesOf('calendly')).length, 1);
});

events('other content after a failure is a new try', async () => {
  await bench.append(booked());
  await bench.fail(BOOKING_KEY);
  assert.is((await bench.append(booked('mended'))).status, 'accepted');
  assert.is((await bench.entriesOf('rejected')).length, 0);
  assert.is((await bench.progressOf(BOOKING_KEY)).hash, shortHash('first'));
});

events('a delivery makes one entry, also where it is sent again after its event has failed', async () => {
  const first = await bench.append(booked(), 'one');
  await bench.fail(BOOKING_KEY);
  assert.equal(await bench.append(booked(), 'one'), {
    status: 'duplicate',
    eventId: first.eventId,
    idempotencyKey: BOOKING_KEY,
  });
  assert.is((await bench.progressOf(BOOKING_KEY)).state, 'failed');
  const second = await bench.append(booked(), 'two');
  assert.is(second.status, 'accepted');
  await bench.fail(BOOKING_KEY);
  for (const delivery of ['one', 'two']) {
    const again = await bench.append(booked(), delivery);
    assert.equal([again.status, again.eventId], ['duplicate', second.eventId], delivery);
  }
  assert.is((await bench.append(booked(), 'three')).status, 'accepted');
  assert.equal(
    (await bench.entriesOf('calendly')).map((entry) => fieldsOf(entry).delivery),
    ['one', 'two', 'three'],
  );
});

events('each delivery that is given no name gets one of its own', async () => {
  await bench.append(booked());
  await bench.fail(BOOKING_KEY);
  await bench.append(booked());
  const names = (await bench.entriesOf('calendly')).map((entry) => fieldsOf(entry).delivery);
  assert.is(new Set(names).size, 2);
  for (const name of names) assert.match(name!, /^[\w-]{8}$/);
});

events('an entry from before deliveries had names is of none: after a failure each is a new try', async () => {
  const first = await bench.append(booked(), 'one');
  const [[id, fields] = ['', []]] = await bench.entriesOf('calendly');
  const stream = `${PREFIX}events:calendly`;
  await bench.redis.del(stream);
  await bench.redis.xadd(stream, id, ...fields.slice(0, fields.indexOf('delivery')));
  await bench.fail(BOOKING_KEY);
  const second = await bench.append(booked(), 'one');
  assert.is(second.status, 'accepted');
  assert.is.not(second.eventId, first.eventId);
});

events('a mended body that is sent again while it is tried is not kept beside its own entry', async () => {
  await bench.append(booked('first'), 'one');
  await bench.fail(BOOKING_KEY);
  await bench.append(booked('mended'), 'two');
  const again = await bench.append(booked('mended'), 'two');
  assert.equal([again.status, 'changed' in again], ['duplicate', false]);
  assert.is((await bench.entriesOf('rejected')).length, 0);
  assert.is((await bench.append(booked('mended'), 'three')).status, 'duplicate');
  assert.is((await bench.entriesOf('rejected')).length, 1);
});

events('data is stored byte for byte', async () => {
  const data = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  await bench.append({ ...booked(), data });
  const [entry] = await bench.redis.xrangeBuffer(`${PREFIX}events:calendly`, '-', '+');
  const fields = entry![1];
  assert.equal(fields[fields.findIndex((field) => String(field) === 'data') + 1], data);
});

events('an append works after Redis has forgotten its scripts', async () => {
  await bench.append(booked());
  await bench.redis.script('FLUSH');
  assert.is((await bench.append(booked('x', 'calendly:invitee.created:BO-1'))).status, 'accepted');
});

rejected('a body is kept byte for byte, once', async () => {
  const body = Buffer.from([0x7b, 0xff, 0x00, 0x0a, 0xfe]);
  const first = await bench.append(unusable(body));
  const key = `rejected:readai:${createHash('sha256').update(body).digest('hex')}`;
  assert.equal(first, { status: 'quarantined', eventId: first.eventId, idempotencyKey: key });
  assert.equal(await bench.append(unusable(body)), {
    status: 'duplicate',
    eventId: first.eventId,
    idempotencyKey: key,
  });
  const [entry, ...others] = await bench.redis.xrangeBuffer(`${PREFIX}events:rejected`, '-', '+');
  assert.is(others.length, 0);
  assert.is(`rejected-${entry![0]}`, first.eventId);
  const fields = entry![1];
  assert.equal(fields.filter((_, index) => index % 2 === 0).map(String), [
    'type',
    'key',
    'at',
    'v',
    'data',
    'source',
    'reason',
  ]);
  assert.equal(fields[9], body);
  assert.equal(fields.slice(11).map(String), ['readai', 'reason', 'invalid_json']);
  assert.equal(await bench.progressOf(key), { id: first.eventId!, [first.eventId!]: '', state: 'rejected' });
});

rejected('the reason is told', async () => {
  await bench.append(unusable('{}', 'invalid_payload'));
  const [[, fields] = ['', []]] = await bench.entriesOf('rejected');
  assert.is(fields.at(-1), 'invalid_payload');
});

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

trouble('at the memory limit a new event is refused whole, and a known one still answered', async () => {
  const known = await bench.append(booked());
  await bench.redis.config('SET', 'maxmemory', '1');
  try {
    const before = await bench.redis.dbsize();
    for (const webhook of [
      booked('x', 'calendly:invitee.created:BO-1'),
      booked('other'),
      reported('A', 'q1'),
      unusable('{'),
    ]) {
      assert.instance(await failureOf(bench.append(webhook)), StoreUnavailableError);
    }
    assert.is(await bench.redis.dbsize(), before);
    assert.equal(await bench.append(booked()), {
      status: 'duplicate',
      eventId: known.eventId,
      idempotencyKey: BOOKING_KEY,
    });
  } finally {
    await bench.redis.config('SET', 'maxmemory', '0');
  }
  assert.is((await bench.append(booked('x', 'calendly:invitee.created:BO-1'))).status, 'accepted');
});

trouble(
  'while its user may not set a key nothing is appended, however often it is sent, and it counts as away',
  async () => {
    await bench.redis.call('ACL', 'SETUSER', 'app', 'on', '>pw', '~*', '&*', '+@all', '-set');
    const app = bench.appendOver(bench.server.connect({ username: 'app', password: 'pw' }), 5_000);
    for (let time = 1; time <= 3; time += 1) {
      const error = await failureOf(app(booked(), 'one'));
      assert.instance(error, StoreUnavailableError);
      assert.is(judgeRedisError((error as Error).cause)?.code, 'NOPERM');
    }
    assert.is(await bench.redis.dbsize(), 0);
    await bench.redis.call('ACL', 'SETUSER', 'app', '+set');
    assert.is((await app(booked(), 'one')).status, 'accepted');
    assert.is((await bench.entriesOf('calendly')).length, 1);
  },
);

trouble('a Redis that hangs is given up on, and a later repeat finds what it did meanwhile', async () => {
  const client = bench.server.connect({ enableOfflineQueue: false, maxRetriesPerRequest: 0 });
  await new Promise((resolve) => client.once('ready', resolve));
  // The first goes over the same connection, and may take its time.
  await bench.appendOver(client)(booked('x', 'calendly:invitee.created:BO-1'));
  const impatient = bench.appendOver(client, 100);
  bench.server.kill('SIGSTOP');
  const error = await failureOf(impatient(booked()));
  bench.server.kill('SIGCONT');
  assert.instance(error, StoreUnavailableError);
  await client.ping();
  assert.is((await bench.append(booked())).status, 'duplicate');
  assert.is((await bench.entriesOf('calendly')).length, 2);
});

trouble('a Redis that is gone is unavailable at once', async () => {
  const other = await startRedis();
  const client = other.connect({ enableOfflineQueue: false, maxRetriesPerRequest: 0 });
  await new Promise((resolve) => client.once('ready', resolve));
  const isolated = bench.appendOver(client);
  await isolated(booked());
  other.kill('SIGKILL');
  await new Promise((resolve) => client.once('close', resolve));
  assert.instance(await failureOf(isolated(booked())), StoreUnavailableError);
  await other.stop();
});

trouble('a key of another kind in the way is found before anything is written', async () => {
  await bench.redis.set(`${PREFIX}progress:${BOOKING_KEY}`, 'in the way');
  assert.instance(await failureOf(bench.append(booked())), StoreUnavailableError);
  assert.is((await bench.entriesOf('calendly')).length, 0);
});

events.run();
rejected.run();
trouble.run();
