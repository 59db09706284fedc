/** What comes of an event when a provider answers oddly: from the webhook to the CRM, or to the failure. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readOverview } from '../../src/lib/overview.js';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { at, refusedRecord as refused } from '../helpers/zoho-refusals.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { apiKeyInvalid, quotaExceeded } from '../standins/gemini-wire.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const UPSERT = '/crm/v8/Leads/upsert';

const test = suite('from a provider’s odd answer to the CRM');

let redis: TestRedis;
let zoho: ZohoStandin;
let gemini: GeminiStandin;
let pipeline: Pipeline;
let tests = 0;
/** A worker takes its time to stop: the next test does not wait for that. */
const stopping: Promise<unknown>[] = [];

test.before(async () => {
  redis = await startRedis();
});
test.before.each(async () => {
  tests += 1;
  [zoho, gemini] = await Promise.all([startZoho(), startGemini()]);
  // Calls are counted here: none may be cut off and made again, as where a worker has stood still for that long.
  const env = { VISIBILITY_TIMEOUT_MS: '20000' };
  pipeline = await startPipeline({ redisUrl: redis.url, keyPrefix: `t${tests}:`, zoho, geminiUrl: gemini.url, env });
});
test.after.each(() => {
  const standins = [zoho, gemini];
  stopping.push(pipeline.stop().then(() => Promise.all(standins.map((standin) => standin.stop()))));
});
test.after(async () => {
  await Promise.all(stopping);
  await redis.stop();
});

const booking = (id: string, over: Record<string, unknown> = {}) => ({
  event: 'invitee.created',
  created_at: '2026-11-02T09:00:01.000000Z',
  payload: {
    uri: `https://api.calendly.com/scheduled_events/GROUP/invitees/${id}`,
    email: `${id}@brightwater.example`,
    name: 'Karen Liu',
    text_reminder_number: '+1 404 555 1234',
    scheduled_event: { uri: 'https://api.calendly.com/scheduled_events/GROUP', name: 'Group Demo' },
    ...over,
  },
});
const canceled = (id: string) => ({ ...booking(id, { status: 'canceled' }), event: 'invitee.canceled' });
const upserts = () => zoho.calls.filter(({ path }) => path === UPSERT).length;
const geminiCalls = () => gemini.calls.filter(({ method }) => method === 'POST').length;
const attemptsOf = ({ trail }: { trail: { type: string; attempts: number }[] }, type: string) =>
  trail.find((step) => step.type === type)?.attempts;

test('each of several people in one group event becomes a lead', async () => {
  const ids = ['a', 'b', 'c'];
  for (const id of ids) await pipeline.finished(await pipeline.send('calendly', booking(id)));
  assert.equal(
    zoho.leads().map(({ Email }) => Email),
    ids.map((id) => `${id}@brightwater.example`),
  );
});

for (const [code, field] of [
  ['INVALID_DATA', 'Lead_Status'],
  ['DUPLICATE_DATA', 'Phone'],
] as const) {
  test(`${code} for ${field}: the lead is written without it, in one attempt`, async () => {
    zoho.faults.next({ status: 400, body: { data: [refused(code, at(field))] } }, { path: UPSERT });
    const chain = await pipeline.finished(await pipeline.send('calendly', booking('a')));
    assert.is(chain.status, 'processed');
    assert.is(attemptsOf(chain, 'lead.synced'), 1);
    const [written] = zoho.leads();
    assert.equal([written?.Last_Name, field in written!], ['Liu', false]);
    assert.is(upserts(), 2);
  });
}

for (const [code, field] of [
  ['MANDATORY_NOT_FOUND', 'Region'],
  ['INVALID_DATA', 'Last_Name'],
  ['RECORD_IN_BLUEPRINT', undefined],
] as const) {
  test(`${code} for ${field ?? 'the record'}: it fails at once, and says whose it is`, async () => {
    const body = { data: [refused(code, field === undefined ? {} : at(field))] };
    zoho.faults.on({ path: UPSERT }, { status: 400, body });
    const { status, failure } = await pipeline.finished(await pipeline.send('calendly', booking('a')));
    assert.equal([status, failure?.error.code, failure?.attempts], ['failed', `zoho_${code.toLowerCase()}`, 1]);
    assert.match(failure!.error.message, 'a@brightwater.example');
    assert.is(upserts(), 1);
  });
}

