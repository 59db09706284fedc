/** `gvi doctor` against a real Redis, a real worker and stand-ins of the providers: in health, and one ill at a time. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Finding, runCheck } from '../../scripts/gvi/doctor/check.js';
import { inspectModel } from '../../scripts/gvi/doctor/gemini.js';
import { inspectGroup } from '../../scripts/gvi/doctor/pipeline.js';
import { examine } from '../../scripts/gvi/doctor.js';
import { parseConfig } from '../../src/lib/config.js';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis, type RedisClient } from '../../src/lib/redis.js';
import { inspectRedis } from '../../src/lib/redis-checks.js';
import type { RedisFacts } from '../../src/lib/redis-facts.js';
import { runGvi } from '../helpers/gvi.js';
import { startPipeline } from '../helpers/pipeline.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { booking, CALENDLY_KEY, READAI_KEY, report } from '../helpers/webhooks.js';
import { CALENDLY_TOKEN, type CalendlyApiStandin, startCalendlyApi } from '../standins/calendly-api.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { SLACK_CHANNEL, SLACK_TOKEN, type SlackStandin, slackFaults, startSlack } from '../standins/slack.js';
import { makeField, startZoho, type ZohoOptions, type ZohoStandin } from '../standins/zoho.js';

const PREFIX = '{doctor}:';
const keys = makeKeys(PREFIX);

let server: TestRedis;
let redis: RedisClient;
let calendlyApi: CalendlyApiStandin;
let gemini: GeminiStandin;
let slack: SlackStandin;
let zoho: ZohoStandin;

const test = suite('gvi doctor');

test.before(async () => {
  server = await startRedis({ args: ['--appendfsync', 'always', '--maxmemory', '200mb'] });
  redis = connectRedis({ url: server.url, role: 'tool' });
  [calendlyApi, gemini, slack, zoho] = await Promise.all([
    startCalendlyApi(),
    startGemini(),
    startSlack(),
    startZoho({ refreshesMax: 1_000 }),
  ]);
});
test.before.each(async () => {
  await redis.flushall();
  for (const standin of [calendlyApi, gemini, slack, zoho]) standin.faults.clear();
  calendlyApi.subscriptions.length = 0;
  calendlyApi.addSubscription();
  zoho.tokens.refuse(undefined);
});
test.after(async () => {
  redis.disconnect();
  await Promise.all([calendlyApi, gemini, slack, zoho].map((standin) => standin.stop()));
  await server.stop();
});

function healthySettings(): Record<string, string> {
  return {
    ...{ NODE_ENV: 'production', REDIS_URL: server.url, KEY_PREFIX: PREFIX, INTERNAL_DOMAINS: 'seller.example' },
    ...{ BASE_URL: 'https://hooks.seller.example', CALENDLY_SIGNING_KEY: CALENDLY_KEY, READAI_SIGNING_KEY: READAI_KEY },
    ...{ CALENDLY_API_TOKEN: CALENDLY_TOKEN, GEMINI_API_KEY: 'standin-gemini-key', GEMINI_BASE_URL: gemini.url },
    ...{ SLACK_BOT_TOKEN: SLACK_TOKEN, SLACK_CHANNEL, SLACK_API_URL: slack.apiUrl },
    ...zohoSettings(zoho),
  };
}

function zohoSettings({ url, credentials }: ZohoStandin): Record<string, string> {
  return {
    ...{ ZOHO_ACCOUNTS_URL: url, ZOHO_API_URL: url, ZOHO_CLIENT_ID: credentials.clientId },
    ...{ ZOHO_CLIENT_SECRET: credentials.clientSecret, ZOHO_REFRESH_TOKEN: credentials.refreshToken },
  };
}

/** What is not ok, as `check level: finding`, with these settings laid over healthy ones. */
async function illsWith(settings: Record<string, string> = {}): Promise<string[]> {
  return ills(await findingsWith(settings));
}

async function findingsWith(settings: Record<string, string>): Promise<Finding[]> {
  const config = parseConfig({ ...healthySettings(), ...settings });
  return examine({ config, redis, keys, calendlyApiUrl: calendlyApi.url });
}

