/** TLS, a password and the user of least rights that `docs/redis.md` gives: the whole service and every command under it. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findFreePort } from '../../scripts/lib/redis-server.js';
import { makeCertificate, type TestCertificate } from '../helpers/certificate.js';
import { readDenied, readRule } from '../helpers/documented-acl.js';
import { runGvi } from '../helpers/gvi.js';
import { postCalendly, postReadai } from '../helpers/ingest-bench.js';
import { type IngestProcess, startIngest } from '../helpers/ingest-process.js';
import { bookingOf, reportOf } from '../helpers/planted.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { makeServices } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';
import { at, refusedRecord } from '../helpers/zoho-refusals.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const UPSERT = '/crm/v8/Leads/upsert';
const test = suite('Redis with TLS and a user of least rights');

const ROOT = join(import.meta.dirname, '..', '..');
const PREFIX = 'gvi:';
const PATIENCE_MS = 30_000;
const services = makeServices();

let dir: string;
let certificate: TestCertificate;
let server: TestRedis;
let crm: ZohoStandin;
let ingest: IngestProcess | undefined;
let settings: Record<string, string>;
let admin: ReturnType<TestRedis['connect']>;

/** As its provider does: sends it until it is taken in. */
const send = (post: typeof postCalendly, body: unknown) =>
  waitFor(
    'it to be taken in',
    async () => (await post(ingest!.base, Buffer.from(JSON.stringify(body)))).status < 300,
    PATIENCE_MS,
  );

test.before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'gvi-tls-'));
  certificate = makeCertificate(dir);
  writeFileSync(join(dir, 'users.acl'), `user default on nopass ~* &* +@all\n${readRule()}\n`);
  const tlsPort = await findFreePort();
  server = await startRedis({
    args: [
      ...['--tls-port', String(tlsPort), '--tls-auth-clients', 'no', '--tls-ca-cert-file', certificate.caFile],
      ...['--tls-cert-file', certificate.certFile, '--tls-key-file', certificate.keyFile],
      ...['--aclfile', join(dir, 'users.acl'), '--maxmemory-policy', 'noeviction'],
    ],
  });
  admin = server.connect();
  crm = await startZoho();
  settings = {
    ...{ REDIS_URL: `rediss://gvi:the-password@localhost:${tlsPort}`, KEY_PREFIX: PREFIX },
    ...{ NODE_EXTRA_CA_CERTS: certificate.caFile, NODE_ENV: 'production', LOG_LEVEL: 'info' },
    ...{ RETRY_BASE_MS: '50', MAX_ATTEMPTS: '2', VISIBILITY_TIMEOUT_MS: '2000', INTERNAL_DOMAINS: 'vendor.example' },
    ...{ ZOHO_ACCOUNTS_URL: crm.url, ZOHO_API_URL: crm.url, ZOHO_CLIENT_ID: crm.credentials.clientId },
    ...{ ZOHO_CLIENT_SECRET: crm.credentials.clientSecret, ZOHO_REFRESH_TOKEN: crm.credentials.refreshToken },
    ...{ RETENTION_DAYS: '0.00001', IDEMPOTENCY_TTL_DAYS: '0.00001' },
  };
});
test.after(async () => {
  await services.stop();
  await ingest?.stop();
  await Promise.all([crm?.stop(), server?.stop()]);
  rmSync(dir, { recursive: true, force: true });
});

