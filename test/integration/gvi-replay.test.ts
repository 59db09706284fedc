/** `gvi replay` as an operator runs it: what it shows before, and that a kill of anybody doubles nothing. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findBundled } from '../helpers/bundle.js';
import { runGvi, startGvi } from '../helpers/gvi.js';
import { startHistory } from '../helpers/history.js';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { readStream } from '../helpers/worker.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('gvi replay');

let server: TestRedis;
let zoho: ZohoStandin;
let gemini: GeminiStandin;
let prefixes = 0;

test.before(async () => {
  [server, zoho, gemini] = await Promise.all([startRedis(), startZoho(), startGemini()]);
});
test.before.each(() => {
  prefixes += 1;
});
test.after(async () => {
  await Promise.all([server.stop(), zoho.stop(), gemini.stop()]);
});

const prefix = () => `{g${prefixes}}:`;
const settings = (more: Record<string, string> = {}) => ({
  ...{ REDIS_URL: server.url, KEY_PREFIX: prefix(), INTERNAL_DOMAINS: 'vendor.example' },
  ...{ GEMINI_API_KEY: 'test-key', GEMINI_BASE_URL: gemini.url },
  ...{ ZOHO_ACCOUNTS_URL: zoho.url, ZOHO_API_URL: zoho.url, ZOHO_CLIENT_ID: zoho.credentials.clientId },
  ...{ ZOHO_CLIENT_SECRET: zoho.credentials.clientSecret, ZOHO_REFRESH_TOKEN: zoho.credentials.refreshToken },
  ...more,
});
const EVERYTHING = ['--from', '2026-01-01T00:00:00Z'];

const booking = (id: string) => {
  const body = fixture('calendly/invitee-created.json');
  return { ...body, payload: { ...body.payload, uri: `https://a/invitees/${id}`, email: `${id}@brightwater.example` } };
};

async function withPipeline(use: (pipeline: Pipeline) => Promise<void>): Promise<void> {
  const pipeline = await startPipeline({
    ...{ redisUrl: server.url, keyPrefix: prefix(), zoho, geminiUrl: gemini.url },
    // A claim that is lost while this process stands still would be a second call of the CRM.
    env: { VISIBILITY_TIMEOUT_MS: '30000' },
  });
  try {
    await use(pipeline);
  } finally {
    await pipeline.stop();
  }
}

async function projected({ redis, keys }: Pipeline): Promise<void> {
  await waitFor('the projection', async () => {
    const [last] = await redis.xrevrange(keys.stream('events:synced'), '+', '-', 'COUNT', 1);
    return (await redis.hget(keys.projector('lead'), 'events:synced')) === last?.[0];
  });
}

/** Leases come and go with time. */
async function keptKeys({ redis, keys }: Pipeline): Promise<string[]> {
  await waitFor('what was intended to be done', async () => (await redis.exists(keys.intents())) === 0);
  return (await redis.keys('*')).filter((key) => !key.startsWith(keys.lease(''))).sort();
}

async function look(args: readonly string[], more?: Record<string, string>) {
  const { stdout, stderr } = await runGvi(['replay', ...args, ...EVERYTHING, '--dry-run', '--json'], settings(more));
  assert.ok(stdout !== '', stderr);
  return JSON.parse(stdout);
}