function ills(findings: readonly Finding[]): string[] {
  for (const { level, fix } of findings) assert.is(fix === undefined, level === 'ok', 'what is not ok has a fix');
  return findings
    .filter(({ level }) => level !== 'ok')
    .map(({ check, level, finding }) => `${check} ${level}: ${finding}`);
}

function has(found: readonly string[], start: string): void {
  assert.ok(
    found.some((text) => text.startsWith(start)),
    `${start} in\n${found.join('\n')}`,
  );
}

/** The pipeline's own findings are another test's, unless they are asked for. */
const ofProviders = (found: readonly string[]) =>
  found.filter((text) => !/^pipeline|has sent nothing|No event of/.test(text));

test('a healthy set-up has no problem and no warning, and no secret or person is in the answer', async () => {
  const pipeline = await startPipeline({
    ...{ redisUrl: server.url, keyPrefix: PREFIX, zoho, geminiUrl: gemini.url },
  });
  try {
    await pipeline.finished(await pipeline.send('calendly', booking()));
    await pipeline.finished(await pipeline.send('readai', report()));
    const args = ['doctor', '--calendly-api-url', calendlyApi.url];
    const [asJson, asText] = await Promise.all([
      runGvi([...args, '--json'], healthySettings()),
      runGvi(args, healthySettings()),
    ]);
    assert.equal(ills(JSON.parse(asJson.stdout)), []);
    assert.is(asJson.code, 0);
    assert.is(asText.code, 0);
    assert.match(asText.stdout, 'problems: 0, warnings: 0');
    assert.match(asText.stdout, 'a 2xx says that the event is on the disk of this Redis');
    assert.match(asText.stdout, 'company (owner person) → Company: text, 100 characters');
    const { ZOHO_CLIENT_SECRET, ZOHO_REFRESH_TOKEN } = healthySettings();
    const secrets = [CALENDLY_KEY, READAI_KEY, CALENDLY_TOKEN, SLACK_TOKEN, 'standin-gemini-key', 'ada@', 'Lovelace'];
    for (const secret of [...secrets, ZOHO_CLIENT_SECRET!, ZOHO_REFRESH_TOKEN!]) {
      assert.not.match(asText.stdout + asText.stderr + asJson.stdout, secret);
    }
  } finally {
    await pipeline.stop();
  }
});

test('it asks no provider to write', async () => {
  const before = [zoho, slack, calendlyApi].map(({ calls }) => calls.length);
  assert.equal(ofProviders(await illsWith()), []);
  const after = [zoho, slack, calendlyApi].flatMap(({ calls }, index) => calls.slice(before[index]));
  const writes = after.filter(({ method, path }) => method !== 'GET' && !/token|coql|auth\.test/.test(path));
  assert.equal(writes, []);
});

test('settings: production without keys, an open door, dry run, no domains, debug without a token', async () => {
  const bare = { CALENDLY_SIGNING_KEY: '', READAI_SIGNING_KEY: '' };
  has(await illsWith(bare), 'settings problem: Calendly has no key');
  has(await illsWith(bare), 'settings problem: Read.ai has no key');
  const loose = await illsWith({
    ...bare,
    ...{ ALLOW_UNVERIFIED_WEBHOOKS: 'true', DRY_RUN: 'true', INTERNAL_DOMAINS: '', ALLOW_DEBUG_ENDPOINTS: 'true' },
  });
  has(loose, 'settings warning: ALLOW_UNVERIFIED_WEBHOOKS is on and Calendly has no key');
  has(loose, 'settings warning: DRY_RUN is on');
  has(loose, 'settings warning: INTERNAL_DOMAINS is empty');
  has(loose, 'settings warning: ALLOW_DEBUG_ENDPOINTS is on without DASHBOARD_TOKEN');
  has(loose, 'readai warning: Neither READAI_SIGNING_KEY nor READAI_SHARED_SECRET');
});