test('a record that is locked is written once it is not, at the cost of its own attempts', async () => {
  zoho.faults.on({ path: UPSERT, times: 2 }, { status: 400, body: { data: [refused('RECORD_LOCKED')] } });
  const chain = await pipeline.finished(await pipeline.send('calendly', booking('a')));
  assert.equal([chain.status, attemptsOf(chain, 'lead.synced')], ['processed', 3]);
  assert.is(zoho.leads().length, 1);
});

test('a missing scope pauses Zoho, fetches no new token, and fails nothing', async () => {
  zoho.faults.on({ path: '/crm/*' }, { status: 401, body: { data: [refused('OAUTH_SCOPE_MISMATCH')] } });
  await pipeline.send('calendly', booking('a'));
  const [pause] = await waitFor('the pause', async () => {
    const { pauses } = await readOverview(pipeline);
    return pauses.length > 0 && pauses;
  });
  assert.equal([pause!.provider, pause!.kind, pause!.reason], ['zoho', 'configuration', 'zoho_oauth_scope_mismatch']);
  assert.is(zoho.tokens.issued(), 1);
  assert.is((await readOverview(pipeline)).groups['crm-sync']!.failed, 0);
});

test('while Gemini refuses the key bookings wait, and what needs no model is done', async () => {
  gemini.faults.on({}, { ...apiKeyInvalid() });
  await pipeline.send('calendly', booking('a'));
  const [pause] = await waitFor('the pause', async () => {
    const { pauses } = await readOverview(pipeline);
    return pauses.length > 0 && pauses;
  });
  assert.equal([pause!.provider, pause!.kind, pause!.reason], ['gemini', 'configuration', 'gemini_key_invalid']);
  const synced = await pipeline.synced(await pipeline.send('calendly', canceled('b')));
  assert.is(synced.outcome, 'written');
  assert.equal((await readOverview(pipeline)).groups.enrich!.failed, 0);
  assert.is(geminiCalls(), 1);
});

test('what Gemini blocks fails alone, after one request', async () => {
  gemini.answers.push({ promptFeedback: { blockReason: 'PROHIBITED_CONTENT' } });
  const { failure } = await pipeline.finished(await pipeline.send('calendly', booking('a')));
  assert.equal([failure?.group, failure?.error.code, failure?.attempts], ['enrich', 'model_blocked', 1]);
  assert.is(geminiCalls(), 1);
  assert.is((await pipeline.synced(await pipeline.send('calendly', booking('b')))).outcome, 'written');
});

test('a recitation is tried again at the cost of an attempt', async () => {
  gemini.answers.push({ candidates: [{ finishReason: 'RECITATION', index: 0 }] });
  const chain = await pipeline.finished(await pipeline.send('calendly', booking('a')));
  assert.equal([chain.status, attemptsOf(chain, 'lead.enriched')], ['processed', 2]);
});

test('a lead that makes Zoho fail costs the leads in its batch no attempt, and none of them waits for it', async () => {
  const isBad = ({ body }: { body: unknown }) => JSON.stringify(body ?? '').includes('"bad@');
  zoho.faults.on({ path: '/crm/v8/Leads/upsert', when: isBad }, { status: 500 });
  const ids = await Promise.all(['a', 'b', 'bad', 'c', 'd'].map((id) => pipeline.send('calendly', booking(id))));
  const [bad, ...good] = [ids[2]!, ...ids.filter((_, index) => index !== 2)];
  for (const id of good) {
    const chain = await pipeline.finished(id);
    assert.equal([chain.status, attemptsOf(chain, 'lead.synced')], ['processed', 1]);
  }
  let more = 0;
  await waitFor('the bad one to fail', async () => {
    more += 1;
    await pipeline.synced(await pipeline.send('calendly', booking(`more${more}`)));
    return (await readOverview(pipeline)).groups['crm-sync']!.failed === 1;
  });
  assert.is((await pipeline.finished(bad)).failure?.error.code, 'zoho_unavailable');
});

test('a limit of Gemini per minute costs no attempt, and what waited is done', async () => {
  gemini.answers.push(quotaExceeded('Minute', '0.3s'));
  const chain = await pipeline.finished(await pipeline.send('calendly', booking('a')));
  assert.equal([chain.status, attemptsOf(chain, 'lead.enriched')], ['processed', 1]);
});

