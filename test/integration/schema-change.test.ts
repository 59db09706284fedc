/**
 * A release in which the shape of `lead.enriched` has changed for the second time, over streams that hold all three: what was
 * written by former releases is run, replayed and rebuilt as what is written now.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { catalogue } from '../../src/lib/events.js';
import { rebuild } from '../../src/lib/rebuild.js';
import { makeReplayId, replay } from '../../src/lib/replay.js';
import { STEPS } from '../../src/lib/upcasters.js';
import { projections } from '../../src/projections/index.js';
import { type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, readStream } from '../helpers/worker.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('a changed schema');

const FOLDER = join(import.meta.dirname, '..', 'fixtures', 'former-versions');
const PREFIX = 'schema:';
/** The default of IDEMPOTENCY_TTL_DAYS. */
const TTL_S = 30 * 86_400;

type Json = Record<string, unknown>;
type Fixture = { id: string; fields: Record<string, string> };

let server: TestRedis;
let crm: ZohoStandin;
let pipeline: Pipeline | undefined;

/** From an invented first version to an invented second, and on to the present shape, which is the third here. */
function toSecond({ type, when, mail, name, company, starts }: Json): Json {
  const [firstName, lastName] = String(name).split(' ');
  const happenedAt = new Date(Number(when)).toISOString();
  return {
    ...{
      kind: String(type).toLowerCase(),
      happenedAt,
      email: String(mail).toLowerCase(),
      firstName,
      lastName,
      company,
    },
    ...{ startsAt: starts, bookingId: 'inv1' },
  };
}
function toThird({ kind, happenedAt, email, firstName, lastName, company, startsAt, bookingId }: Json): Json {
  return { kind, happenedAt, email, facts: { firstName, lastName, company }, booking: { id: bookingId, startsAt } };
}

test.before(async () => {
  Object.assign(catalogue['lead.enriched'], { version: 3 });
  STEPS['lead.enriched'] = { 1: (data) => toSecond(data as Json), 2: (data) => toThird(data as Json) };
  [server, crm] = await Promise.all([startRedis(), startZoho()]);
});
test.after(async () => {
  await pipeline?.stop();
  await Promise.all([server.stop(), crm.stop()]);
});

/** As the former release left it: enriched, and not yet in the CRM. */
async function putFormer(version: 1 | 2): Promise<string> {
  const admin = server.connect();
  const { id, fields }: Fixture = JSON.parse(readFileSync(join(FOLDER, `lead.enriched.v${version}.json`), 'utf8'));
  const cause = fields.cause!;
  const webhook = {
    ...{ type: 'calendly.invitee.created', key: fields.key!, at: fields.at!, v: '1' },
    data: JSON.stringify(booking(`inv${version}`)),
  };
  await admin.xadd(`${PREFIX}events:calendly`, cause.slice('calendly-'.length), ...Object.entries(webhook).flat());
  await admin.xadd(`${PREFIX}events:enriched`, id, ...Object.entries(fields).flat());
  await admin.xgroup('CREATE', `${PREFIX}events:calendly`, 'enrich', '$').catch(() => {});
  await admin.xgroup('SETID', `${PREFIX}events:calendly`, 'enrich', '$');
  admin.disconnect();
  return cause;
}

test('entries of three versions are run, replayed and rebuilt alike', async () => {
  const former = [await putFormer(1), await putFormer(2)];
  pipeline = await startPipeline({ redisUrl: server.url, keyPrefix: PREFIX, zoho: crm });
  const { redis, keys } = pipeline;
  await rebuild({ redis, keys, projections, idempotencyTtlS: TTL_S });
  const present = await pipeline.send('calendly', booking('inv3', 'karen@third.example'));
  for (const eventId of [...former, present])
    assert.is((await pipeline.finished(eventId)).status, 'processed', eventId);

  const enriched = await readStream({ redis, keys }, 'events:enriched');
  assert.equal(
    enriched.map(({ fields }) => fields.v),
    ['1', '2', '3'],
  );
  const readCrm = () => crm.leads().map(({ Modified_Time: _modified, ...fields }) => fields);
  const written = readCrm();
  assert.equal(written.map(({ Email, Last_Name, Company }) => [Email, Last_Name, Company]).slice(0, 2), [
    ['ada@first.example', 'Byron', 'First & Sons'],
    ['grace@second.example', 'Hopper', 'Second Ltd'],
  ]);

  const replayId = makeReplayId();
  const range = { group: 'crm-sync', from: '-', to: '+' } as const;
  const counts = await replay(
    { redis, keys },
    { ...range, isForced: true, takesDryRuns: false, replayId },
    { isDryRun: false },
  );
  assert.equal(counts, { again: 3 });
  const synced = () => readStream({ redis, keys }, 'events:synced');
  await waitFor('the replay', async () => (await synced()).length === 6);
  assert.is((await synced()).filter(({ fields }) => fields.replay === replayId).length, 3);
  assert.equal(readCrm(), written);

  const report = await rebuild({ redis, keys, projections, idempotencyTtlS: TTL_S });
  assert.equal(
    [
      report.projections.map(({ differed }) => differed),
      report.chains.restored,
      await redis.xlen(keys.stream('events:failed')),
    ],
    [[0], 0, 0],
  );
});

test('a worker of the release before leaves what a newer one wrote to that, at the cost of no attempt', async () => {
  const { redis, keys } = pipeline!;
  const before = await readStream({ redis, keys }, 'events:enriched');
  const { fields } = before.at(-1)!;
  const key = 'calendly:invitee.created:inv4';
  const newest = { ...fields, v: '4', key, data: fields.data!.replaceAll('third.example', 'fourth.example') };
  const id = await redis.xadd(keys.stream('events:enriched'), '*', ...Object.entries(newest).flat());
  const isParked = () => redis.zscore(keys.parked('crm-sync'), `enriched-${id}`);
  await waitFor('it to be put off', isParked);
  assert.equal(JSON.parse((await redis.hget(keys.attempts('crm-sync'), `enriched-${id}`)) ?? '{}').spent ?? 0, 0);

  Object.assign(catalogue['lead.enriched'], { version: 4 });
  STEPS['lead.enriched'] = { ...STEPS['lead.enriched'], 3: (data) => data };
  await redis.zadd(keys.parked('crm-sync'), 0, `enriched-${id}`);
  await waitFor('the lead', async () => crm.leadsOf('karen@fourth.example').length === 1);
  assert.is(await redis.xlen(keys.stream('events:failed')), 0);
});

test.run();