test('providers without settings: Zoho is a problem unless the run is dry, the others are warnings', async () => {
  const bare = {
    ...{ ZOHO_CLIENT_ID: '', ZOHO_CLIENT_SECRET: '', ZOHO_REFRESH_TOKEN: '', GEMINI_API_KEY: '' },
    ...{ SLACK_BOT_TOKEN: '', SLACK_CHANNEL: '', CALENDLY_API_TOKEN: '' },
  };
  const found = await illsWith(bare);
  has(found, 'zoho problem: No Zoho credentials');
  has(found, 'gemini warning: No GEMINI_API_KEY');
  has(found, 'slack warning: No Slack settings');
  has(found, 'calendly warning: No CALENDLY_API_TOKEN');
  has(await illsWith({ ...bare, DRY_RUN: 'true' }), 'zoho warning: No Zoho credentials');
});

test('redis: away is said once as a problem, a forbidden CONFIG is said', async () => {
  const nowhere = connectRedis({ url: 'redis://127.0.0.1:1', role: 'tool' });
  const config = parseConfig(healthySettings());
  const away = ills(await examine({ config, redis: nowhere, keys, calendlyApiUrl: calendlyApi.url }));
  nowhere.disconnect();
  assert.is(away.filter((text) => text.includes('problem')).join(), 'redis problem: Redis is not reachable');
  has(away, 'zoho warning: Not looked at');

  await redis.acl('SETUSER', 'hosted', 'on', 'nopass', '~*', '&*', '+@all', '-config');
  const hosted = connectRedis({ url: server.url.replace('//', '//hosted:any@'), role: 'tool' });
  const found = ills(await examine({ config, redis: hosted, keys, calendlyApiUrl: calendlyApi.url }));
  hosted.disconnect();
  has(found, 'redis warning: appendonly yes; appendfsync cannot be read, as CONFIG is forbidden here');
});

test('redis: what it refuses us for is told with what mends it', async () => {
  const config = parseConfig(healthySettings());
  const client = connectRedis({ url: `${server.url}/99`, role: 'tool' });
  const [found] = (await examine({ config, redis: client, keys, calendlyApiUrl: calendlyApi.url })).filter(
    ({ check }) => check === 'redis',
  );
  client.disconnect();
  assert.equal(
    [found?.finding, found?.fix],
    ['Redis refuses us (NO_SUCH_DB)', 'REDIS_URL should name a database that there is, or none'],
  );
});

test('redis: eviction and a slower fsync are told from the server itself', async () => {
  await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
  await redis.config('SET', 'appendfsync', 'everysec');
  const found = await illsWith();
  await redis.config('SET', 'maxmemory-policy', 'noeviction');
  await redis.config('SET', 'appendfsync', 'always');
  has(found, 'redis problem: maxmemory-policy allkeys-lru');
  has(found, 'redis warning: appendonly yes, appendfsync everysec');
});

test('pipeline: a group whose workers are dead is not read, though a worker of another lives', async () => {
  if (!/redis_version:7\.[01]\./.test(await redis.info('server'))) return;
  for (const stream of ['events:enriched', 'events:summarized'] as const) {
    await redis.xgroup('CREATE', keys.stream(stream), 'crm-sync', '0', 'MKSTREAM');
    await redis.xgroup('CREATECONSUMER', keys.stream(stream), 'crm-sync', 'dead');
  }
  await redis.set(keys.lease('projector'), 'of an enrich worker');
  await redis.hset(keys.alive('crm-sync'), '*last', Date.now() - 120_000);
  has(await illsWith(), 'pipeline warning: No worker reads for crm-sync');
  await redis.hset(keys.alive('crm-sync'), '*last', Date.now());
  assert.not.match((await illsWith()).join('\n'), 'for crm-sync');
});

