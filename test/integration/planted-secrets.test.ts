/**
 * Every setting that is secret, and a person, are planted with words that stand nowhere else. Whatever happens, no secret
 * comes out anywhere; of the person nothing stands in logs, figures and answers, and in an alert only what it is for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findFreePort } from '../../scripts/lib/redis-server.js';
import { runGvi, startGvi } from '../helpers/gvi.js';
import { type AnswerBody, post, postCalendly, postReadai, send, untilAnswered } from '../helpers/ingest-bench.js';
import { type IngestProcess, startIngest } from '../helpers/ingest-process.js';
import { type Pipeline, startPipeline } from '../helpers/pipeline.js';
import {
  ANYTHING_OF_PERSON,
  bookingOf,
  CRASHING,
  PERSON,
  READAI_KEY,
  REDIS_PASSWORD,
  reportOf,
  SECRET,
  SECRETS,
  TOO_MUCH_FOR_AN_ALERT,
} from '../helpers/planted.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { calendlySignature, readaiSignature } from '../helpers/webhooks.js';
import { at, refusedRecord } from '../helpers/zoho-refusals.js';
import { type CalendlyApiStandin, startCalendlyApi } from '../standins/calendly-api.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { quotaExceeded } from '../standins/gemini-wire.js';
import { type SlackStandin, slackFaults, startSlack } from '../standins/slack.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const test = suite('planted secrets and people');

const ROOT = join(import.meta.dirname, '..', '..');
const PATIENCE_MS = 60_000;
const UPSERT = '/crm/v8/Leads/upsert';

let server: TestRedis;
let crm: ZohoStandin;
let model: GeminiStandin;
let channel: SlackStandin;
let calendlyApi: CalendlyApiStandin;
let settings: Record<string, string>;
const children = new Set<ChildProcess>();
/** All that was written, answered or printed, with where. */
const seen: [where: string, text: string][] = [];

test.before(async () => {
  server = await startRedis();
  await server.connect().call('ACL', 'SETUSER', 'gvi', 'on', `>${REDIS_PASSWORD}`, '~*', '&*', '+@all');
  crm = await startZoho({
    ...{ clientId: SECRETS.ZOHO_CLIENT_ID, clientSecret: SECRETS.ZOHO_CLIENT_SECRET },
    refreshToken: SECRETS.ZOHO_REFRESH_TOKEN,
    refreshesMax: 1_000,
  });
  model = await startGemini({ apiKey: SECRETS.GEMINI_API_KEY });
  channel = await startSlack({ token: SECRETS.SLACK_BOT_TOKEN });
  calendlyApi = await startCalendlyApi({ token: SECRETS.CALENDLY_API_TOKEN });
  settings = {
    ...{ ...SECRETS, LOG_LEVEL: 'trace', ALLOW_DEBUG_ENDPOINTS: 'true', INTERNAL_DOMAINS: 'vendor.example' },
    REDIS_URL: `redis://gvi:${REDIS_PASSWORD}@127.0.0.1:${server.port}`,
    ...{ ZOHO_ACCOUNTS_URL: crm.url, ZOHO_API_URL: crm.url, GEMINI_BASE_URL: model.url },
    ...{ SLACK_API_URL: channel.apiUrl, SLACK_CHANNEL: 'C0STANDIN01', MAX_ATTEMPTS: '2' },
    ...{ RETRY_BASE_MS: '40', RETRY_MAX_MS: '100', VISIBILITY_TIMEOUT_MS: '2000' },
  };
});
test.after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([server.stop(), crm.stop(), model.stop(), channel.stop(), calendlyApi.stop()]);
});

/** A worker for all groups; resolves when it runs. What it writes is collected. */
async function startWorker(more: Record<string, string>): Promise<{ stop: () => Promise<void> }> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/consumers/main.ts'], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...settings, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await waitFor('the worker to run', () => output.includes('"worker runs"'), PATIENCE_MS);
  return {
    async stop() {
      child.kill('SIGTERM');
      await exited;
      seen.push([`log of a worker with ${JSON.stringify(Object.keys(more))}`, output]);
    },
  };
}

