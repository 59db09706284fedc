/** The log of a real worker, through good and bad: nothing of a person may stand in it, and no secret. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defineConsumer } from '../../src/lib/consumer.js';
import { fixture, startPipeline } from '../helpers/pipeline.js';
import { startRedis } from '../helpers/redis-server.js';
import { makeServices } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';
import { appendWebhook, booking, readStream, startTestWorker } from '../helpers/worker.js';
import { at, refusedRecord as refused } from '../helpers/zoho-refusals.js';
import { startGemini } from '../standins/gemini.js';
import { quotaExceeded } from '../standins/gemini-wire.js';
import { SLACK_CHANNEL, SLACK_TOKEN, slackFaults, startSlack } from '../standins/slack.js';
import { startZoho } from '../standins/zoho.js';

const UPSERT = '/crm/v8/Leads/upsert';

const test = suite('what a worker logs');

test('whatever happens, and at every level: no person, no word of a meeting, no secret', async () => {
  const [server, crm, model, channel] = await Promise.all([startRedis(), startZoho(), startGemini(), startSlack()]);
  const secrets = { GEMINI_API_KEY: 'AIza-key-of-the-log-test', SLACK_BOT_TOKEN: SLACK_TOKEN };
  const keyPrefix = 'log:';
  const services = makeServices();
  const worker = services.start('worker', {
    ...{ LOG_LEVEL: 'trace', REDIS_URL: server.url, KEY_PREFIX: keyPrefix },
    ...{ MAX_ATTEMPTS: '2', RETRY_BASE_MS: '40', RETRY_MAX_MS: '100', INTERNAL_DOMAINS: 'vendor.example' },
    ...{ ZOHO_ACCOUNTS_URL: crm.url, ZOHO_API_URL: crm.url, ZOHO_CLIENT_ID: crm.credentials.clientId },
    ...{ ZOHO_CLIENT_SECRET: crm.credentials.clientSecret, ZOHO_REFRESH_TOKEN: crm.credentials.refreshToken },
    ...{ GEMINI_BASE_URL: model.url, SLACK_API_URL: channel.apiUrl, SLACK_CHANNEL, ...secrets },
  });
  const watch = await startPipeline({ redisUrl: server.url, keyPrefix, zoho: crm, workers: 0 });

  const finish = async (source: 'calendly' | 'readai', body: unknown) =>
    (await watch.finished(await watch.send(source, body))).status;
  const statuses = [
    await finish('calendly', booking('a')),
    await finish('readai', fixture('readai/meeting-end-base.json')),
  ];
  crm.faults.next(
    { status: 500, body: { data: [refused('INTERNAL_ERROR', {}, 'b@brightwater.example')] } },
    { path: UPSERT },
  );
  model.answers.push(quotaExceeded('Minute', '0.1s'), { wants: 'Karen Liu', fit: 'no such value' }, 'Karen Liu', 'x');
  channel.faults.next(slackFaults.rateLimited(0));
  statuses.push(await finish('calendly', booking('b')));
  crm.faults.on(
    { path: UPSERT },
    { status: 400, body: { data: [refused('INVALID_DATA', at('Last_Name'), 'Karen Liu')] } },
  );
  statuses.push(await finish('calendly', { ...booking('c'), event: 'invitee.canceled' }));
  await waitFor('the alerts', () => channel.messages().length > 0);

  worker.child.kill('SIGTERM');
  await worker.exitCode();
  const output = worker.output();
  await services.stop();
  await watch.stop();
  await Promise.all([server.stop(), crm.stop(), model.stop(), channel.stop()]);
  assert.equal(statuses, ['processed', 'processed', 'failed', 'failed'], output);
  assert.match(output, '"failed for good"');
  assert.not.match(output, /Karen|Liu|@brightwater|40 hours|404 555|Brightwater <> Vendor|1000\.[0-9a-f]{8}/);
  const all = [...Object.values(secrets), ...Object.values(crm.credentials)];
  for (const secret of all) assert.not(output.includes(secret), 'a secret stands in the log');
});

test('that Redis takes no writes is told once each time it begins, not with every try', async () => {
  const server = await startRedis();
  const admin = server.connect();
  const lines: string[] = [];
  const worker = await startTestWorker({
    redisUrl: server.url,
    log: pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) }),
    consumers: [
      defineConsumer({
        ...{ name: 'enrich', on: ['calendly.invitee.created'], emits: ['lead.enriched'] },
        handle: async ({ data }) => [
          { type: 'lead.enriched' as const, data: { kind: 'booked' as const, happenedAt: data.created_at, facts: {} } },
        ],
      }),
    ],
  });
  const refusals = async () =>
    Number(/errorstat_NOREPLICAS:count=(\d+)/.exec(await admin.info('errorstats'))?.[1] ?? 0);
  const times = (told: string) => lines.filter((line) => line.startsWith(told)).length;
  try {
    for (const round of [1, 2]) {
      const before = await refusals();
      await admin.config('SET', 'min-replicas-to-write', '1');
      await waitFor('many refusals', async () => (await refusals()) > before + 30, 30_000);
      assert.is(times('heartbeat failed'), round, lines.join('\n'));
      assert.ok(times('read failed') <= round, lines.join('\n'));
      await admin.config('SET', 'min-replicas-to-write', '0');
      const key = `calendly:invitee.created:${round}`;
      await appendWebhook(worker, { type: 'calendly.invitee.created', key, body: booking(String(round)) });
      await waitFor('it to work again', async () => (await readStream(worker, 'events:enriched')).length === round);
    }
  } finally {
    await worker.stop();
    await server.stop();
  }
});

test('where it cannot be looked for events of a dry run that is told, and the worker goes on', async () => {
  const server = await startRedis();
  const services = makeServices();
  const redis = server.connect();
  await redis.xadd('events:synced', '*', 'type', 'lead.synced', 'key', 'k', 'v', '1', 'data', '{"outcome":"dry_run"}');
  await redis.set('progress:k', 'somebody put a text in the place of a hash');
  const worker = services.start('worker', { REDIS_URL: server.url }, ['--group', 'enrich']);
  const said = () => worker.lines().some(({ msg }) => msg === 'could not look for events of a dry run');
  await waitFor('the line, or the end', () => said() || worker.child.exitCode !== null);
  assert.ok(said());
  worker.child.kill('SIGTERM');
  assert.is(await worker.exitCode(), 0);
  await services.stop();
  await server.stop();
});

test.run();
