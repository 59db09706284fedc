/** `gvi redrive` and `gvi drop-group`: what they do, refuse and record. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { loadScript } from '../../src/lib/scripts.js';
import { runGvi, startGviAtTerminal, withoutWait } from '../helpers/gvi.js';
import { type History, startHistory } from '../helpers/history.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('gvi redrive and drop-group');

let server: TestRedis;
let history: History;
let prefixes = 0;

test.before(async () => {
  server = await startRedis();
});
test.before.each(async () => {
  prefixes += 1;
  history = await startHistory({ redisUrl: server.url, keyPrefix: `r${prefixes}:` });
});
test.after.each(() => history.stop());
test.after(() => server.stop());

async function gvi(...args: string[]) {
  const settings = { REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix };
  const { code, stdout, stderr } = await runGvi([...args, '--json', '--by', 'Ada'], settings);
  return { code, stderr, said: stdout === '' ? undefined : JSON.parse(stdout) };
}

type Operation = {
  operation: string;
  by: string;
  count: number;
  eventIds?: string[];
  details?: Record<string, string>;
};

async function operations(): Promise<Operation[]> {
  const entries = await history.redis.xrange(history.keys.stream('events:operations'), '-', '+');
  return entries.map(([, flat]) => JSON.parse(flat[flat.indexOf('data') + 1]!) as Operation);
}

/** As ingest keeps it. */
async function keepChanged(body: string, key: string): Promise<string> {
  const kept = await history.reject(body);
  const id = kept.slice('rejected-'.length);
  const { redis, keys } = history;
  const stream = keys.stream('events:rejected');
  const [[, flat] = ['', []]] = await redis.xrange(stream, id, id);
  const fields = flat.map((value, index) => (flat[index - 1] === 'reason' ? 'changed' : value));
  return `rejected-${await redis.xadd(stream, '*', ...fields, 'of', key)}`;
}

const countOf = (stream: 'events:failed' | 'events:alerted') => history.redis.xlen(history.keys.stream(stream));

test('--all takes what its filters leave, and says in events:operations who redrove which', async () => {
  const enrich = await history.book('a', 'refused');
  const sync = await history.book('b', 'crmrefused');
  await history.ended(enrich, 'failed');
  await history.ended(sync, 'failed');
  history.stage.isMended = true;
  const counted = await gvi('redrive', '--all', '--group', 'enrich', '--dry-run');
  assert.equal([counted.code, counted.said.count], [0, 1]);
  assert.equal(await operations(), []);
  const done = await gvi('redrive', '--all', '--group', 'enrich', '--yes');
  assert.equal([done.code, done.said.redriven], [0, [enrich]]);
  await waitFor('it to be processed', async () => (await history.statusOf(enrich)) === 'processed');
  assert.is(await history.statusOf(sync), 'failed');
  const told = { operation: 'redrive', by: 'Ada', count: 1, eventIds: [enrich], details: { group: 'enrich' } };
  assert.equal(await operations(), [told]);
  const rest = await gvi('redrive', '--all', '--code', 'refused', '--since', '2020-01-01T00:00:00Z', '--yes');
  assert.is(rest.said.count, 1);
  await waitFor('the other', async () => (await history.statusOf(sync)) === 'processed');
});

test('hundreds at once, by two people at the same time: each is tried again once, and told of by who did it', async () => {
  const COUNT = 250;
  const names = Array.from({ length: COUNT }, (_, index) => `n${index}`);
  const ids = await Promise.all(names.map((name) => history.book(name, 'refused')));
  await waitFor('all to fail', async () => (await countOf('events:failed')) === COUNT);
  history.stage.isMended = true;
  assert.is((await gvi('redrive', '--all', '--dry-run')).said.count, COUNT);
  const runs = await Promise.all([gvi('redrive', '--all', '--yes'), gvi('redrive', '--all', '--yes')]);
  assert.equal(
    runs.map(({ code }) => code),
    [0, 0],
  );
  const redriven: string[] = runs.flatMap(({ said }) => said.redriven);
  assert.equal(redriven.sort(), [...ids].sort());
  await waitFor('all to be processed', async () => {
    const states = await Promise.all(ids.map((id) => history.statusOf(id)));
    return states.every((state) => state === 'processed');
  });
  assert.is(await history.redis.xlen(history.keys.stream('events:synced')), COUNT);
  assert.is(await countOf('events:failed'), COUNT);
  const told = await operations();
  assert.equal(told.flatMap(({ eventIds }) => eventIds ?? []).sort(), [...ids].sort());
  assert.ok(Math.max(...told.map(({ count }) => count)) <= 100, 'who is killed leaves no more than a hundred untold');
});