test('pipeline: groups that nobody reads, failures, pauses and what a dry run has ended', async () => {
  has(await illsWith(), 'pipeline warning: No worker of enrich has run');
  await appendEntry('events:calendly', { type: 'calendly.invitee.created', key: 'k1' });
  has(await illsWith(), 'pipeline problem: No worker of enrich has run on this Redis yet; entries that wait: 1');

  const failure = { eventId: 'calendly-1-0', stream: 'events:calendly', group: 'enrich', key: 'k1', attempts: 1 };
  await appendEntry(
    'events:failed',
    { type: 'event.failed', key: 'k1' },
    { ...failure, error: { code: 'x', message: 'x' } },
  );
  await redis.hset(keys.progress('k1'), 'state', 'failed');
  const pause = { kind: 'configuration', reason: 'gemini_key_invalid', since: '2026-11-23T12:00:00.000Z' };
  await redis.hset(keys.pause('gemini'), pause);
  const cause = 'enriched-1763900000000-0';
  await appendEntry('events:synced', { type: 'lead.synced', key: 'k2', cause }, { outcome: 'dry_run' });
  await appendEntry('events:synced', { type: 'lead.synced', key: 'k3', cause }, { outcome: 'dry_run' });
  await appendEntry('events:synced', { type: 'lead.synced', key: 'k3', cause }, { outcome: 'written' });
  const findings = await findingsWith({});
  has(ills(findings), 'pipeline warning: Events that stand failed: 1');
  has(ills(findings), 'pipeline problem: gemini is paused since 2026-11-23T12:00:00.000Z (gemini_key_invalid)');
  has(ills(findings), 'pipeline warning: Events that ended as a dry run and are not in the CRM: 1');
  assert.ok(findings.some(({ fix }) => fix?.includes('replay --group crm-sync --from 2025-11-23T12:13:20.000Z')));
  assert.not.ok((await illsWith({ DRY_RUN: 'true' })).some((text) => text.includes('dry run and')));
});

test('calendly and readai: silence of a week and more is a warning', async () => {
  const id = `${Date.now() - 9.5 * 86_400_000}-0`;
  await redis.xadd(keys.stream('events:calendly'), id, 'type', 'calendly.invitee.created');
  const found = await illsWith();
  has(found, 'calendly warning: Calendly has sent nothing for 9 days');
  has(found, 'readai warning: No event of Read.ai is there');
});

test('calendly: a disabled subscription and a wrong token are problems', async () => {
  calendlyApi.subscriptions[0]!.state = 'disabled';
  has(await illsWith(), 'calendly problem: Subscription subscription-');
  has(await illsWith({ CALENDLY_API_TOKEN: 'another' }), 'calendly problem: Calendly answered 401 to GET /users/me');
});

test('gemini: a bad key and a model that is not served are problems, one that ends soon is a warning', async () => {
  has(await illsWith({ GEMINI_API_KEY: 'bad-key' }), 'gemini problem: Gemini refused the API key');
  has(await illsWith({ GEMINI_MODEL: 'gemini-1.0-pro' }), 'gemini problem: Gemini does not serve the model');
  const november = new Date('2026-11-23T00:00:00Z');
  assert.match(inspectModel('models/gemini-2.5-flash', november)[0]!.finding, 'ends on 2026-12-01');
  assert.match(inspectModel('gemini-2.5-pro', new Date('2026-12-02T00:00:00Z'))[0]!.finding, 'ended on 2026-12-01');
  assert.equal(inspectModel('gemini-2.5-flash-lite', november), []);
  assert.equal(inspectModel('gemini-3.5-flash-lite', november), []);
  assert.match(inspectModel('gemma-9', november)[0]!.finding, 'no family');
});

test('slack: a refused token, a missing scope and a channel by its name', async () => {
  has(await illsWith({ SLACK_BOT_TOKEN: 'xoxb-another' }), 'slack problem: Slack refused: invalid_auth');
  slack.faults.next({ status: 200, body: { ok: true }, headers: { 'x-oauth-scopes': 'channels:read' } });
  has(await illsWith({ SLACK_CHANNEL: '#sales' }), 'slack problem: The token lacks the scope chat:write');
  has(await illsWith({ SLACK_CHANNEL: '#sales' }), 'slack warning: SLACK_CHANNEL does not look like the id');
  slack.faults.next(slackFaults.unavailable());
  has(await illsWith(), 'slack problem: Slack answered 503');
});