test('a dry run shows the questions to the model, with the answers of before, and the requests, and asks nobody', async () => {
  await withPipeline(async (pipeline) => {
    const eventId = await pipeline.send('calendly', booking('a'));
    await pipeline.finished(eventId);
    await projected(pipeline);
    const calls = [zoho.calls.length, gemini.requests.length];
    const before = await keptKeys(pipeline);

    const enrich = await look(['--group', 'enrich', '--force']);
    assert.equal(enrich.counts, { again: 1 });
    const [entry] = enrich.entries;
    assert.is(entry.eventId, eventId);
    assert.match(entry.model.prompt, /^enrich\.v\d+$/);
    assert.match(entry.model.stored, /^enriched-/);
    assert.ok(entry.model.tokens > 100);
    assert.equal([enrich.totals.modelCalls, enrich.totals.storedAnswers, enrich.totals.unknown], [1, 1, 0]);
    const [lead] = entry.crm.leads;
    assert.is(lead.email, 'a@brightwater.example');
    assert.ok(Date.now() - Date.parse(lead.lastSeenAt) < 600_000);
    const changes = new Map(lead.fields.map((each: { field: string; change: string }) => [each.field, each.change]));
    assert.equal(
      ['Last_Name', 'Company', 'Description'].map((field) => changes.get(field)),
      ['same', 'same', 'same'],
    );
    // The organisation's picklist does not know the value, which nobody can tell without asking Zoho.
    assert.is(changes.get('Industry'), 'fills');

    const sync = await look(['--group', 'crm-sync', '--force']);
    assert.equal([sync.counts, sync.totals.modelCalls], [{ again: 1 }, 0]);
    const changed = { ZOHO_FIELD_MAP: JSON.stringify({ company: { field: 'Company_Name', owner: 'service' } }) };
    const mapped = await look(['--group', 'crm-sync', '--force'], changed);
    const [{ crm }] = mapped.entries;
    assert.equal(crm.leads[0].fields.find(({ field }: { field: string }) => field === 'Company_Name').change, 'fills');
    assert.is(crm.data.requests[0].method, 'POST');
    assert.match(crm.data.requests[0].assumes, 'The CRM is not asked');

    const text = await runGvi(
      ['replay', '--group', 'enrich', '--force', ...EVERYTHING, '--dry-run'],
      settings(changed),
    );
    assert.match(text.stdout, 'asks the model (enrich.v1');
    assert.match(text.stdout, /lead a@brightwater\.example, last seen .* ago/);
    assert.match(text.stdout, 'Company_Name: "');
    // Whether a person has changed it since the last look is not known.
    assert.match(text.stdout, /Last_Name: ".*" is what this service last wrote there$/m);
    assert.equal([zoho.calls.length, gemini.requests.length], calls);
    assert.equal(await keptKeys(pipeline), before);
  });
});

