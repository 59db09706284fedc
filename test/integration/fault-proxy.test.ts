/** The proxy of the fault suite does what a network does, and nothing that none ever does. */
import { connect } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startProxy } from '../faults/harness/proxy.js';
import { makeRandom } from '../faults/harness/random.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';

const test = suite('the fault suite’s proxy');

let server: TestRedis;

test.before(async () => {
  server = await startRedis();
});
test.after(() => server.stop());

const command = (...words: string[]) =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

test('of a command that is cut nothing is executed, nor of those that are in line behind it', async () => {
  const redis = server.connect();
  for (let seed = 1; seed <= 20; seed += 1) {
    const proxy = await startProxy({
      owner: 'w1',
      link: 'redis',
      target: () => ({ host: '127.0.0.1', port: server.port }),
      hook: () => 'pass',
      random: makeRandom(String(seed)),
    });
    await proxy.setFault({ kind: 'cut-commands', probability: 1 });
    const client = connect(proxy.port, '127.0.0.1');
    const isClosed = new Promise((resolve) => client.on('error', () => {}).once('close', resolve));
    client.write(command('SET', 'first', 'x'.repeat(500)) + command('SET', 'second', 'y'.repeat(2_000)));
    await isClosed;
    await proxy.stop();
  }
  assert.equal(await redis.keys('*'), []);
});

test.run();