async function illsOfZoho(options: ZohoOptions, settings: Record<string, string> = {}): Promise<string[]> {
  const own = await startZoho(options);
  const found = await illsWith({ ...zohoSettings(own), ...settings });
  await own.stop();
  return found.filter((text) => text.startsWith('zoho'));
}

test('zoho: a dead refresh token is a problem, and the field map is shown all the same', async () => {
  zoho.tokens.refuse('invalid_code');
  const findings = await findingsWith({});
  has(ills(findings), 'zoho problem: Zoho answered invalid_code');
  assert.ok(findings.some(({ finding }) => finding === 'company (owner person) → Company'));
});

test('zoho: every missing scope is named with what is lost', async () => {
  const found = await illsOfZoho({ withoutScopes: ['leads', 'notes', 'fields', 'coql', 'search'] });
  assert.equal(
    found.map((text) => /zoho (\w+): The token lacks the scope (\S+):/.exec(text)?.slice(1).join(' ')),
    [
      'warning ZohoCRM.settings.fields.READ',
      'problem ZohoCRM.modules.leads.ALL',
      'problem ZohoCRM.modules.notes.ALL',
      'warning ZohoCRM.coql.READ',
      'warning ZohoSearch.securesearch.READ',
    ],
  );
});

test('zoho: what the field map cannot do is said once for each field', async () => {
  const map = {
    ...{ 'meddic.champion': { field: 'MEDDIC_Champion' }, 'meddic.metrics': { field: 'MEDDIC_Champion' } },
    ...{ 'meddic.economicBuyer': { field: 'No_of_Employees' }, jobTitle: { field: 'Full_Name' } },
    ...{ timezone: { field: 'Time_Zone', owner: 'service' } },
  };
  const status = makeField('Lead_Status', { data_type: 'picklist', values: ['Meeting Booked', 'No Show'] });
  const region = makeField('Region', { system_mandatory: true });
  const found = await illsOfZoho({ fields: [status, region] }, { ZOHO_FIELD_MAP: JSON.stringify(map) });
  assert.equal(found, [
    'zoho problem: jobTitle → Full_Name: the field cannot be written, so it is never written',
    'zoho warning: The picklist Lead_Status does not offer Meeting Canceled: they are left out',
    'zoho problem: meddic.champion, meddic.metrics → MEDDIC_Champion: Zoho has no such field, so it is never written',
    'zoho problem: meddic.economicBuyer → No_of_Employees: a field of type integer takes no text, so it is never written',
    'zoho warning: Zoho demands Region of a lead, which this service does not write: new leads may be refused',
  ]);
});

test('a provider that hangs is a problem after its time, and a check that breaks says no more than its kind', async () => {
  const context = { config: parseConfig(healthySettings()), redis, keys };
  const hangs = { name: 'a', needsRedis: false, run: () => new Promise<never>(() => {}) };
  const [late] = await runCheck(hangs, context, { isRedisUp: true, timeoutMs: 20 });
  assert.is(late!.level, 'problem');
  assert.match(late!.finding, 'No answer within');
  const breaks = {
    name: 'b',
    needsRedis: false,
    run: () => {
      throw new TypeError('the token is s3cret');
    },
  };
  const [broken] = await runCheck(breaks, context, { isRedisUp: true });
  assert.is(broken!.finding, 'The check itself failed (TypeError)');
});

async function appendEntry(stream: `events:${string}`, fields: Record<string, string>, data: object = {}) {
  const all = { ...fields, at: new Date().toISOString(), v: '1', data: JSON.stringify(data) };
  const id = await redis.xadd(keys.stream(stream), '*', ...Object.entries(all).flat());
  await redis.hset(keys.progress(fields.key ?? ''), `${stream.slice('events:'.length)}-${id}`, '');
}

test.run();

const rules = suite("doctor's rules");