test('a dry run leaves alone what a person was seen to have changed or cleared, and says so', async () => {
  await withPipeline(async (pipeline) => {
    const email = 'seen@brightwater.example';
    const keyOfLead = pipeline.keys.projection('lead', email);
    const book = async (id: string, company: string, createdAt: string) => {
      const answers = { Company: company, Website: `https://${company.toLowerCase()}.example` };
      const questions_and_answers = Object.entries(answers).map(([question, answer]) => ({ question, answer }));
      const { payload, ...body } = booking(id);
      const sent = { ...body, created_at: createdAt, payload: { ...payload, email, questions_and_answers } };
      await pipeline.finished(await pipeline.send('calendly', sent));
    };
    const foreseen = async (group: string, more?: Record<string, string>) => {
      await projected(pipeline);
      const { entries } = await look(['--group', group, '--force'], more);
      const { data, leads } = entries.at(-1).crm;
      const changes = leads[0].fields.map(({ field, change }: { field: string; change: string }) => [field, change]);
      const [record] = data.requests?.[0].body.data ?? [{}];
      return { record, changes: Object.fromEntries(changes), lastSeenAt: Date.parse(leads[0].lastSeenAt) };
    };

    await book('s1', 'Alba', '2026-09-01T09:00:00.000000Z');
    const { id, ...lead } = zoho.leadsOf(email)[0]!;
    assert.equal([lead.Company, lead.Website], ['Alba', 'https://alba.example']);
    zoho.editLead(id, { Company: 'Their own', Website: null, Lead_Status: 'Contacted' });
    const before = await foreseen('crm-sync');
    const { Company, Website, Lead_Status } = before.changes;
    assert.equal([Company, Website, Lead_Status], ['same', 'same', 'same'], 'nobody has looked since');

    await book('s2', 'Brightwater', '2026-09-02T09:00:00.000000Z');
    for (const group of ['crm-sync', 'enrich']) {
      const { record, changes, lastSeenAt } = await foreseen(group);
      assert.equal([changes.Company, changes.Website, changes.Last_Name], ['person', 'cleared', 'same'], group);
      assert.is(changes.Lead_Status, 'person');
      assert.equal([record.Company, record.Website, record.Lead_Status], [undefined, undefined, undefined], group);
      assert.ok(lastSeenAt > before.lastSeenAt, 'it was looked at again');
    }
    const map = (owner: string) => ({ ZOHO_FIELD_MAP: JSON.stringify({ company: { field: 'Company', owner } }) });
    const owned = await foreseen('crm-sync', map('service'));
    assert.equal([owned.changes.Company, owned.record.Company], ['overrules', 'Brightwater']);

    const text = await runGvi(['replay', '--group', 'crm-sync', '--force', ...EVERYTHING, '--dry-run'], settings());
    assert.match(text.stdout, /Company: "Brightwater" is not written: a person's value stands there$/m);
    assert.match(text.stdout, /Website: "\S+" is not written: a person has cleared it$/m);
    const kept = [await readStream(pipeline, 'events:synced'), await pipeline.redis.get(keyOfLead)];
    assert.not.match(JSON.stringify(kept), 'Their own');

    zoho.editLead(id, { Company: 'Alba' });
    await book('s3', 'Brightwater AG', '2026-09-03T09:00:00.000000Z');
    assert.is(zoho.leadsOf(email)[0]!.Company, 'Brightwater AG', 'they put back what was ours');
    const { changes } = await foreseen('crm-sync');
    assert.equal([changes.Company, changes.Website], ['same', 'cleared']);

    const state = await pipeline.redis.get(keyOfLead);
    await pipeline.redis.del(keyOfLead);
    const rebuilt = await runGvi(['rebuild', '--yes', '--json'], settings());
    assert.is(rebuilt.code, 0, rebuilt.stderr);
    assert.is(await pipeline.redis.get(keyOfLead), state);
  });
});

test('what no answer is known for is not made up', async () => {
  await withPipeline(async (pipeline) => {
    await pipeline.finished(await pipeline.send('calendly', booking('a')));
    await projected(pipeline);
    const [enriched] = await readStream(pipeline, 'events:enriched');
    await pipeline.redis.xdel(pipeline.keys.stream('events:enriched'), enriched!.id);
    const { entries, totals } = await look(['--group', 'enrich', '--force']);
    assert.equal([entries[0].model.stored, entries[0].crm, totals.unknown], [undefined, undefined, 1]);
  });
});

test('events of a dry run: status names the command, which writes them, once', async () => {
  const dry = await startPipeline({ redisUrl: server.url, keyPrefix: prefix(), zoho, env: { DRY_RUN: 'true' } });
  await dry.finished(await dry.send('calendly', booking('dry')));
  await dry.stop();
  const { stdout } = await runGvi(['status'], settings());
  const [, command] = /to write them: npm run -s gvi -- (.*)$/m.exec(stdout)!;
  const doctor = JSON.parse((await runGvi(['doctor', '--json'], settings())).stdout) as {
    finding: string;
    fix?: string;
  }[];
  assert.ok(doctor.some(({ fix }) => fix?.includes(command!)));
  await withPipeline(async (pipeline) => {
    const leadsBefore = zoho.leads().length;
    const done = await runGvi([...command!.split(' '), '--yes', '--json'], settings());
    assert.equal(JSON.parse(done.stdout).counts, { again: 1 });
    await waitFor('the outcome', async () => (await readStream(pipeline, 'events:synced')).length === 2);
    const again = await runGvi([...command!.split(' '), '--yes', '--json'], settings());
    assert.equal(JSON.parse(again.stdout).counts, { processed: 1 });
    assert.is(zoho.leads().length, leadsBefore + 1);
    assert.not.match((await runGvi(['status'], settings())).stdout, 'dry run');
  });
});

test('a forced replay renews the note, and adds none', async () => {
  await withPipeline(async (pipeline) => {
    const report = fixture('readai/meeting-end-base.json');
    await pipeline.finished(await pipeline.send('readai', report));
    const notes = zoho.notes().map(({ id }) => id);
    assert.ok(notes.length > 0);
    const updates = () => zoho.calls.filter(({ method, path }) => method === 'PUT' && path.endsWith('/Notes')).length;
    const before = updates();
    await runGvi(['replay', '--group', 'crm-sync', ...EVERYTHING, '--force', '--yes'], settings());
    await waitFor('the outcome', async () => (await readStream(pipeline, 'events:synced')).length === 2);
    assert.equal(
      zoho.notes().map(({ id }) => id),
      notes,
    );
    assert.is(updates(), before + 1);
  });
});

test('killed in the middle it is gone on with by its id, and everything has run once', async () => {
  const history = await startHistory({ redisUrl: server.url, keyPrefix: prefix() });
  try {
    const count = 1_500;
    for (let i = 0; i < count; i += 1) await history.book(`n${i}`);
    const synced = (number: number) =>
      waitFor(
        'the outcomes',
        async () => (await history.redis.xlen(history.keys.stream('events:synced'))) >= number,
        60_000,
      );
    await synced(count);
    const running = startGvi(['replay', '--group', 'enrich', ...EVERYTHING, '--force', '--yes'], settings());
    await synced(count + 50);
    running.child.kill('SIGKILL');
    await running.exited;
    const [, replayId] = /This replay is (\S+?)\. /.exec(running.stderr())!;
    const { replays } = JSON.parse((await runGvi(['status', '--json'], settings())).stdout);
    assert.equal(
      replays.map((replay: { replayId: string; group: string }) => [replay.replayId, replay.group]),
      [[replayId, 'enrich']],
    );
    const resumed = await runGvi(['replay', '--resume', replayId!, '--yes', '--json'], settings());
    assert.is(JSON.parse(resumed.stdout).replayId, replayId, resumed.stderr);
    await synced(2 * count);
    const runs = (await readStream(history, 'events:synced')).map(({ fields }) => `${fields.key} ${fields.replay}`);
    assert.equal([runs.length, new Set(runs).size], [2 * count, 2 * count]);
    assert.equal(JSON.parse((await runGvi(['status', '--json'], settings())).stdout).replays, []);
    const operations = (await readStream(history, 'events:operations')).map(({ data }) => data);
    assert.equal(
      operations.map(({ details }) => [details.phase, details.replayId]),
      ['begun', 'resumed', 'ended'].map((phase) => [phase, replayId]),
    );
    const [begun, resumedAt, ended] = operations.map((operation) => operation.count);
    assert.ok(begun === 0 && resumedAt > 0 && resumedAt < count, `${begun}, then ${resumedAt}`);
    assert.is(ended, count);
  } finally {
    await history.stop();
  }
});

function startWorkerProcess(): ChildProcess {
  return spawn(process.execPath, [findBundled('src/consumers/main.cjs')], {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, LOG_LEVEL: 'silent', VISIBILITY_TIMEOUT_MS: '500', ...settings() },
    stdio: 'ignore',
  });
}