for (const since of ['yesterday', '2026-11-23T12:00:00', '2026-02-30']) {
  test(`--since ${since} says no moment, and is refused by name`, async () => {
    const { code, stderr } = await gvi('redrive', '--all', '--since', since, '--yes');
    assert.is(code, 2);
    assert.match(stderr, '--since: should be a time such as 2026-11-23T12:00:00Z (with Z or an offset)');
  });
}

for (const filter of ['--code', '--group', '--since']) {
  test(`${filter} with nothing after it is refused by name, and redrives nothing`, async () => {
    const eventId = await history.book('a', 'refused');
    await history.ended(eventId, 'failed');
    for (const nothing of ['', ' ']) {
      const { code, stderr } = await gvi('redrive', '--all', filter, nothing, '--yes');
      assert.is(code, 2);
      assert.match(stderr, `${filter}: should be`);
    }
    assert.equal(await operations(), []);
  });
}

test('what fails again after a redrive is a new failure, and is alerted again', async () => {
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId, 'failed');
  for (const round of [2, 3]) {
    assert.is((await gvi('redrive', eventId)).code, 0);
    await waitFor('the failure', async () => (await countOf('events:failed')) === round);
    await waitFor('its alert', async () => (await countOf('events:alerted')) === round);
  }
  const again = await gvi('redrive', 'calendly-1-0');
  assert.equal([again.code, again.said.unknown], [1, ['calendly-1-0']]);
});

test('a rejected webhook whose body can be used now is taken in, once', async () => {
  const body = readFileSync(join(import.meta.dirname, '..', 'fixtures', 'calendly_invitee_created.json'), 'utf8');
  const rejected = await history.reject(body);
  const [first, second] = [await gvi('redrive', rejected), await gvi('redrive', rejected)];
  const [taken, known] = [first.said.answers[0], second.said.answers[0]];
  assert.equal([first.code, taken.answer], [0, 'taken_in']);
  assert.equal([second.code, known.answer, known.as], [1, 'known', taken.as]);
  await history.ended(taken.as);
  const broken = await gvi('redrive', await history.reject('{'));
  assert.equal([broken.code, broken.said.answers[0].answer], [1, 'unusable']);
});

test('where Redis takes no more, what was taken in is recorded, and why is told in one line', async () => {
  const fixture = readFileSync(join(import.meta.dirname, '..', 'fixtures', 'calendly_invitee_created.json'), 'utf8');
  const known = await history.reject(fixture);
  const other = await history.reject(
    fixture.replace(/"uri": "[^"]*invitees[^"]*"/, '"uri": "https://x/invitees/OTHER"'),
  );
  const { redis, keys } = history;
  // Of the second alone: its progress is none.
  await redis.set(keys.progress('calendly:invitee.created:OTHER'), 'of another type');
  const half = await gvi('redrive', known, other);
  assert.is(half.code, 1);
  assert.equal(
    (await operations()).map(({ eventIds }) => eventIds),
    [[known]],
  );
  await redis.del(keys.progress('calendly:invitee.created:OTHER'));
  await server.connect().config('SET', 'maxmemory', '1');
  const full = await gvi('redrive', other);
  await server.connect().config('SET', 'maxmemory', '0');
  assert.equal([full.code, withoutWait(full.stderr)], [1, 'Redis does not do this now (OOM).\n']);
});