async function answered(answer: Promise<{ status: number; body: AnswerBody; text: string }>) {
  const { status, body, text } = await answer;
  seen.push([`an answer ${status}`, text]);
  return { status, body };
}

async function finish(watch: Pipeline, { body }: { body: AnswerBody }): Promise<string> {
  return (await watch.finished(body.eventId!)).status;
}

const signed = (body: unknown) => {
  const key = 'planted-calendly-key';
  return { 'calendly-webhook-signature': calendlySignature(JSON.stringify(body), { key }) };
};

test('through success, retry, failure, outage, refusal, rejection and forgery: nothing comes out', async () => {
  const keyPrefix = 'live:';
  const workerPort = String(await findFreePort());
  const ingest = await startIngest({ ...settings, KEY_PREFIX: keyPrefix });
  children.add(ingest.child);
  const worker = await startWorker({ KEY_PREFIX: keyPrefix, WORKER_PORT: workerPort });
  const watch = await startPipeline({ redisUrl: server.url, keyPrefix, workers: 0 });
  const deliver = (body: object) => answered(postCalendly(ingest.base, JSON.stringify(body), signed(body)));
  const book = (body: object) => untilAnswered(() => deliver(body));
  const meet = (body: object) => {
    const text = JSON.stringify(body);
    const signature = { 'x-read-signature': readaiSignature(text, READAI_KEY) };
    return untilAnswered(() => answered(postReadai(ingest.base, text, signature)));
  };

  assert.is(await finish(watch, await book(bookingOf('SUCCESS'))), 'processed');
  assert.is(await finish(watch, await meet(reportOf('01SUCCESS'))), 'processed');

  model.answers.push(quotaExceeded('Minute', '0.1s'), { wants: PERSON.answer, fit: 'no such value' }, PERSON.line, 'x');
  const internal = refusedRecord('INTERNAL_ERROR', {}, PERSON.email);
  crm.faults.next({ status: 500, body: { data: [internal] } }, { path: UPSERT });
  await finish(watch, await book(bookingOf('RETRY', { name: `${PERSON.name} II` })));

  await crm.goDown();
  const waits = await book(bookingOf('OUTAGE', { name: `${PERSON.name} III` }));
  const isPaused = async () => (await watch.redis.exists(watch.keys.pause('zoho'))) === 1;
  await waitFor('the pause', isPaused, PATIENCE_MS);
  await crm.comeBack();
  await waitFor('the resumption', async () => !(await isPaused()), PATIENCE_MS);
  assert.is(await finish(watch, waits), 'processed');

  const refused = refusedRecord('INVALID_DATA', at('Last_Name'), PERSON.name);
  crm.faults.on({ path: UPSERT }, { status: 400, body: { data: [refused] } });
  channel.faults.next(slackFaults.refusal('invalid_blocks', { errors: [PERSON.line] }));
  const failed = await book(bookingOf('FAILURE', { name: `${PERSON.name} IV` }));
  assert.is(await finish(watch, failed), 'failed');
  await waitFor('an alert', () => channel.messages().length > 0, PATIENCE_MS);

  await rejectAndForge(ingest, book);
  await putByHand(watch);
  await lookAtAll(ingest, { eventId: failed.body.eventId!, workerPort, keyPrefix });

  await worker.stop();
  await watch.stop();
  // Redis comes back and does not know the user any more: every connection is refused.
  await server.restart();
  await waitFor('a refusal', async () => (await deliver(bookingOf('AWAY'))).status === 503, PATIENCE_MS);
  seen.push(['the log of ingest', ingest.output()]);
  await ingest.stop();
  await server.connect().call('ACL', 'SETUSER', 'gvi', 'on', `>${REDIS_PASSWORD}`, '~*', '&*', '+@all');
});

