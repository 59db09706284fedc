/** What the operators' tool prints of what others have put into Redis, or answered: nothing that misleads or breaks it. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeChains } from '../../src/lib/chain.js';
import type { StreamName } from '../../src/lib/event-id.js';
import { makeKeys } from '../../src/lib/keys.js';
import { parseRecord } from '../../src/lib/runtime/entry.js';
import { runGvi, withoutWait } from '../helpers/gvi.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';

const test = suite('what gvi prints of others');

const KEY_PREFIX = 'out:';
const keys = makeKeys(KEY_PREFIX);
const ESCAPE = '\u001b[2J';

let server: TestRedis;
const settings = (more: Record<string, string> = {}) => ({ REDIS_URL: server.url, KEY_PREFIX, ...more });

test.before(async () => {
  server = await startRedis();
});
test.after(() => server.stop());

function put(stream: StreamName, id: string, fields: Record<string, string>) {
  return server.connect().xadd(keys.stream(stream), id, ...Object.entries(fields).flat());
}

test('a message with line breaks is one row of `failed`, and no line of `show`', async () => {
  const message = `none\n2026-11-23T12:00:00.000Z  calendly-7-0  enrich  1  forged  row\r\n${ESCAPE}`;
  const error = { code: 'by\nhand', message };
  const body = { eventId: 'calendly-1-0', stream: 'events:calendly', group: 'enrich', key: 'k1', attempts: 1, error };
  await put('events:calendly', '1-0', { type: 'calendly.invitee.created', key: 'k1', v: '1', data: '{}' });
  const data = JSON.stringify(body);
  await put('events:failed', '2-0', { type: 'event.failed', key: 'k1', v: '1', at: '2026-11-02T09:00:00Z', data });
  await server.connect().hset(keys.progress('k1'), { id: 'calendly-1-0', state: 'failed', 'failed-2-0': '' });

  for (const args of [['failed'], ['show', 'calendly-1-0']]) {
    const { code, stdout } = await runGvi(args, settings());
    assert.is(code, 0);
    const lines = stdout.split('\n');
    assert.is(lines.filter((line) => line.includes('forged')).length, 1);
    assert.is(lines.filter((line) => line.startsWith('2026-11-23')).length, 0, stdout);
    assert.not.match(stdout, ESCAPE);
  }
});

test('what stands failed is counted and told, however many have failed since', async () => {
  const redis = server.connect();
  const KEYS = makeKeys('many:');
  const failure = (id: number, key: string) => {
    const error = { code: 'refused', message: 'no' };
    const data = { eventId: `calendly-${id}-0`, stream: 'events:calendly', group: 'enrich', key, attempts: 1, error };
    return { type: 'event.failed', key, v: '1', at: '2026-11-02T09:00:00Z', data: JSON.stringify(data) };
  };
  const batch = redis.pipeline().hset(KEYS.progress('k1'), { id: 'calendly-1-0', state: 'failed' });
  for (let id = 1; id <= 10_500; id += 1) {
    batch.xadd(KEYS.stream('events:failed'), `${id}-0`, ...Object.entries(failure(id, `k${id}`)).flat());
  }
  await batch.exec();
  const env = settings({ KEY_PREFIX: 'many:' });
  assert.is(JSON.parse((await runGvi(['status', '--json'], env)).stdout).groups.enrich.failed, 1);
  assert.match((await runGvi(['doctor'], env)).stdout, 'Events that stand failed: 1');
  assert.match((await runGvi(['failed'], env)).stdout, 'calendly-1-0');
});

test('events that ended as a dry run are told of, and from when on, however many have ended since', async () => {
  const KEYS = makeKeys('dry:');
  const batch = server.connect().pipeline();
  const outcomes = ['dry_run', 'dry_run', 'written', ...Array.from({ length: 20_500 }, () => 'written')];
  for (const [index, outcome] of outcomes.entries()) {
    // The third is of the second's event, which was written after all.
    const key = index === 2 ? 'k1' : `k${index}`;
    const fields = { type: 'lead.synced', key, v: '1', cause: `enriched-${1_000 + index}-0` };
    const data = JSON.stringify({ outcome, leads: [], notes: [] });
    const id = `${2_000 + index}-0`;
    batch.xadd(KEYS.stream('events:synced'), id, ...Object.entries({ ...fields, data }).flat());
    batch.hset(KEYS.progress(key), `synced-${id}`, '');
  }
  await batch.exec();
  const env = settings({ KEY_PREFIX: 'dry:' });
  assert.is(JSON.parse((await runGvi(['status', '--json'], env)).stdout).dryRuns, 1);
  const command = 'replay --group crm-sync --from 1970-01-01T00:00:01.000Z';
  assert.match((await runGvi(['status'], env)).stdout, command);
  const { stdout } = await runGvi(['doctor'], env);
  assert.match(stdout, 'are not in the CRM: 1\n');
  assert.match(stdout, command);
});

test('--help tells the options of a command, without a Redis', async () => {
  for (const [name, ...options] of [
    ['replay', '--group', '--from', '--to', '--force', '--resume', '--abandon', '--dry-run', '--limit'],
    ['redrive', '--all', '--code', '--group', '--since', '--dry-run'],
    ['calendly', '--url', '--scope'],
  ]) {
    const { code, stdout } = await runGvi([name!, '--help'], {});
    assert.is(code, 0);
    for (const option of options) assert.match(stdout, option);
  }
});

test('what a command does not take is wrong usage', async () => {
  for (const name of ['status', 'failed', 'doctor', 'trim', 'rebuild']) {
    const { code, stderr } = await runGvi([name, 'surplus'], settings());
    assert.is(code, 2, name);
    assert.match(stderr, `Usage: gvi ${name}`);
  }
});

test('wrong usage that holds control characters does not reach the terminal as such', async () => {
  const { code, stderr } = await runGvi([`no${ESCAPE}command`], settings());
  assert.is(code, 2);
  assert.match(stderr, 'There is no command no\\u001b[2Jcommand');
  assert.not.match(stderr, ESCAPE);
});

test('where Redis refuses it says so in one line, without a stack', async () => {
  await server.connect().acl('SETUSER', 'reader', 'on', '>pw', '~*', '&*', '+@connection', '+info', '+xlen');
  await server.connect().acl('SETUSER', 'writer', 'on', '>pw', '~*', '&*', '+@all');
  const { port } = new URL(server.url);
  const failedAs = (user: string) =>
    runGvi(['failed'], settings({ REDIS_URL: `redis://${user}:pw@127.0.0.1:${port}` }));
  const refused = await failedAs('reader');
  assert.is(refused.code, 1);
  assert.is(
    withoutWait(refused.stderr),
    'Redis refuses us (NOPERM): the user in REDIS_URL should have the rights that docs/redis.md lists.\n',
  );
  assert.is((await failedAs('writer')).code, 0);
});

test('where Redis is silent, what only looks says so, and gives up', async () => {
  const silent = await startRedis();
  try {
    silent.kill('SIGSTOP');
    for (const args of [['status'], ['failed'], ['show', 'calendly-1-0']]) {
      const { code, stdout, stderr } = await runGvi(args, settings({ REDIS_URL: silent.url }));
      assert.equal([code, stdout], [1, '']);
      assert.is(stderr, 'Redis does not answer yet.\nRedis is not reachable (TIMEOUT).\n', args[0]);
    }
  } finally {
    silent.kill('SIGCONT');
    await silent.stop();
  }
});

test('a chain whose entries name each other as their cause, or themselves, is shown', async () => {
  const chains = makeChains({ redis: server.connect(), keys });
  for (const [key, ids] of [
    ['self', ['10-0']],
    ['round', ['11-0', '12-0', '13-0']],
  ] as const) {
    for (const [index, id] of ids.entries()) {
      const cause = `calendly-${ids[(index + 1) % ids.length]}`;
      await put('events:calendly', id, { type: 'calendly.invitee.created', key, v: '1', cause, data: '{}' });
      await server.connect().hset(keys.progress(key), `calendly-${id}`, '');
    }
    const chain = await chains.findChain(`calendly-${ids[0]}`);
    assert.is(chain?.trail.length, ids.length);
    const { code, stderr } = await runGvi(['show', `calendly-${ids[0]}`], settings());
    assert.equal([code, withoutWait(stderr)], [0, '']);
  }
});

test('what the service says of itself is done with once people were told, or where nobody is to be told', async () => {
  const redis = server.connect();
  const chains = makeChains({ redis, keys });
  const statusOf = async (eventId: string) => (await chains.findChain(eventId))?.status;
  await put('events:operations', '14-0', { type: 'operation.done', key: 'operation:1', v: '1', data: '{}' });
  assert.is(await statusOf('operations-14-0'), 'processed');
  await put('events:health', '15-0', { type: 'provider.paused', key: 'health:zoho', v: '1', data: '{}' });
  assert.is(await statusOf('health-15-0'), 'queued');
  await redis.zadd(keys.parked('alert'), Date.now() + 60_000, 'health-15-0');
  assert.is(await statusOf('health-15-0'), 'retrying');
  await redis.zrem(keys.parked('alert'), 'health-15-0');
  await put('events:alerted', '16-0', {
    type: 'alert.sent',
    key: 'health:zoho',
    v: '1',
    cause: 'health-15-0',
    data: '{}',
  });
  await redis.hset(keys.progress('health:zoho'), 'alerted-16-0', '');
  assert.is(await statusOf('health-15-0'), 'processed');
});

test('`show` of an operation tells who did what to which', async () => {
  const eventIds = Array.from({ length: 22 }, (_, index) => `calendly-${index}-0`);
  const data = { operation: 'redrive', by: `Ada${ESCAPE}`, count: 22, eventIds, details: { code: 'refused' } };
  const fields = { type: 'operation.done', key: 'operation:2', v: '1', data: JSON.stringify(data) };
  await put('events:operations', '17-0', fields);
  const { stdout } = await runGvi(['show', 'operations-17-0'], settings());
  for (const line of ['redrive', '  by  Ada\\u001b[2J', '  count  22', '  code  refused']) {
    assert.ok(stdout.split('\n').includes(line), stdout);
  }
  assert.match(stdout, / {2}events {2}calendly-0-0 .* calendly-19-0 … and 2 more$/m);
});

test('`show` tells of a failure whether it stands, and of what waits until when, where that is known', async () => {
  const redis = server.connect();
  await put('events:calendly', '18-0', { type: 'calendly.invitee.created', key: 'k18', v: '1', data: '{}' });
  const error = { code: 'refused', message: 'no' };
  const body = { eventId: 'calendly-18-0', stream: 'events:calendly', group: 'enrich', key: 'k18', attempts: 1, error };
  await put('events:failed', '19-0', {
    type: 'event.failed',
    key: 'k18',
    v: '1',
    at: 'then',
    data: JSON.stringify(body),
  });
  await redis.hset(keys.progress('k18'), { id: 'calendly-18-0', 'calendly-18-0': '', 'failed-19-0': '' });
  const shown = async () => (await runGvi(['show', 'calendly-18-0'], settings())).stdout;
  await redis.hset(keys.progress('k18'), 'state', 'failed');
  assert.match(await shown(), 'failed in enrich at then: no (refused)\n');
  await redis.hset(keys.progress('k18'), 'state', 'processed');
  assert.match(await shown(), 'failed in enrich at then: no (refused); since done\n');
  await redis.hdel(keys.progress('k18'), 'state');
  await redis.hset(keys.attempts('enrich'), 'calendly-18-0', JSON.stringify(record));
  const waits = await shown();
  assert.match(waits, 'failed in enrich at then: no (refused); tried again since\n');
  assert.match(waits, 'waits in enrich: m (c), attempts spent: 2\n');
  const stream = keys.stream('events:calendly');
  await redis.xgroup('CREATE', stream, 'enrich', '17-0');
  await redis.xreadgroup('GROUP', 'enrich', 'worker', 'COUNT', 1, 'STREAMS', stream, '>');
  const runs = await shown();
  assert.match(runs, 'calendly-18-0  RUNNING\n');
  assert.match(runs, 'is tried again in enrich; it was put off by: m (c), attempts spent: 2\n');
});

test('`show` of a rejected webhook tells why, and what a redrive can do', async () => {
  const fields = { type: 'webhook.rejected', key: 'rejected:calendly:20', v: '1', data: '{}', source: 'calendly' };
  await put('events:rejected', '20-0', { ...fields, reason: 'invalid_json' });
  await put('events:rejected', '21-0', { ...fields, reason: 'changed', of: 'calendly:invitee.created:A' });
  const [unusable, changed] = [
    await runGvi(['show', 'rejected-20-0'], settings()),
    await runGvi(['show', 'rejected-21-0'], settings()),
  ];
  assert.match(unusable.stdout, /^not usable: invalid_json\ntry again once .*rejected-20-0$/m);
  assert.match(
    changed.stdout,
    /^other content of calendly:invitee.created:A, .*\nwhere that .* failed .*rejected-21-0$/m,
  );
});

test('`show` tells of each `lead.synced` how it ended, without the people in it', async () => {
  const email = 'ada@lead.example';
  const lead = { email, leadId: '7', action: 'insert' };
  const note = { leadId: '7', noteId: '8', action: 'insert', email };
  const requests = [{ method: 'POST', url: 'https://zoho.example', body: { Email: email } }];
  const ends = [
    { outcome: 'written', reason: 'lead_converted', leads: [], notes: [note] },
    { outcome: 'dry_run', leads: [{ ...lead, leadId: null }], notes: [], requests },
    { outcome: 'nothing_to_write', reason: 'superseded', leads: [], notes: [], matched: [{ email, leadId: '7' }] },
    { outcome: 'written', leads: [lead, lead], notes: [note] },
    { outcome: 'unheard_of' },
  ];
  await put('events:enriched', '21-0', { type: 'lead.enriched', key: 'k21', v: '1', data: '{}' });
  await server.connect().hset(keys.progress('k21'), { id: 'enriched-21-0', 'enriched-21-0': '', state: 'processed' });
  for (const [index, data] of ends.entries()) {
    const fields = { type: 'lead.synced', key: 'k21', v: '1', cause: 'enriched-21-0', data: JSON.stringify(data) };
    await put('events:synced', `${22 + index}-0`, fields);
    await server.connect().hset(keys.progress('k21'), `synced-${22 + index}-0`, '');
  }
  const json = (await runGvi(['show', 'k21', '--json'], settings())).stdout;
  type Step = { outcome?: string; reason?: string; leads?: number; notes?: number };
  assert.equal(
    (JSON.parse(json).trail as Step[]).map(({ outcome, reason, leads, notes }) => [outcome, reason, leads, notes]),
    [
      [undefined, undefined, undefined, undefined],
      ['written', 'lead_converted', 0, 1],
      ['dry_run', undefined, 1, 0],
      ['nothing_to_write', 'superseded', 0, 0],
      ['written', undefined, 2, 1],
      [undefined, undefined, undefined, undefined],
    ],
  );
  const text = (await runGvi(['show', 'k21'], settings())).stdout;
  assert.match(text, /synced-22-0 .* written \(lead_converted\): 1 note$/m);
  assert.match(text, /synced-23-0 .* dry_run: 1 lead$/m);
  assert.match(text, /synced-24-0 .* nothing_to_write \(superseded\)$/m);
  assert.match(text, /synced-25-0 .* written: 2 leads, 1 note$/m);
  for (const told of [json, text]) assert.not.match(told, email);
});

test('`status` says where there is something to do and no worker to do it', async () => {
  const redis = server.connect();
  const KEYS = makeKeys('alone:');
  const shown = async () => (await runGvi(['status'], settings({ KEY_PREFIX: 'alone:' }))).stdout;
  assert.not.match(await shown(), 'No worker of');
  await redis.xadd(KEYS.stream('events:calendly'), '*', 'type', 'calendly.invitee.created', 'key', 'k', 'data', '{}');
  const said = await shown();
  assert.match(
    said,
    'No worker of enrich is alive; entries that wait: 1\nstart one: npm run worker -- --group enrich\n',
  );
  assert.not.match(said, 'No worker of crm-sync');
  const [seconds] = await redis.time();
  await redis.hset(KEYS.alive('enrich'), '*last', seconds! * 1_000);
  assert.not.match(await shown(), 'No worker of');
});

const record = { spent: 2, firstFailureAt: 1, waitedMs: 3, parkedAt: 4, code: 'c', message: 'm' };

test('what stands for the attempts of an entry and is no record of any counts as none', async () => {
  assert.equal(parseRecord(JSON.stringify(record)), record);
  assert.equal(parseRecord(JSON.stringify({ ...record, doubtAt: 5 })), { ...record, doubtAt: 5 });
  const garbage = ['', 'x', 'null', '7', '"text"', '[]', '{}', '{"spent":"2"}', JSON.stringify({ ...record, code: 1 })];
  for (const json of garbage) assert.is(parseRecord(json), undefined, json);

  await put('events:calendly', '20-0', { type: 'calendly.invitee.created', key: 'k5', v: '1', data: '{}' });
  await server.connect().hset(keys.attempts('enrich'), 'calendly-20-0', '{"spent":');
  const { code, stderr } = await runGvi(['show', 'calendly-20-0'], settings());
  assert.equal([code, withoutWait(stderr)], [0, '']);
});

const pathOf = (name: string) => join(import.meta.dirname, '..', '..', name);

test('an id and a due time that no calendar holds are shown', async () => {
  const id = '18446744073709551615-0';
  await put('events:calendly', id, { type: 'calendly.invitee.created', key: 'late', v: '1', data: '{}' });
  await server.connect().zadd(keys.parked('enrich'), '1e300', `calendly-${id}`);
  await server.connect().hset(keys.attempts('enrich'), `calendly-${id}`, JSON.stringify(record));
  const { code, stderr } = await runGvi(['show', `calendly-${id}`], settings());
  assert.equal([code, withoutWait(stderr)], [0, '']);
});

/** Answers everything so; counts what came. */
async function startAnswering(status: number, headers: Record<string, string> = {}) {
  const asked: string[] = [];
  const bodies: string[] = [];
  const http: Server = createServer(async (request, response) => {
    asked.push(JSON.stringify(request.headers));
    bodies.push(await text(request));
    response.writeHead(status, headers).end('{}');
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, asked, bodies, stop: () => http.close() };
}

test('`send` does not take the secret of a relay to where an answer points', async () => {
  const elsewhere = await startAnswering(200);
  const ingest = await startAnswering(307, { location: elsewhere.url });
  const { code, stdout } = await runGvi(
    ['send', pathOf('test/fixtures/readai_meeting_completed.json'), '--url', ingest.url],
    settings({ READAI_SHARED_SECRET: 'of-the-relay' }),
  );
  assert.is(ingest.asked.length, 1);
  assert.match(ingest.asked[0]!, 'of-the-relay');
  assert.equal(elsewhere.asked, []);
  assert.match(stdout, '307');
  assert.is(code, 1);
  for (const { stop } of [elsewhere, ingest]) stop();
});

test('`send` to where nobody listens, or to no address, says so in one line', async () => {
  const path = pathOf('test/fixtures/calendly_invitee_created.json');
  const nobody = await runGvi(['send', path, '--url', 'http://127.0.0.1:1'], settings());
  assert.equal([nobody.code, nobody.stdout], [1, '']);
  assert.is(nobody.stderr, 'http://127.0.0.1:1 does not answer (ECONNREFUSED): does ingest run there?\n');
  const json = await runGvi(['send', path, '--url', 'http://127.0.0.1:1', '--json'], settings());
  assert.equal([json.code, JSON.parse(json.stdout).error.code], [1, 'no_answer']);
  for (const url of ['nonsense', 'ftp://127.0.0.1', '']) {
    const wrong = await runGvi(['send', path, '--url', url], settings());
    assert.equal([wrong.code, wrong.stderr.split('\n').length], [2, 2], wrong.stderr);
    assert.match(wrong.stderr, '--url: should be');
  }
});

test('`send --fresh` sends a no-show of another booking, marked anew', async () => {
  const ingest = await startAnswering(202);
  const path = pathOf('test/fixtures/calendly/no-show-created.json');
  for (const flags of [[], ['--fresh'], ['--fresh']]) {
    assert.is((await runGvi(['send', path, '--url', ingest.url, ...flags], settings())).code, 0);
  }
  type Sent = { payload: { uri: string; no_show: { uri: string } } };
  const sent = ingest.bodies.map((body) => (JSON.parse(body) as Sent).payload);
  assert.is(new Set(sent.map(({ uri }) => uri)).size, 3);
  assert.is(new Set(sent.map(({ no_show }) => no_show.uri)).size, 3);
  ingest.stop();
});

test('a sample that is no webhook, or is called as what every object has, is refused by its name', async () => {
  for (const [name, reason] of [
    [pathOf('README.md'), 'should hold a JSON object'],
    ['constructor', 'There is no sample constructor'],
    [pathOf('test/fixtures'), `There is no sample ${pathOf('test/fixtures')}`],
    [pathOf('package.json'), 'should hold a webhook'],
  ] as const) {
    const { code, stderr } = await runGvi(['send', name, '--fresh'], settings());
    assert.is(code, 2, stderr);
    assert.match(stderr, reason);
    assert.not.match(stderr, '\n    at ');
  }
});

test.run();