test('other content of an event is tried only where that has failed, and the answer says why; a dry run says the same', async () => {
  const fixture = readFileSync(join(import.meta.dirname, '..', 'fixtures', 'calendly_invitee_created.json'), 'utf8');
  const changed = fixture.replace(/"name": "[^"]*"/, '"name": "Another"');
  const taken = await gvi('redrive', await history.reject(fixture));
  const eventId = taken.said.answers[0].as;
  await history.ended(eventId);
  const { key } = (await history.redis.xrange(history.keys.stream('events:calendly'), '-', '+')).map(([, flat]) => ({
    key: flat[flat.indexOf('key') + 1]!,
  }))[0]!;
  const kept = await keepChanged(changed, key);
  for (const dryRun of [['--dry-run'], []]) {
    const { code, said } = await gvi('redrive', kept, ...dryRun);
    assert.equal([code, said.count, said.answers], [1, 0, [{ eventId: kept, answer: 'changed', as: eventId }]]);
  }
  assert.is(await history.redis.xlen(history.keys.stream('events:calendly')), 1);
  await history.redis.hset(history.keys.progress(key), 'state', 'failed');
  await history.redis.del(history.keys.idemProcessed(key));
  const foreseen = await gvi('redrive', kept, '--dry-run');
  assert.equal([foreseen.code, foreseen.said.answers], [0, [{ eventId: kept, answer: 'taken_in' }]]);
  assert.is(await history.redis.xlen(history.keys.stream('events:calendly')), 1);
  assert.is((await gvi('redrive', kept)).said.answers[0].answer, 'taken_in');
  assert.is(await history.redis.xlen(history.keys.stream('events:calendly')), 2);
});

test('--all says with its exit code that one could not be tried again', async () => {
  const [gone, other] = [await history.book('a', 'refused'), await history.book('b', 'refused')];
  for (const eventId of [gone, other]) await history.ended(eventId, 'failed');
  history.stage.isMended = true;
  await history.redis.xdel(history.keys.stream('events:calendly'), gone.slice('calendly-'.length));
  const all = await gvi('redrive', '--all', '--yes');
  assert.equal([all.code, all.said.redriven], [1, [other]]);
});

test('at a terminal each answer has a line of its own', async () => {
  const eventIds = [await history.book('a', 'refused'), await history.book('b', 'refused')];
  for (const eventId of eventIds) await history.ended(eventId, 'failed');
  history.stage.isMended = true;
  const terminal = startGviAtTerminal(['redrive', '--all', '--yes'], {
    ...{ REDIS_URL: server.url, KEY_PREFIX: history.keys.prefix },
  });
  try {
    assert.is(await terminal.exited, 0);
    const lines = eventIds.map((eventId) => `${eventId} is tried again`);
    assert.equal(withoutWait(terminal.output()).trim().split(/\r?\n/), lines);
  } finally {
    terminal.child.kill('SIGKILL');
  }
});

test('a call that is sent again, as its reply was lost, answers as it did', async () => {
  const eventId = await history.book('a', 'refused');
  await history.ended(eventId, 'failed');
  const [failure] = await readOpenFailures(history);
  const { redis, keys } = history;
  const script = loadScript(redis, 'redrive');
  const call = () =>
    script(
      [
        ...[keys.progress(failure!.key), keys.parked('enrich'), keys.attempts('enrich'), keys.replay('enrich')],
        ...[keys.stream('events:calendly'), keys.redriven('one')],
      ],
      [eventId, eventId.slice('calendly-'.length), '', 0],
    );
  assert.equal([await call(), await call()], ['redriven', 'redriven']);
  await waitFor('it to fail again, once', async () => (await countOf('events:failed')) === 2);
  assert.ok((await redis.ttl(keys.redriven('one'))) > 0);
  assert.is(await makeRedrive(history)(failure!), 'redriven');
});

test('a group that is none of ours is dropped with what it held, and recorded; one that works is not', async () => {
  await history.ended(await history.book('a'));
  const { redis, keys } = history;
  const stream = keys.stream('events:enriched');
  await redis.xgroup('CREATE', stream, 'audit', '0');
  await history.ended(await history.book('b'));
  const working = await gvi('drop-group', 'events:enriched', 'crm-sync', '--yes');
  assert.equal([working.code, working.said.error.code], [1, 'working_group']);
  const unknown = await gvi('drop-group', 'events:enriched', 'nobody', '--yes');
  assert.equal([unknown.code, unknown.said.error.code], [1, 'not_found']);
  const unasked = await gvi('drop-group', 'events:enriched', 'audit');
  assert.is(unasked.code, 2);
  assert.equal(await operations(), []);
  assert.is((await gvi('drop-group', 'enriched', 'audit', '--yes')).code, 0);
  const names = ((await redis.xinfo('GROUPS', stream)) as string[][]).map((info) => info[1]);
  assert.equal(names, ['crm-sync']);
  const details = { stream: 'events:enriched', group: 'audit' };
  assert.equal(await operations(), [{ operation: 'drop-group', by: 'Ada', count: 2, details }]);
});

test.run();