async function rejectAndForge(ingest: IngestProcess, book: (body: object) => Promise<{ status: number }>) {
  const url = `${ingest.base}/webhooks/calendly`;
  const statuses = [
    (await book(bookingOf('SUCCESS', { name: 'Quillon Q. Zarathrax' }))).status,
    (await book(bookingOf('UNUSABLE', { uri: PERSON.line, email: PERSON.name }))).status,
  ];
  const broken = `{"email":"${PERSON.email}","name":${PERSON.name}}`;
  const forged = { 'calendly-webhook-signature': `t=1,v1=${PERSON.email},planted-calendly-key` };
  const key = { 'calendly-webhook-signature': calendlySignature(broken, { key: 'planted-calendly-key' }) };
  const secret = { 'x-readai-secret': `${SECRETS.READAI_SHARED_SECRET}x` };
  for (const [target, headers] of [
    [url, key],
    [url, forged],
    [url, { ...key, 'content-type': `text/${PERSON.company}` }],
    [url.replace('calendly', 'readai'), secret],
    [`${ingest.base}/${encodeURIComponent(PERSON.name)}?token=planted-dashboard`, {}],
    [`${ingest.base}/debug/idem/${encodeURIComponent(PERSON.email)}`, {}],
  ] as const) {
    statuses.push((await untilAnswered(() => answered(post(target, broken, headers)))).status);
  }
  assert.equal(statuses, [200, 202, 202, 401, 415, 401, 404, 401]);
}

/** Entries that no stage can read, and one in the place of another. */
async function putByHand({ redis, keys }: Pipeline): Promise<void> {
  const data = JSON.stringify(bookingOf('HAND'));
  for (const stream of ['events:calendly', 'events:enriched', 'events:synced'] as const) {
    await redis.xadd(keys.stream(stream), '*', 'type', 'lead.enriched', 'key', `h${stream}`, 'v', '1', 'data', data);
    await redis.xadd(
      keys.stream(stream),
      '*',
      'type',
      'lead.synced',
      'key',
      `i${stream}`,
      'v',
      '1',
      'data',
      PERSON.name,
    );
  }
  const isTold = async () => (await redis.xlen(keys.stream('events:failed'))) >= 4;
  await waitFor('the failures', isTold, PATIENCE_MS);
}

async function lookAtAll(ingest: IngestProcess, run: { eventId: string; workerPort: string; keyPrefix: string }) {
  const grace = { headers: { authorization: 'Bearer planted-dashboard' } };
  for (const path of ['/metrics', '/readyz', '/healthz', '/nothing', '/debug/info']) {
    await answered(send(ingest.base + path, path === '/debug/info' ? grace : {}));
  }
  const info = await send(`${ingest.base}/debug/info`, grace);
  assert.match(info.text, '"redis":"redis://***@127.0.0.1');
  // Whoever may see it sees the event itself; a secret has no place there either.
  const event = await send(`${ingest.base}/debug/events/${run.eventId}`, grace);
  assert.match(event.text, PERSON.name);
  assert.not.match(event.text, SECRET);
  for (const path of ['/metrics', '/healthz', '/nothing']) {
    await answered(send(`http://127.0.0.1:${run.workerPort}${path}`));
  }
  const tool = { ...settings, KEY_PREFIX: run.keyPrefix };
  for (const args of [
    ...[['status'], ['failed'], ['redrive', '--all', '--dry-run'], ['trim', '--dry-run'], ['calendly', 'nonsense']],
    ...[
      ['doctor', '--calendly-api-url', calendlyApi.url],
      ['calendly', 'status', '--api-url', calendlyApi.url],
    ],
  ]) {
    for (const json of [[], ['--json']]) {
      const { stdout, stderr } = await runGvi([...args, ...json], tool);
      seen.push([`gvi ${args[0]}`, stdout + stderr]);
    }
  }
  assert.ok(calendlyApi.calls.length > 0);
  const tail = startGvi(['tail', '--since', '0'], tool);
  await waitFor('the failures to be told', () => tail.stdout().split('event.failed').length > 4, PATIENCE_MS);
  tail.child.kill('SIGINT');
  await tail.exited;
  seen.push(['gvi tail', tail.stdout() + tail.stderr()]);
  // Of the event itself, and of what would be written to the CRM, people are the matter.
  for (const args of [['show', run.eventId, '--json'], ['show', run.eventId], REPLAY, [...REPLAY, '--json']]) {
    const { code, stdout, stderr } = await runGvi(args, tool);
    assert.is(code, 0, stderr);
    if (args.includes('--json')) assert.match(stdout, PERSON.email);
    assert.not.match(stdout + stderr, SECRET);
    assert.not.match(stderr, ANYTHING_OF_PERSON);
  }
}

