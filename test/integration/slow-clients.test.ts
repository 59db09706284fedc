/** Senders that are slow, many, large or wrong, and the good ones between them. */
import { createServer, get } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBodyBudget } from '../../src/ingest/body-budget.js';
import { chooseConnectionsMax } from '../../src/ingest/connections.js';
import { boundRequests } from '../../src/ingest/requests.js';
import { serve } from '../../src/ingest/serve.js';
import { MB, send } from '../helpers/ingest-bench.js';
import { type IngestProcess, startIngest } from '../helpers/ingest-process.js';
import { exchange, open, parseAnswers, readAll } from '../helpers/raw-http.js';
import { startRedis, type TestRedis } from '../helpers/redis-server.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking, calendlySignature } from '../helpers/webhooks.js';

const crowds = suite('crowds of senders');
const doors = suite('connections and memory');

const PATIENCE_MS = 60_000;

let server: TestRedis;
let ingest: IngestProcess | undefined;
const sockets = new Set<Socket>();
let good = 0;

crowds.before(async () => {
  server = await startRedis();
});
crowds.after.each(async () => {
  closeAll();
  await ingest?.stop();
  ingest = undefined;
});
crowds.after(() => server.stop());

function closeAll(): void {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
}

function connectTo(base: string): Socket {
  const socket = open(base);
  sockets.add(socket);
  return socket;
}

async function start(settings: Record<string, string> = {}, options: { openFiles?: number } = {}) {
  ingest = await startIngest({ REDIS_URL: server.url, ...settings }, options);
  return ingest;
}

const HEAD = 'POST /webhooks/calendly HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';

function headFor(signature: string, length: number, connection = 'close'): string {
  return `${HEAD}Calendly-Webhook-Signature: ${signature}\r\nContent-Length: ${length}\r\nConnection: ${connection}\r\n\r\n`;
}

function goodRequest(): string {
  good += 1;
  const body = JSON.stringify(booking({ uri: `https://api.calendly.com/scheduled_events/E/invitees/G-${good}` }));
  return headFor(calendlySignature(body), body.length) + body;
}

/** One after the other, each over a connection of its own; the statuses that were answered otherwise than with 202. */
async function sendGood(base: string, count: number): Promise<number[]> {
  const statuses: number[] = [];
  for (let i = 0; i < count; i += 1) statuses.push((await exchange(base, goodRequest()))[0]?.status ?? 0);
  return statuses.filter((status) => status !== 202);
}

/** It may be right by its look, so that the body decides. */
const plausible = () => `t=${Math.floor(Date.now() / 1000)},v1=${'0'.repeat(64)}`;

crowds('300 slow senders at 64 open files: every good webhook is taken, and the process lives', async () => {
  const { base } = await start({}, { openFiles: 64 });
  const slow = Array.from({ length: 300 }, (_, index) => {
    const socket = connectTo(base);
    // Some never finish their head, some never their body.
    socket.write(index % 2 === 0 ? HEAD : `${headFor(plausible(), 10_000)}{`);
    return socket;
  });
  const drip = setInterval(() => {
    for (const socket of slow) if (socket.writable) socket.write('x');
  }, 50);
  await waitFor('the crowd', () => slow.every((socket) => !socket.connecting), PATIENCE_MS);
  const others = await sendGood(base, 60);
  clearInterval(drip);
  assert.equal(others, []);
  assert.is((await send(`${base}/healthz`)).status, 200);
});

