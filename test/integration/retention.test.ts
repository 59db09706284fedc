/** When a worker looks for what is old. What it drops then is tested in trim.test.ts. */
import { pino } from 'pino';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeKeys } from '../../src/lib/keys.js';
import { connectRedis } from '../../src/lib/redis.js';
import { startRetention } from '../../src/lib/retention.js';
import { startProxy } from '../faults/harness/proxy.js';
import { makeRandom } from '../faults/harness/random.js';
import { startRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';

const test = suite('retention by itself');

test('it is looked once an hour, also where the reply to the lease is lost', async () => {
  const server = await startRedis();
  const keys = makeKeys('');
  const admin = server.connect();
  await admin.xadd(keys.stream('events:calendly'), '*', 'type', 'x');
  await admin.xgroup('CREATE', keys.stream('events:calendly'), 'stranger', '0');
  let cuts = 0;
  let asked = 0;
  const link = await startProxy({
    ...{
      owner: 'worker',
      link: 'redis',
      target: () => ({ host: '127.0.0.1', port: server.port }),
      random: makeRandom('1'),
    },
    hook({ name, keys: [key], when }) {
      if (name !== 'set' || key !== keys.lease('retention') || when !== 'after') return 'pass';
      asked += 1;
      if (cuts === 1) return 'pass';
      cuts += 1;
      return 'cut';
    },
  });
  const redis = connectRedis({ url: `redis://127.0.0.1:${link.port}`, role: 'worker' });
  const told: unknown[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void told.push(JSON.parse(line).group) });
  const retention = startRetention({ ...{ redis, keys, projections: [], retentionMs: 3_600_000, log }, askMs: 20 });
  await waitFor('the look', () => told.length > 0);
  await waitFor('it to ask some more times', () => asked > 5);
  await retention.stop();
  redis.disconnect();
  await link.stop();
  await server.stop();
  assert.equal([cuts, told], [1, ['stranger']]);
});

test.run();