test('ingest, a worker and every command do their work with no right but those', async () => {
  ingest = await startIngest({ ...settings, IDEMPOTENCY_TTL_DAYS: '1', RETENTION_DAYS: '1' });
  const worker = services.start('worker', { ...settings, IDEMPOTENCY_TTL_DAYS: '1', RETENTION_DAYS: '1' });
  await send(postCalendly, bookingOf('fine'));
  await send(postReadai, reportOf('met'));
  const length = (stream: string) => admin.xlen(`${PREFIX}events:${stream}`);
  await waitFor('both to end', async () => (await length('synced')) === 2, PATIENCE_MS);
  const refused = refusedRecord('INVALID_DATA', at('Last_Name'), 'no');
  crm.faults.on({ path: UPSERT }, { status: 400, body: { data: [refused] } });
  await send(postCalendly, bookingOf('refused', { name: 'Another Name', email: 'other@brightwater.example' }));
  await waitFor('the failure', async () => (await length('alerted')) === 1, PATIENCE_MS);

  const [[id] = ['']] = await admin.xrange(`${PREFIX}events:calendly`, '-', '+', 'COUNT', 1);
  crm.faults.clear();
  for (const command of [
    ['status', '--json'],
    ['show', `calendly-${id}`],
    ['failed'],
    ['redrive', '--all', '--yes'],
    ['replay', '--group', 'enrich', '--from', '0', '--force', '--yes'],
    ['replay', '--group', 'crm-sync', '--from', '0', '--dry-run'],
    ['rebuild', '--yes'],
    ['trim', '--yes'],
  ]) {
    const { code, stderr, stdout } = await runGvi(command, settings);
    assert.is(code, 0, `${command.join(' ')}: ${stdout}${stderr}`);
  }
  worker.child.kill('SIGTERM');
  assert.is(await worker.exitCode(), 0, worker.output());
  await admin.xgroup('CREATE', `${PREFIX}events:calendly`, 'left', '$');
  const dropped = await runGvi(['drop-group', 'events:calendly', 'left', '--yes'], settings);
  assert.is(dropped.code, 0, `${dropped.stdout}${dropped.stderr}`);

  assert.equal(await readDenied(admin, 'gvi'), ['config|get']);
  assert.not.match(worker.output() + ingest.output(), /NOPERM|"level":60/);
});

test('the rule names no command that nothing sends, and each that a script sends', () => {
  const allowed = [...readRule().matchAll(/\+([a-z|]+)/g)].map(([, command]) => command!);
  const files = (folder: string, end: string) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith(end))
      .map((name) => readFileSync(join(ROOT, folder, name), 'utf8'));
  const scripts = files('src/lib/scripts', '.lua').join('\n');
  const code = [...files('src', '.ts'), ...files('scripts/gvi', '.ts'), ...files('scripts/gvi', '.ts')].join('\n');
  const inScripts = [...`${scripts}${code}`.matchAll(/redis\.call\('([A-Z]+)'(?:, '([A-Z]+)')?/g)].map(
    ([, name, sub]) =>
      (sub === undefined || !['XGROUP', 'XINFO'].includes(name!) ? name! : `${name}|${sub}`).toLowerCase(),
  );
  assert.equal(
    [...new Set(inScripts)].filter((command) => !allowed.includes(command)),
    [],
  );
  const ofTheClient = ['evalsha', 'client|setname'];
  const isSent = (command: string) => {
    const [name, sub = ''] = command.split('|');
    const call = sub === '' ? `\\.${name}\\(` : `\\.${name}\\(\\s*'${sub}'`;
    return inScripts.includes(command) || new RegExp(call, 'i').test(code) || ofTheClient.includes(command);
  };
  assert.equal(
    allowed.filter((command) => !isSent(command)),
    [],
  );
});

test('whoever has not the certificate of the authority, or not the password, comes no further, and no secret is told', async () => {
  const { NODE_EXTRA_CA_CERTS: _ca, ...unknowing } = settings;
  const wrong = { ...settings, REDIS_URL: settings.REDIS_URL!.replace('the-password', 'another-word') };
  for (const [given, text] of [
    [unknowing, /\((SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE)\)/],
    [wrong, /WRONGPASS/],
  ] as const) {
    const { code, stdout, stderr } = await runGvi(['status'], given);
    assert.is(code, 1);
    assert.match(stderr, text, stderr);
    assert.not.match(stdout + stderr, /the-password|another-word/);
  }
});

test.run();
