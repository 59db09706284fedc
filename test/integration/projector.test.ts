import { Registry } from 'prom-client';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { hashValue, type LeadState, writtenOf } from '../../src/lib/lead-state.js';
import { readOverview } from '../../src/lib/overview.js';
import { addPipelineMetrics } from '../../src/lib/pipeline-metrics.js';
import { readProjectionLags } from '../../src/lib/projection-lag.js';
import { makeProject, type Projection, readPositions } from '../../src/lib/projector.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { leads, makeReadLeads } from '../../src/projections/leads.js';
import { runGvi } from '../helpers/gvi.js';
import { makeRandom } from '../helpers/random-history.js';
import type { TestRedis } from '../helpers/redis-server.js';
import { shareRedis } from '../helpers/shared-redis.js';

const test = suite('the projection of the leads');

const email = 'karen@brightwater.example';
let server: TestRedis;
let redis: RedisClient;
const keys = makeKeys('');

shareRedis(test, (shared) => {
  ({ server, redis } = shared);
});

const add = (stream: 'events:enriched' | 'events:synced', type: string, data: unknown) =>
  redis.xadd(
    stream,
    '*',
    'type',
    type,
    'key',
    'k',
    'at',
    'now',
    'v',
    '1',
    'cause',
    'calendly-1-0',
    'data',
    JSON.stringify(data),
  );

const enriched = () =>
  add('events:enriched', 'lead.enriched', { kind: 'booked', happenedAt: '2026-11-02T09:00:00Z', email, facts: {} });

const synced = (order: string, fields: Record<string, string>) =>
  add('events:synced', 'lead.synced', {
    outcome: 'written',
    leads: [{ email, leadId: '4150868000003194003', action: 'update' }],
    notes: [],
    wrote: { [email]: { order, fields } },
  });

const entryFields = (type: string, data: unknown) => [
  ...['type', type, 'key', 'k', 'at', 'now', 'v', '1', 'cause', 'calendly-1-0'],
  ...['data', JSON.stringify(data)],
];

const enrichedFields = (person: string) =>
  entryFields('lead.enriched', { kind: 'booked', happenedAt: '2026-11-02T09:00:00Z', email: person, facts: {} });

const syncedFields = (person: string, n: number) =>
  entryFields('lead.synced', {
    ...{ outcome: 'written', leads: [{ email: person, leadId: `${n}`, action: 'update' }], notes: [] },
    wrote: { [person]: { order: `o${n % 7}`, fields: { Company: `2${hashValue(n)}`, Phone: `1${hashValue(n)}` } } },
  });

const meetingFields = (meetingId: string, people: readonly string[]) => {
  const attendees = people.map((person) => ({ name: 'K', email: person, side: 'external' }));
  const data = { meetingId, revision: 1, happenedAt: '2026-11-02T09:00:00Z', title: 'A call', attendees, summary: 's' };
  return entryFields('meeting.summarized', data);
};

const meetingWith = (n: number, people: number) =>
  meetingFields(
    `m${n}`,
    Array.from({ length: people }, (_, p) => `m${n}p${p}@brightwater.example`),
  );

const lastSummarized = async () => (await redis.xrevrange('events:summarized', '+', '-', 'COUNT', 1))[0]![0];

const projectAll = async () => {
  const project = makeProject({ redis, keys });
  while ((await project(leads as Projection)) > 0);
};
const saved = async (): Promise<LeadState> => JSON.parse((await redis.get(`lead:${email}`)) ?? '{}');

test('says which events concern a lead, its id in the CRM and what was written to it', async () => {
  const id = await enriched();
  await synced('b', { Company: `2${hashValue('New')}` });
  await synced('a', { Company: `2${hashValue('Old')}`, Phone: `2${hashValue('1')}` });
  await projectAll();
  const state = await saved();
  assert.equal(state.events, [`enriched-${id}`]);
  assert.is(state.leadId, '4150868000003194003');
  assert.is(writtenOf(state, 'Company')?.hash, hashValue('New'));
  assert.is(writtenOf(state, 'Phone')?.order, 'a');
});

test('folded in one go or one by one, the state is the same', async () => {
  await enriched();
  await projectAll();
  await synced('b', { Company: `2${hashValue('New')}` });
  await projectAll();
  await synced('a', { Company: `2${hashValue('Old')}` });
  await projectAll();
  const stepwise = await saved();
  await redis.del('projector:lead', `lead:${email}`);
  await projectAll();
  assert.equal(await saved(), stepwise);
});

test('what is not folded yet is read all the same', async () => {
  await synced('a', { Company: `2${hashValue('Old')}` });
  await projectAll();
  await synced('b', { Company: `2${hashValue('New')}` });
  const states = await makeReadLeads({ redis, keys })([email, 'nobody@brightwater.example']);
  assert.is(writtenOf(states.get(email)!, 'Company')?.hash, hashValue('New'));
  assert.equal(states.get('nobody@brightwater.example'), {});
});

