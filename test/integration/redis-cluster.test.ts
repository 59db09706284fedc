/** The whole pipeline on a real Redis Cluster of three masters: all of it in one slot, on whichever node that is. */
import type { Socket } from 'node:net';
import type { Cluster } from 'ioredis';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseConfig } from '../../src/lib/config.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { makeKeys } from '../../src/lib/keys.js';
import { scanKeys } from '../../src/lib/maintenance.js';
import { readOverview } from '../../src/lib/overview.js';
import { connectRedis } from '../../src/lib/redis.js';
import { inspectRedis } from '../../src/lib/redis-checks.js';
import { judgeRedisError } from '../../src/lib/redis-errors.js';
import { readFacts } from '../../src/lib/redis-facts.js';
import { readAddition, readDenied, readRule, setUser } from '../helpers/documented-acl.js';
import { runGvi } from '../helpers/gvi.js';
import { type History, startHistory } from '../helpers/history.js';
import { postCalendly, send, untilAnswered } from '../helpers/ingest-bench.js';
import { startCluster, type TestCluster } from '../helpers/redis-cluster.js';
import { makeServices } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, CALENDLY_KEY } from '../helpers/webhooks.js';
import { appendWebhook, booking as invitee, startTestWorker } from '../helpers/worker.js';

const PREFIX = '{gvi}:';
const keys = makeKeys(PREFIX);

const test = suite('on a Redis Cluster');

let cluster: TestCluster;
let history: History;
let settings: Record<string, string>;
const services = makeServices();

test.before(async () => {
  cluster = await startCluster();
  settings = { REDIS_URL: cluster.url, KEY_PREFIX: PREFIX, DRY_RUN: 'true' };
  history = await startHistory({ redisUrl: cluster.url, keyPrefix: PREFIX });
});
test.after(async () => {
  await services.stop();
  await history.stop();
  await cluster.stop();
});

async function gvi(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runGvi(args, settings);
  assert.is(code, 0, `gvi ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

test('events go through, in one slot of one node', async () => {
  await history.ended(await history.book('a'));
  await history.ended(await history.book('b', 'flaky'));
  await history.ended(await history.meet('m1', 'first', 'r1'));
  await history.ended(await history.meet('m1', 'second', 'r2'));
  await history.ended(await history.book('c', 'refused'), 'failed');
  const owner = await cluster.ownerOf(await cluster.slotOf(keys.readiness()));
  const sizes = await Promise.all(cluster.nodes.map((node) => cluster.sizeOf(node)));
  assert.equal(
    sizes.map((size) => size > 0),
    cluster.nodes.map((node) => node === owner),
  );
});

test('every command of the operators works', async () => {
  await history.projected();
  const [entry] = await history.redis.xrange(keys.stream('events:calendly'), '-', '+', 'COUNT', 1);
  const [status, failed, chain] = await Promise.all([
    gvi('status', '--json'),
    gvi('failed'),
    gvi('show', `calendly-${entry![0]}`, '--json'),
    gvi('replay', '--group', 'enrich', '--from', '0', '--dry-run'),
  ]);
  assert.is(JSON.parse(status).streams['events:synced'].length, 4);
  assert.match(failed, 'refused');
  assert.is(JSON.parse(chain).status, 'processed');
  await gvi('rebuild', '--yes');
  await gvi('replay', '--group', 'enrich', '--from', '0', '--yes');
  history.stage.isMended = true;
  await gvi('redrive', '--all', '--yes');
  await waitFor(
    'the redriven event to be done',
    async () => (await history.redis.xlen(keys.stream('events:synced'))) >= 5,
  );
  await gvi('trim', '--yes');
  const found: string[] = [];
  for await (const batch of scanKeys(history.redis, keys.stream('events:calendly'))) found.push(...batch);
  assert.equal([...new Set(found)], [keys.stream('events:calendly')]);
});

test('ingest and a worker as processes of their own take a webhook through as a user of least rights, and show the figures', async () => {
  const admins = cluster.nodes.map((node) => node.connect());
  for (const admin of admins) {
    await setUser(admin, readRule(), 'resetkeys', `~${PREFIX}*`, ...readAddition('Cluster'));
  }
  const REDIS_URL = cluster.url.replace('://', '://gvi:the-password@');
  const more = { REDIS_URL, CALENDLY_SIGNING_KEY: CALENDLY_KEY, INTERNAL_DOMAINS: 'seller.example' };
  const ingest = services.start('ingest', { ...settings, ...more });
  services.start('worker', { ...settings, ...more });
  const port = await waitFor('ingest to listen', () => ingest.lines().find((line) => line.port)?.port, 30_000);
  const base = `http://127.0.0.1:${port}`;
  const body = JSON.stringify(booking());
  await waitFor('ingest to be ready', async () => (await send(`${base}/readyz`)).status === 200);
  // Sent again where it is answered 503: it was not taken in within the time of an answer.
  const answer = await untilAnswered(() => postCalendly(base, body));
  assert.ok([200, 202].includes(answer.status), answer.text);
  await history.ended(answer.body.eventId!);
  const metrics = (await send(`${base}/metrics`)).text;
  assert.match(metrics, 'gvi_redis_up 1');
  assert.match(metrics, /gvi_stream_length\{stream="events:calendly"\} [1-9]/);
  const { code, stdout, stderr } = await runGvi(['rebuild', '--yes'], { ...settings, REDIS_URL });
  assert.is(code, 0, `${stdout}${stderr}`);
  await services.stop();
  const denied = await Promise.all(admins.map((admin) => readDenied(admin, 'gvi')));
  assert.equal([...new Set(denied.flat())], ['config|get']);
});

