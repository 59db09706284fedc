import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { hashValue, type LeadState, writtenOf } from '../../src/lib/lead-state.js';
import { makeProject, type Projection, readPositions } from '../../src/lib/projector.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { leads, makeReadLeads } from '../../src/projections/leads.js';
import { startRedis } from '../helpers/redis-server.js';

const test = suite('the projection of the leads');

const email = 'karen@brightwater.example';
let server: Awaited<ReturnType<typeof startRedis>>;
let redis: RedisClient;
const keys = makeKeys('');

test.before(async () => {
  server = await startRedis();
  redis = server.connect() as unknown as RedisClient;
});
test.before.each(async () => {
  await redis.flushall();
});
test.after(async () => {
  await server.stop();
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

const meetingWith = (n: number, people: number) => {
  const attendees = Array.from({ length: people }, (_, p) => ({
    ...{ name: 'K', email: `m${n}p${p}@brightwater.example`, side: 'external' },
  }));
  const data = { meetingId: `m${n}`, revision: 1, happenedAt: '2026-11-02T09:00:00Z', title: 'A call', attendees };
  return [
    ...['type', 'meeting.summarized', 'key', `k${n}`, 'at', 'now', 'v', '1', 'cause', 'readai-1-0'],
    ...['data', JSON.stringify({ ...data, summary: 's' })],
  ];
};

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