test('an entry that nobody can read hides none of those beside it', async () => {
  await redis.xadd('events:synced', '*', 'type', 'lead.synced', 'v', '1', 'key', 'bad', 'data', '{"leads":');
  await synced('b', { Company: `2${hashValue('New')}` });
  await redis.xadd('events:synced', '*', 'data', 'no JSON');
  await redis.xadd('events:synced', '*', 'note', 'by hand');
  const states = await makeReadLeads({ redis, keys })([email]);
  assert.is(writtenOf(states.get(email)!, 'Company')?.hash, hashValue('New'));
});

test('a step sent from an outdated position saves nothing', async () => {
  await enriched();
  const project = makeProject({ redis, keys });
  await Promise.all([project(leads as Projection), project(leads as Projection)]);
  assert.is((await saved()).events?.length, 1);
});

test('events of one id in two streams come out the same, whichever is folded first', async () => {
  const dumps: (string | null)[] = [];
  const one = ['events:enriched', '7-0', ...enrichedFields(email)] as const;
  const other = ['events:summarized', '7-0', ...meetingFields('m1', [email])] as const;
  for (const order of [
    [one, other],
    [other, one],
  ]) {
    await redis.flushall();
    for (const [stream, ...entry] of order) {
      await redis.xadd(stream, ...entry);
      await projectAll();
    }
    dumps.push(await redis.get(`lead:${email}`));
  }
  assert.is(dumps[1], dumps[0]);
  assert.equal(JSON.parse(dumps[0]!).events, ['enriched-7-0', 'summarized-7-0']);
});

test('live or all at once, what long streams are folded to is the same, byte for byte', async () => {
  const random = makeRandom(5);
  const emails = Array.from({ length: 12 }, (_, n) => `p${n}@brightwater.example`);
  for (let n = 1; n <= 2_500; n += 1) {
    // People come one by one, and what is read of one stream in a step is much older than what is read of another.
    const person = emails[random(1 + Math.floor(n / 210))]!;
    const kind = random(n < 1_200 ? 6 : 20);
    if (kind < 3) await redis.xadd('events:enriched', `${n}-0`, ...enrichedFields(person));
    else if (kind < 6) await redis.xadd('events:summarized', `${n}-0`, ...meetingFields(`m${n}`, [person, emails[0]!]));
    else await redis.xadd('events:synced', `${n}-0`, ...syncedFields(person, n));
    if (random(25) === 0) await projectAll();
  }
  await projectAll();
  for (const stream of ['events:enriched', 'events:summarized', 'events:synced']) {
    assert.ok((await redis.xlen(stream)) > 500, stream);
  }
  const live = await redis.mget(emails.map((person) => `lead:${person}`));
  await redis.del('projector:lead', ...emails.map((person) => `lead:${person}`));
  await projectAll();
  assert.equal(await redis.mget(emails.map((person) => `lead:${person}`)), live);
});

test('it is told how far a projection is behind, in the metrics and by gvi status', async () => {
  const now = Date.now();
  for (const ageMs of [90_000, 60_000, 30_000]) {
    await redis.xadd('events:synced', `${now - ageMs}-0`, ...syncedFields(email, ageMs));
  }
  const registry = new Registry();
  const update = addPipelineMetrics(registry, async () => ({
    ...(await readOverview({ redis, keys })),
    projections: await readProjectionLags({ redis, keys, projections: [leads as Projection] }),
  }));
  await update();
  const text = await registry.metrics();
  assert.match(text, 'gvi_projection_lag{projection="lead"} 3\n');
  assert.match(text, /gvi_projection_lag_seconds\{projection="lead"\} (9\d|1\d\d)/);
  const settings = { REDIS_URL: server.url };
  assert.match((await runGvi(['status'], settings)).stdout, /\nlead +3 +(9\d|1\d\d)\.\d s/);
  const before = JSON.parse((await runGvi(['status', '--json'], settings)).stdout);
  assert.is(before.projections.lead.lag, 3);
  assert.ok(before.projections.lead.lagMs >= 90_000);
  await projectAll();
  const after = JSON.parse((await runGvi(['status', '--json'], settings)).stdout);
  assert.equal(after.projections.lead, { lag: 0, lagMs: 0 });
});

test('a batch that changes thousands of states loses none of them', async () => {
  const pipeline = redis.pipeline();
  for (let n = 0; n < 500; n += 1) pipeline.xadd('events:summarized', '*', ...meetingWith(n, 12));
  await pipeline.exec();
  await projectAll();
  assert.is((await redis.keys('lead:*')).length, 6_000);
  assert.is((await readPositions(redis, keys, leads as Projection)).get('events:summarized'), await lastSummarized());
});

test('one event that changes thousands of states loses none of them', async () => {
  await redis.xadd('events:summarized', '*', ...meetingWith(1, 9_000));
  await projectAll();
  assert.is((await redis.keys('lead:*')).length, 9_000);
});

test.run();