const facts: RedisFacts = {
  ...{ version: '7.0.15', role: 'master', replicas: 0, maxmemoryPolicy: 'noeviction', usedBytes: 50, limitBytes: 100 },
  ...{ hasAppendOnlyFile: true, isDiskWritable: true, appendfsync: 'always', save: '', clockAheadMs: 0 },
  ...{ product: 'Redis', isCluster: false, clients: 10, clientsMax: 10_000, skipsFsyncOnRewrite: false },
  aheadStreams: [],
};
const setting = { isProduction: false, redisUrl: 'redis://localhost', keyPrefix: '', toleranceMs: 300_000 };

function redisIlls(changed: Partial<RedisFacts>): string {
  return inspectRedis({ ...facts, ...changed }, setting)
    .filter(({ level }) => level !== 'ok')
    .map(({ level, finding }) => `${level}: ${finding}`)
    .join('\n');
}

rules('a Redis is judged by what it tells of itself', () => {
  const cases: [Partial<RedisFacts>, string][] = [
    [{}, ''],
    [{ version: '8.2.3', appendfsync: 'always', limitBytes: 0 }, ''],
    [{ version: '8.2.1' }, 'warning: Version 8.2.1 has a known fault'],
    [{ version: '6.2.7' }, 'problem: Version 6.2.7 is too old'],
    [{ maxmemoryPolicy: 'allkeys-lfu' }, 'problem: maxmemory-policy allkeys-lfu'],
    [{ maxmemoryPolicy: 'allkeys-lfu', limitBytes: 0 }, 'warning: maxmemory-policy allkeys-lfu: once'],
    [{ maxmemoryPolicy: 'volatile-ttl' }, 'warning: maxmemory-policy volatile-ttl'],
    [{ maxmemoryPolicy: '' }, 'warning: maxmemory-policy cannot be read'],
    [{ hasAppendOnlyFile: false }, 'problem: appendonly no, no snapshots'],
    [{ hasAppendOnlyFile: false, save: '3600 1' }, 'warning: appendonly no, snapshots only'],
    [{ hasAppendOnlyFile: false, save: undefined }, 'warning: appendonly no; what else'],
    [{ appendfsync: 'no' }, 'may lose the last half minute'],
    [{ isDiskWritable: false }, 'problem: Redis could not write to its disk'],
    [{ usedBytes: 80 }, 'warning: Memory'],
    [{ usedBytes: 95 }, 'answered 503'],
    [{ clockAheadMs: -5_000 }, 'warning: The clock of Redis is 5.0 s behind'],
    [{ clockAheadMs: 400_000 }, 'problem: The clock of Redis is 7 min ahead'],
    [{ role: 'slave' }, 'problem: This Redis is a replica'],
  ];
  for (const [changed, expected] of cases) {
    if (expected === '') assert.is(redisIlls(changed), '');
    else assert.match(redisIlls(changed), expected);
  }
});

rules('a group is judged by who reads and what waits, as far as the version of Redis tells', () => {
  const quiet = { backlog: 0, lag: 0, pending: 0, parked: 0, failed: 0, oldestAgeMs: 0 };
  const judge = (changed: Partial<Parameters<typeof inspectGroup>[1]>) => {
    const readers = { isComplete: true, consumers: 1, idleMs: 400, isWorkerAlive: true, state: quiet };
    return inspectGroup('enrich', { ...readers, ...changed }).level;
  };
  const waiting = { ...quiet, backlog: 3, oldestAgeMs: 1_000 };
  assert.is(judge({}), 'ok');
  assert.is(judge({ idleMs: 300_000 }), 'warning');
  assert.is(judge({ idleMs: 300_000, state: waiting }), 'problem');
  assert.is(judge({ idleMs: undefined, consumers: 0 }), 'ok');
  assert.is(judge({ idleMs: undefined, consumers: 0, isWorkerAlive: false }), 'warning');
  assert.is(judge({ idleMs: undefined, consumers: 0, state: waiting }), 'problem');
  assert.is(judge({ idleMs: undefined, isWorkerAlive: false, state: waiting }), 'problem');
  assert.is(judge({ state: { ...waiting, oldestAgeMs: 3_600_000 } }), 'warning');
  assert.is(judge({ isComplete: false }), 'warning');
});

rules.run();