const REPLAY = ['replay', '--group', 'crm-sync', '--from', '0', '--force', '--dry-run'];

test('a dry run keeps the requests in the entry and tells the log how many there are', async () => {
  const keyPrefix = 'dry:';
  const worker = await startWorker({ KEY_PREFIX: keyPrefix, DRY_RUN: 'true' });
  const watch = await startPipeline({ redisUrl: server.url, keyPrefix, workers: 0 });
  const synced = await watch.synced(await watch.send('readai', reportOf('01DRY')));
  assert.match(JSON.stringify(synced.requests), PERSON.email);
  await worker.stop();
  await watch.stop();
  assert.match(seen.at(-1)![1], '"dry run: nothing was sent"');
  assert.match(seen.at(-1)![1], /"requests":[1-9]/);
});

test('a process that ends by an error nobody caught tells its kind and place, not what hangs on it', async () => {
  const tool = { ...settings, ...CRASHING, KEY_PREFIX: 'crash:' };
  for (const signal of ['SIGUSR2', 'SIGPIPE'] as const) {
    for (const [script, runs] of [
      ['src/ingest/main.ts', 'ingest listens'],
      ['src/consumers/main.ts', 'worker runs'],
    ] as const) {
      for (const readable of [{}, { TEST_READABLE: '1' }]) {
        const { code, output } = await crash(script, signal, { ...tool, ...readable }, runs);
        seen.push([`a crash of ${script}`, output]);
        assert.is(code, 1, output);
        assert.match(output, 'ends by an error that nothing caught');
        assert.match(output, /Error: ERR with args beginning with …/);
        assert.is(output.trimStart().startsWith('{'), !('TEST_READABLE' in readable));
      }
    }
    const tail = startGvi(['tail', '--since', '0'], tool);
    await server.connect().xadd('crash:events:calendly', '*', 'type', 'a sign of life', 'key', 'k');
    await waitFor('the tool to follow', () => tail.stdout().includes('a sign of life'), PATIENCE_MS);
    tail.child.kill(signal);
    assert.is(await tail.exited, 1);
    seen.push(['gvi that crashes', tail.stdout() + tail.stderr()]);
    assert.match(tail.stderr(), /^Error: ERR with args beginning with …\n +at /);
  }
});

async function crash(script: string, signal: NodeJS.Signals, env: Record<string, string>, runs: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', script], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  await waitFor(`${script} to run`, () => output.includes(runs), PATIENCE_MS);
  child.kill(signal);
  return { code: await exited, output };
}

