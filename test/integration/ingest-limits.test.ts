/** Bodies at the limit, senders that are slow or endless, and a Redis that is away. */
import { connect } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Answer,
  errorOf,
  type IngestBench,
  MB,
  post,
  postCalendly,
  send,
  startIngestBench,
} from '../helpers/ingest-bench.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, calendlySignature } from '../helpers/webhooks.js';

const sizes = suite('sizes and slow senders');
const outages = suite('Redis away');

let bench: IngestBench;

for (const [test, isPatient] of [
  [sizes, true],
  [outages, false],
] as const) {
  test.before(async () => {
    bench = await startIngestBench({ isPatient });
  });
  test.after.each(() => bench.reset());
  test.after(() => bench.stop());
}

/** A booking with white space behind it. */
const padded = (bytes: number) => Buffer.from(JSON.stringify(booking()).padEnd(bytes));

for (const [bytes, status] of [
  [10 * MB - 1, 202],
  [10 * MB, 202],
  [10 * MB + 1, 413],
] as const) {
  sizes(`${bytes} bytes with a limit of 10 MB: ${status}`, async () => {
    const base = await bench.start();
    const answer = await postCalendly(base, padded(bytes));
    assert.is(answer.status, status);
    if (status === 413) assert.is(answer.body.error?.code, 'payload_too_large');
    assert.is((await bench.entriesOf('calendly')).length, status === 202 ? 1 : 0);
  });

  sizes(`${bytes} bytes in chunks with a limit of 10 MB: ${status}`, async () => {
    const base = await bench.start();
    const body = padded(bytes);
    const headers = { 'content-type': 'application/json', 'calendly-webhook-signature': calendlySignature(body) };
    const stream = new Blob([body]).stream();
    const init = { method: 'POST', body: stream, headers, duplex: 'half' } as RequestInit;
    assert.is((await send(`${base}/webhooks/calendly`, init)).status, status);
  });
}

sizes('what is too large is refused before its type and signature are looked at', async () => {
  const base = await bench.start({ bodyBytesMax: 10 });
  const answer = await post(`${base}/webhooks/calendly`, 'x'.repeat(11), { 'content-type': 'text/plain' });
  assert.equal(errorOf(answer), [413, 'payload_too_large']);
});

type Talk = { received: () => string; closed: Promise<void>; write: (data: string) => void };

/** A connection of our own: for senders that no client library would be. */
function talk(base: string, data: string): Talk {
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk;
  });
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(data);
  return { received: () => received, closed, write: (more) => void socket.write(more) };
}

const HEAD = 'POST /webhooks/calendly HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';

sizes('a sender that announces too much and goes silent is answered, and the connection closed', async () => {
  const base = await bench.start();
  const sender = talk(base, `${HEAD}Content-Length: ${50 * MB}\r\n\r\n`);
  await sender.closed;
  assert.match(sender.received(), /^HTTP\/1\.1 413 /);
  assert.match(sender.received(), /connection: close/i);
  assert.match(sender.received(), 'payload_too_large');
});

sizes('a sender that never stops is cut off', async () => {
  const base = await bench.start({ bodyBytesMax: 1_000 });
  const sender = talk(base, `${HEAD}Transfer-Encoding: chunked\r\n\r\n`);
  const chunk = `400\r\n${'x'.repeat(1024)}\r\n`;
  const flood = setInterval(() => sender.write(chunk), 1);
  await sender.closed;
  clearInterval(flood);
  assert.match(sender.received(), /^HTTP\/1\.1 413 /);
});

for (const [name, data] of [
  ['head', 'POST /webhooks/calendly HTTP/1.1\r\nHost: localhost\r\n'],
  ['body', `${HEAD}Content-Length: 100\r\n\r\n{"event":`],
] as const) {
  sizes(`a sender that does not finish its ${name} in time is cut off, and stores nothing`, async () => {
    const base = await bench.start({ requestTimeoutMs: 100 });
    const sender = talk(base, data);
    await sender.closed;
    assert.match(sender.received(), /^HTTP\/1\.1 408 /);
    assert.is(await bench.redis.dbsize(), 0);
    // With so little time for a request another one may need it twice.
    await waitFor('others to be served', async () => (await send(`${base}/healthz`)).status === 200);
  });
}

sizes('a sender that hangs up in mid-body stores nothing and raises no error', async () => {
  const base = await bench.start();
  await new Promise<void>((resolve) => {
    const socket = connect(Number(new URL(base).port), '127.0.0.1', () => {
      socket.write(`${HEAD}Content-Length: 100\r\n\r\n{"event":`, () => socket.destroy());
    });
    socket.once('close', () => resolve());
  });
  await waitFor('its log line', () => bench.logLines().some(({ status }) => status === 'incomplete'));
  assert.is(await bench.redis.dbsize(), 0);
  assert.not.ok(bench.logLines().some(({ level }) => Number(level) >= 40));
});

outages(
  'while Redis is gone, frozen or refuses, senders are told to come back; and they are taken when it is back',
  async () => {
    const { server, ingest } = bench;
    const base = await bench.start();
    const attempt = () => postCalendly(base, JSON.stringify(booking()));
    const refused = (answer: Answer) => {
      assert.equal(errorOf(answer), [503, 'unavailable']);
      assert.is(answer.headers.get('retry-after'), '5');
      assert.not.match(JSON.stringify(answer.body), /redis|stream|econn/i);
    };

    server.kill('SIGSTOP');
    refused(await attempt());
    const frozen = await send(`${base}/readyz`);
    assert.equal([frozen.status, frozen.body], [503, { status: 'unavailable', redis: 'down' }]);
    server.kill('SIGCONT');
    await waitFor('the frozen Redis to be back', async () => (await attempt()).status < 300);

    server.kill('SIGKILL');
    await waitFor('the connection to break', () => ingest.status !== 'ready');
    refused(await attempt());
    assert.is((await send(`${base}/readyz`)).status, 503);
    assert.is((await send(`${base}/healthz`)).status, 200);

    await server.restart();
    await waitFor('Redis to be back', async () => (await attempt()).status < 300);
  },
);

sizes.run();
outages.run();