test('a meeting is analysed once, however often its note is tried and its report delivered', async () => {
  zoho.faults.next({ status: 502 }, { path: '/crm/v8/Notes' });
  const meeting = fixture('readai/meeting-end-base.json');
  const eventId = await pipeline.send('readai', meeting);
  assert.is((await pipeline.finished(eventId)).status, 'processed');
  assert.is(await pipeline.send('readai', { ...meeting, request_id: 'another delivery' }), eventId);
  assert.is(geminiCalls(), 1);
  assert.is(zoho.notes().length, 1);
});

test('while Zoho is away, what writes nothing is done, and does not pass for its return', async () => {
  await zoho.goDown();
  await pipeline.send('calendly', canceled('a'));
  await waitFor('the pause', async () => (await readOverview(pipeline)).pauses.length > 0);
  for (let count = 0; count < 3; count += 1) {
    const meeting = { ...fixture('readai/meeting-end-internal-only.json'), session_id: `internal-${count}` };
    assert.is((await pipeline.synced(await pipeline.send('readai', meeting))).reason, 'internal_meeting');
  }
  const told = await pipeline.redis.xrange(pipeline.keys.stream('events:health'), '-', '+');
  assert.equal(
    told.map(([, fields]) => fields[1]),
    ['provider.paused'],
  );
});

test('a backlog of meetings with more guests than a call takes reaches the CRM', async () => {
  zoho.faults.on({ path: UPSERT, times: 2 }, { latencyMs: 300 });
  const meetings = Array.from({ length: 40 }, (_, index) => ({
    ...fixture('readai/meeting-end-empty-transcript.json'),
    session_id: `backlog-${index}`,
    participants: Array.from({ length: 8 }, (_guest, number) => ({ email: `${number}-${index}@brightwater.example` })),
  }));
  const eventIds = await Promise.all(meetings.map((meeting) => pipeline.send('readai', meeting)));
  const chains = await Promise.all(eventIds.map((eventId) => pipeline.finished(eventId)));
  assert.is(chains.filter(({ status }) => status === 'processed').length, 40);
  assert.equal([zoho.leads().length, zoho.notes().length], [320, 320]);
});

const push = (over: object = {}) => ({ ...fixture('readai/meeting-end-empty-transcript.json'), ...over });

test('a lead that was deleted with its note has both again after the next push', async () => {
  await pipeline.finished(await pipeline.send('readai', push()));
  zoho.deleteLead(zoho.leads()[0]!.id);
  const eventId = await pipeline.send('readai', push({ request_id: 'R2', summary: 'Karen wants a pilot.' }));
  assert.is((await pipeline.finished(eventId)).status, 'processed');
  assert.equal(
    zoho.notes().map(({ parentId, content }) => [parentId, /Karen wants a pilot/.test(content)]),
    [[zoho.leads()[0]!.id, true]],
  );
});

test('a lead that is deleted just before its note is written is looked for once more', async () => {
  const gone = {
    when: () => zoho.leads().every(({ id }) => zoho.deleteLead(id) ?? true),
    path: '/crm/v8/Notes',
    times: 1,
  };
  zoho.faults.on(gone, { status: 400, body: { data: [refused('INVALID_DATA', at('Parent_Id'))] } });
  assert.is((await pipeline.finished(await pipeline.send('readai', push()))).status, 'processed');
  assert.equal(
    zoho.notes().map(({ parentId }) => parentId),
    zoho.leads().map(({ id }) => id),
  );
});

test('a lead that is converted just before it is written is looked for once more: its note goes to the deal', async () => {
  const leadId = zoho.seedLead({ Email: 'karen@brightwater.example', Last_Name: 'Liu' });
  const converted = { when: () => zoho.convertLead(leadId).dealId !== '', path: UPSERT, times: 1 };
  const said = refused('INVALID_DATA', { id: leadId }, "can't update the converted record");
  zoho.faults.on(converted, { status: 400, body: { data: [said] } });
  assert.is((await pipeline.finished(await pipeline.send('readai', push()))).status, 'processed');
  assert.equal(
    zoho.notes().map(({ module }) => module),
    ['Deals'],
  );
});

test.run();