crowds(
  'many large bodies under way take bounded memory; the oldest is told to come again, good ones are taken',
  async () => {
    const { base, rss } = await start();
    assert.equal(await sendGood(base, 20), []);
    const before = rss();
    const part = Buffer.alloc(MB, 'x');
    const answers: Promise<string>[] = [];
    for (let i = 0; i < 60; i += 1) {
      const socket = connectTo(base);
      answers.push(readAll(socket));
      socket.write(headFor(plausible(), 10 * MB));
      for (let mb = 0; mb < 9; mb += 1) {
        if (!socket.writable) break;
        if (!socket.write(part)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
      }
    }
    assert.equal(await sendGood(base, 20), []);
    // 540 MB came; what may be held is 128 MB and what has yet to be collected.
    if (before !== undefined) assert.ok(rss()! - before < 300 * MB, `${Math.round((rss()! - before) / MB)} MB`);
    const refused = parseAnswers(await Promise.race(answers));
    assert.is(refused[0]?.status, 503);
    assert.is(refused[0]?.headers['retry-after'], '5');
  },
);

crowds('bodies that nothing could authenticate are not held at all', async () => {
  const { base, rss } = await start();
  assert.equal(await sendGood(base, 20), []);
  const before = rss();
  const part = Buffer.alloc(MB, 'x');
  for (let i = 0; i < 25; i += 1) {
    const socket = connectTo(base);
    socket.write(headFor(i % 2 === 0 ? 'none' : calendlySignature('x', { time: 1_000 }), 10 * MB));
    for (let mb = 0; mb < 9; mb += 1) {
      if (!socket.write(part)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
    }
  }
  assert.equal(await sendGood(base, 20), []);
  if (before !== undefined) assert.ok(rss()! - before < 100 * MB, `${Math.round((rss()! - before) / MB)} MB`);
});

crowds('2,000 wrong signatures a second: good webhooks are taken meanwhile, memory and log stay bounded', async () => {
  const { base, rss, output } = await start();
  assert.equal(await sendGood(base, 20), []);
  const before = rss();
  const wrong = WRONG_A_SECOND * FLOOD_S;
  let isOver = false;
  const flood = floodWith(base).finally(() => {
    isOver = true;
  });
  const others: number[] = [];
  let count = 0;
  for (; !isOver; count += 1) others.push(...(await sendGood(base, 1)));
  const answered = await flood;
  // Where the tests beside this one leave Redis no time to answer, a sender is asked to come again.
  assert.ok(
    others.every((status) => status === 503),
    others.join(' '),
  );
  assert.ok(others.length <= count / 2, `${others.length} of ${count} were not taken`);
  // Where ingest stood still for longer than a connection may be idle, what that one had yet to ask is gone with it.
  assert.ok(answered.length > wrong / 2, `${answered.length} of ${wrong} were answered`);
  const refused = answered.filter((status) => status === 401).length;
  assert.equal(
    answered.filter((status) => status !== 401 && status !== 408),
    [],
  );
  if (before !== undefined) assert.ok(rss()! - before < 200 * MB, `${Math.round((rss()! - before) / MB)} MB`);
  const { text } = await send(`${base}/metrics`);
  const counted = /^gvi_ingest_webhooks_total\{source="calendly",status="invalid_signature"\} (\d+)$/m.exec(text)?.[1];
  assert.ok(Number(counted) >= refused && Number(counted) <= wrong, `${counted} counted, ${refused} answered`);
  await waitFor('the line that counts the rest', () =>
    /"kind":"calendly invalid_signature","count":\d+/.test(output()),
  );
  const lines = output()
    .split('\n')
    .filter((line) => line.includes('invalid_signature'))
    .map((line) => JSON.parse(line) as { time: number });
  // Ten of a second and the one that counts the rest; a second begins with a line, so by the log's own times there were so many.
  const seconds = Math.floor((lines.at(-1)!.time - lines[0]!.time) / 1_000) + 1;
  assert.ok(lines.length <= 11 * seconds, `${lines.length} lines in ${seconds} s`);
});

const WRONG_A_SECOND = 2_000;
const FLOOD_S = 4;
const TICK_MS = 100;

/** Over so many connections that each has one on its way, with a body and a signature of another key; what was answered. */
async function floodWith(base: string): Promise<number[]> {
  const crowd = Array.from({ length: (WRONG_A_SECOND * TICK_MS) / 1_000 }, () => connectTo(base));
  const received = Promise.all(crowd.map(readAll));
  const body = JSON.stringify(booking());
  const signature = calendlySignature(body, { key: 'a key of a stranger' });
  const request = headFor(signature, body.length, 'keep-alive') + body;
  await new Promise<void>((resolve) => {
    let ticks = (FLOOD_S * 1_000) / TICK_MS;
    const timer = setInterval(() => {
      ticks -= 1;
      const last = ticks === 0 ? headFor(signature, body.length) + body : request;
      for (const socket of crowd) socket.write(last);
      if (ticks > 0) return;
      clearInterval(timer);
      resolve();
    }, TICK_MS);
  });
  return (await received).flatMap(parseAnswers).map(({ status }) => status);
}

function once(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve) => socket.once(event, () => resolve()));
}

for (const [more, status] of [
  [-1, 202],
  [0, 202],
  [1, 413],
] as const) {
  crowds(`BODY_LIMIT_MB bounds the process: ${more} bytes beyond it is ${status}`, async () => {
    const { base } = await start({ BODY_LIMIT_MB: '0.5' });
    const uri = `https://api.calendly.com/scheduled_events/E/invitees/SIZE${more}`;
    const body = JSON.stringify(booking({ uri })).padEnd(MB / 2 + more);
    const [answer] = await exchange(base, headFor(calendlySignature(body), body.length) + body);
    assert.is(answer?.status, status);
  });
}