test('with its workers killed meanwhile, each lead and each note stays once in the CRM', async () => {
  const watch = await startPipeline({ redisUrl: server.url, keyPrefix: prefix(), zoho, workers: 0 });
  let workers = [startWorkerProcess(), startWorkerProcess()];
  const untilSynced = (count: number) =>
    waitFor('the outcomes', async () => (await readStream(watch, 'events:synced')).length >= count, 60_000);
  try {
    const leadsBefore = zoho.leads().length;
    const notesBefore = zoho.notes().length;
    for (let i = 0; i < 40; i += 1) await watch.send('calendly', booking(`k${i}`));
    await untilSynced(40);
    const notes = zoho.notes().length - notesBefore;
    const running = startGvi(['replay', '--group', 'enrich', ...EVERYTHING, '--force', '--yes'], settings());
    for (const reached of [45, 60]) {
      await untilSynced(reached);
      for (const worker of workers) worker.kill('SIGKILL');
      workers = [startWorkerProcess(), startWorkerProcess()];
    }
    assert.is(await running.exited, 0);
    await untilSynced(80);
    const runs = (await readStream(watch, 'events:synced')).map(({ fields }) => `${fields.key} ${fields.replay}`);
    assert.equal([runs.length, new Set(runs).size], [80, 80]);
    const leads = zoho.leads().slice(leadsBefore);
    assert.equal([leads.length, new Set(leads.map(({ Email }) => Email)).size], [40, 40]);
    assert.is(zoho.notes().length - notesBefore, notes);
  } finally {
    for (const worker of workers) worker.kill('SIGKILL');
    await watch.stop();
  }
});

test.run();