test('a slot moves to another node while events come: each is done once', async () => {
  const slot = await cluster.slotOf(keys.readiness());
  const from = await cluster.ownerOf(slot);
  const to = cluster.nodes.find((node) => node !== from)!;
  const ids: string[] = [];
  const book = async (id: string) => {
    ids.push(id);
    const eventId = await waitFor(`${id} to be taken in`, () => history.book(id).catch(() => false as const), 20_000);
    return eventId;
  };
  const before = await Promise.all(['m0', 'm1', 'm2'].map(book));
  const move = await cluster.moveSlot(slot, to);
  const meanwhile = book('m3');
  await move.finish();
  const after = await Promise.all(['m4', 'm5'].map(book));
  for (const eventId of [...before, await meanwhile, ...after]) await history.ended(eventId);
  assert.is((await cluster.ownerOf(slot)).port, to.port);
  assert.is(await cluster.sizeOf(from), 0);
  const entries = await history.redis.xrange(keys.stream('events:synced'), '-', '+');
  for (const id of ids) {
    const done = entries.filter(([, fields]) => fields.includes(`calendly:invitee.created:${id}`));
    assert.is(done.length, 1, id);
  }
  const { groups } = await readOverview({ redis: history.redis, keys });
  assert.equal(
    Object.values(groups).map(({ backlog, pending }) => backlog + pending),
    [0, 0, 0, 0],
  );
});