doors.after.each(closeAll);

/** A server whose `/wait` is answered by hand. */
async function openDoors(connectionsMax: number) {
  const waiting: (() => void)[] = [];
  const { port, stop } = await serve(
    (request, response) => {
      if (request.url === '/wait') waiting.push(() => response.end('done'));
      else request.resume().on('end', () => response.end('ok'));
    },
    { port: 0, connectionsMax },
  );
  return { base: `http://127.0.0.1:${port}`, waiting, stop: () => stop(0) };
}

doors('one connection too many costs the one that has waited longest for its sender', async () => {
  const { base, stop } = await openDoors(3);
  const [first, second, third] = Array.from({ length: 3 }, () => connectTo(base));
  for (const socket of [first!, second!, third!]) {
    await once(socket, 'connect');
    socket.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n');
  }
  // The first has shown by an answer that its sender is quick.
  const answered = once(first!, 'data');
  first!.write('12345');
  await answered;
  const cut = once(second!, 'close');
  const fourth = connectTo(base);
  await cut;
  assert.equal(
    [first, third, fourth].map((socket) => socket!.destroyed),
    [false, false, false],
  );
  await stop();
});

doors('what came whole is answered, however many come after it', async () => {
  const { base, waiting, stop } = await openDoors(2);
  const answer = new Promise<string>((resolve, reject) => {
    get(`${base}/wait`, { agent: false }, (response) => response.setEncoding('utf8').on('data', resolve)).on(
      'error',
      reject,
    );
  });
  await waitFor('the request', () => waiting.length === 1);
  for (let i = 0; i < 20; i += 1) connectTo(base);
  const last = connectTo(base);
  await once(last, 'connect');
  waiting[0]!();
  assert.is(await answer, 'done');
  await stop();
});

doors('where all are being answered, the newcomer has to come again', async () => {
  const { base, waiting, stop } = await openDoors(1);
  const received = exchange(base, 'GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  await waitFor('the request', () => waiting.length === 1);
  assert.equal(await exchange(base, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'), []);
  waiting[0]!();
  assert.is((await received)[0]?.status, 200);
  await stop();
});

doors(
  'a connection has sixteen requests open; with one more it is cut off, and nothing of the rest is begun',
  async () => {
    const { base, waiting, stop } = await openDoors(2);
    const request = 'GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const polite = connectTo(base);
    const received = readAll(polite);
    for (const _ of [1, 2]) {
      polite.write(request.repeat(16));
      await waitFor('its requests', () => waiting.length === 16);
      for (const answer of waiting.splice(0)) answer();
    }
    polite.end();
    assert.is(parseAnswers(await received).length, 32);

    assert.equal(await exchange(base, request.repeat(1_000)), []);
    assert.is(waiting.length, 16);
    await stop();
  },
);

doors('what a connection has sent beyond that is not even parsed', async () => {
  const server = createServer();
  boundRequests(server);
  let parsed = 0;
  server.on('request', () => {
    parsed += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await exchange(base, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1_000));
  assert.is(parsed, 17);
  server.close();
});

doors('the limit follows the open files', () => {
  assert.is(chooseConnectionsMax(64), 24);
  assert.is(chooseConnectionsMax(20), 8);
  assert.is(chooseConnectionsMax(1_024), 984);
  assert.is(chooseConnectionsMax(1_000_000), 1_000);
  assert.ok(chooseConnectionsMax() >= 8);
});

doors('a head that is too large is 431, in the shape of every refusal', async () => {
  const { base, stop } = await openDoors(10);
  const [answer] = await exchange(base, `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`);
  assert.is(answer?.status, 431);
  assert.is(JSON.parse(answer!.body).error.code, 'headers_too_large');
  await stop();
});

doors('the budget of bodies ends the oldest, gives back what is closed, and takes nothing for the closed', () => {
  const budget = makeBodyBudget(100);
  const ended: string[] = [];
  const share = (name: string) => budget.open(() => ended.push(name));
  const [first, second, third] = [share('first'), share('second'), share('third')];
  first.take(40);
  second.take(60);
  assert.equal(ended, []);
  third.take(1);
  assert.equal(ended, ['first']);
  first.take(1_000);
  second.close();
  third.take(99);
  assert.equal(ended, ['first']);
  third.take(1);
  assert.equal(ended, ['first', 'third']);
  share('fourth').take(100);
  assert.equal(ended, ['first', 'third']);
});

crowds.run();
doors.run();