test('what is spooled holds the webhook and nothing of the settings; the log tells of neither', async () => {
  const spoolDir = mkdtempSync(join(tmpdir(), 'gvi-planted-'));
  const own = await startRedis();
  const ingest = await startIngest({ ...settings, REDIS_URL: own.url, SPOOL_DIR: spoolDir, KEY_PREFIX: 'spool:' });
  children.add(ingest.child);
  await own.stop();
  const body = bookingOf('SPOOLED');
  const book = () => answered(postCalendly(ingest.base, JSON.stringify(body), signed(body)));
  await waitFor('a webhook to be spooled', async () => (await book()).body.status === 'spooled', PATIENCE_MS);
  for (const path of ['/metrics', '/readyz']) await answered(send(ingest.base + path));
  seen.push(['the log of an ingest that spools', ingest.output()]);
  await ingest.stop();
  const files = readdirSync(spoolDir, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  const spooled = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1')).join('\n');
  assert.match(spooled, PERSON.email);
  assert.not.match(spooled, SECRET);
  rmSync(spoolDir, { recursive: true });
});

test('of sentinels out of reach, with passwords in their URL, none is told', async () => {
  const REDIS_URL = 'redis-sentinel://gvi:planted-redis@127.0.0.1:1/main?sentinelPassword=planted-sentinel';
  for (const script of ['src/ingest/main.ts', 'src/consumers/main.ts', 'scripts/gvi.ts']) {
    const args = script.includes('gvi') ? [script, 'status'] : [script];
    const { output } = await runToEnd(args, { REDIS_URL });
    assert.match(output, /reachable/);
    seen.push([`${script} without sentinels`, output]);
  }
});

/** All at once, as all that is wrong is told at once. */
const UNUSABLE = {
  ...{ PORT: 'planted-port', BASE_URL: 'ftp://gvi:planted-url@x', LOG_LEVEL: 'planted-level' },
  ...{ READAI_SIGNING_KEY: 'planted-readai, no base64!', GEMINI_MODEL: 'planted-gemini key' },
  REDIS_URL: 'http://gvi:planted-redis@127.0.0.1',
};
/** Each for itself, as what is wrong in it is found out one after the other. */
const UNUSABLE_LATER = [
  { DASHBOARD_TOKEN: 'grace:,planted-dashboard', ZOHO_REFRESH_TOKEN: '', SLACK_CHANNEL: '' },
  { ZOHO_FIELD_MAP: '{"planted-field' },
  { REDIS_URL: 'rediss://gvi:planted-redis@[::1' },
  { REDIS_URL: 'redis-sentinel://gvi:planted-redis%zz@127.0.0.1:1/x' },
];

test('settings that cannot be used are told by their names alone, by every process', async () => {
  for (const script of ['src/ingest/main.ts', 'src/consumers/main.ts', 'scripts/gvi.ts']) {
    const { code, output } = await runToEnd(script.includes('gvi') ? [script, 'status'] : [script], UNUSABLE);
    assert.is(code, 1);
    for (const name of Object.keys(UNUSABLE)) assert.match(output, `${name}: `);
    seen.push([`${script} with bad settings`, output]);
  }
  for (const more of UNUSABLE_LATER) {
    const { output } = await runToEnd(['src/ingest/main.ts'], more);
    assert.match(output, `${Object.keys(more)[0]}: should be`);
    seen.push([`ingest with a bad ${Object.keys(more)[0]}`, output]);
  }
});

/** Ends it after a while where it does not end by itself. */
async function runToEnd(args: readonly string[], more: Record<string, string>) {
  const child = spawn(process.execPath, ['--import', 'tsx', ...args], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, ...settings, PORT: '0', ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  await waitFor(
    'its words or its end',
    () => child.exitCode !== null || /listens|runs|reachable/.test(output),
    PATIENCE_MS,
  );
  child.kill('SIGKILL');
  return { code: await exited, output };
}

test('no secret stands anywhere, and the person only in an alert, as far as it needs', () => {
  assert.ok(seen.length > 30);
  for (const [where, text] of seen) {
    assert.not.match(text, SECRET, `a secret in ${where}`);
    assert.not.match(text, ANYTHING_OF_PERSON, `a person in ${where}`);
  }
  const alerts = JSON.stringify(channel.messages());
  assert.match(alerts, PERSON.name);
  assert.not.match(alerts, SECRET);
  assert.not.match(alerts, TOO_MUCH_FOR_AN_ALERT);
});

test.run();