test('a read loop that stands still is mended by other connections to every node', async () => {
  const enrich = defineConsumer({
    name: 'enrich',
    on: ['calendly.invitee.created'],
    emits: ['lead.enriched'],
    async handle({ data }) {
      const email = data.payload.email ?? '';
      const facts = { kind: 'booked' as const, happenedAt: data.created_at, email, facts: {} };
      return [{ type: 'lead.enriched' as const, data: facts }];
    },
  });
  const bounds = { reconnectMs: 2_000, endMs: 60_000 };
  const worker = await startTestWorker({ redisUrl: cluster.url, keyPrefix: '{stuck}:', consumers: [enrich], bounds });
  const admins = cluster.nodes.map((node) => node.connect());
  let addresses: string[] = [];
  const isConnected = async () => {
    const lists = await Promise.all(admins.map((admin) => admin.client('LIST')));
    return addresses.map((address) => String(lists).includes(address));
  };
  // Each time anew: a loop that Redis let wait may have been mended just now.
  const nodes = await waitFor('its connections', async () => {
    const found = (worker.redis as unknown as Cluster).nodes('master');
    await Promise.all(found.map((node) => node.ping()));
    addresses = found.map(({ stream }) => `addr=127.0.0.1:${(stream as Socket).localPort} `);
    return String(await isConnected()) === 'true,true,true' && found;
  });
  // What the node that holds the pipeline answers is not read any more.
  const owner = await cluster.ownerOf(await cluster.slotOf(worker.keys.readiness()));
  nodes.find(({ options }) => options.port === owner.port)!.stream.pause();
  await waitFor('all of them to be given up', async () => !(await isConnected()).includes(true));
  await appendWebhook(worker, { type: 'calendly.invitee.created', key: 'k', body: invitee('stuck') });
  const isDone = async () => (await worker.redis.xlen(worker.keys.stream('events:enriched'))) === 1;
  await waitFor('the loop to go on', isDone);
  await worker.stop();
});

test('what a cluster says of wrong addresses and keys is known by its word', async () => {
  const codeOf = (call: Promise<unknown>) =>
    call.then(
      () => 'fine',
      (error: unknown) => judgeRedisError(error)?.code,
    );
  const slot = await cluster.slotOf('far');
  const owner = await cluster.ownerOf(slot);
  const [other, third] = cluster.nodes.filter((node) => node !== owner);
  const [here, there] = [owner.connect(), other!.connect()];
  assert.is(await codeOf(there.set('far', '1')), 'MOVED');
  assert.is(await codeOf(here.mset('far', '1', 'farther', '1')), 'CROSSSLOT');
  await here.set('{far}a', '1');
  const move = await cluster.moveSlot(slot, other!);
  assert.is(await codeOf(here.get('{far}b')), 'ASK');
  assert.is(await codeOf(here.mget('{far}a', '{far}b')), 'TRYAGAIN');
  const script = "redis.call('GET', KEYS[1]); return redis.call('GET', '{far}b')";
  assert.is(await codeOf(here.eval(script, 1, '{far}a')), 'SLOT_MOVING');
  await move.finish();
  await here.call('CLUSTER', 'SETSLOT', String(slot), 'NODE', String(await third!.connect().call('CLUSTER', 'MYID')));
  const lost = connectRedis({ url: cluster.url, role: 'tool' });
  third!.kill('SIGSTOP');
  await waitFor('the cluster to be down', async () => (await codeOf(here.get('{far}a'))) === 'CLUSTERDOWN', 20_000);
  third!.kill('SIGCONT');
  await waitFor('the cluster to be up', async () => (await codeOf(lost.get('{gvi}:none'))) === 'fine', 20_000);
  lost.disconnect();
});

test('start-up looks at the node that holds the pipeline, and refuses a prefix without a hash tag', async () => {
  const config = parseConfig(settings);
  const facts = await readFacts(history.redis, keys);
  const owner = await cluster.ownerOf(await cluster.slotOf(keys.readiness()));
  assert.is(facts.isCluster, true);
  const own = Number(/used_memory:(\d+)/.exec(await owner.connect().info('memory'))![1]);
  assert.ok(Math.abs(facts.usedBytes - own) < 2_000_000);
  const setting = { ...config, toleranceMs: 300_000 };
  assert.not.ok(inspectRedis(facts, setting).some(({ isRefused }) => isRefused));
  assert.ok(inspectRedis(facts, { ...setting, keyPrefix: 'gvi:' }).some(({ isRefused }) => isRefused));
  const REDIS_URL = owner.url;
  const worker = services.start('worker', { REDIS_URL, KEY_PREFIX: '' });
  assert.is(await worker.exitCode(), 1);
  assert.match(worker.output(), /REDIS_URL should begin with redis-cluster|set KEY_PREFIX=\{gvi\}:/);
});

test.run();
