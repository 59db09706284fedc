/** The spool's files: when a webhook counts as on disk, whose they are, and what a torn or damaged one costs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { takeLock } from '../../src/ingest/spool/lock.js';
import { ConfigError } from '../../src/lib/config.js';
import { booked, unusable } from '../helpers/append-bench.js';
import { postCalendly } from '../helpers/ingest-bench.js';
import { startIngest } from '../helpers/ingest-process.js';
import { startLink } from '../helpers/redis-link.js';
import { type SpoolBench, startSpoolBench } from '../helpers/spool-bench.js';
import { waitFor } from '../helpers/wait-for.js';
import { booking } from '../helpers/webhooks.js';

const test = suite('the files of the spool');

let bench: SpoolBench;

test.before(async () => {
  bench = await startSpoolBench();
});
test.before.each(async () => {
  await bench.fill();
});
test.after.each(() => bench.reset());
test.after(() => bench.stop());

const keyOf = (number: number) => `calendly:invitee.created:N-${number}`;
const webhook = (number: number) => booked('first', keyOf(number));
/** Of a file: before its records. */
const HEADER_BYTES = 24;
const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** A disk whose writes and fsyncs wait, fail or pass, as the test says, and are counted. */
function makeDisk() {
  const disk = {
    /** Of files. */
    syncs: 0,
    sync: () => Promise.resolve(),
    /** Each fsync of a directory, by its path. */
    directories: [] as string[],
    syncDirectory: (_path: string) => Promise.resolve(),
    /** Whether a write finds no room. */
    isFull: (_path: string, _bytes: number) => false,
    /** How often it was written down how far a file is done. */
    positions: 0,
    /** Whether what stands there cannot be read any more. */
    isWorn: (_path: string, _at: number) => false,
    openFiles: 0,
    async openFile(...args: Parameters<typeof open>): Promise<FileHandle> {
      const file = await open(...args);
      const path = String(args[0]);
      const [read, write, sync, datasync, close] = [file.read, file.write, file.sync, file.datasync, file.close].map(
        (act) => (act as (...args: unknown[]) => Promise<unknown>).bind(file),
      );
      disk.openFiles += 1;
      return Object.assign(file, {
        async write(bytes: Buffer, from: number, length: number, at: number) {
          if (at > 0 && at < HEADER_BYTES) disk.positions += 1;
          if (disk.isFull(path, length)) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
          return write!(bytes, from, length, at);
        },
        async read(bytes: Buffer, from: number, length: number, at: number) {
          if (disk.isWorn(path, at)) throw Object.assign(new Error('input/output error'), { code: 'EIO' });
          return read!(bytes, from, length, at);
        },
        async sync() {
          if ((await file.stat()).isDirectory()) {
            disk.directories.push(path);
            await disk.syncDirectory(path);
          }
          return sync!();
        },
        async datasync() {
          disk.syncs += 1;
          await disk.sync();
          return datasync!();
        },
        async close() {
          disk.openFiles -= 1;
          return close!();
        },
      });
    },
  };
  return disk;
}

test('a webhook is answered only after its fsync, and those that arrive meanwhile share the next one', async () => {
  const disk = makeDisk();
  const gates: (() => void)[] = [];
  disk.sync = () => new Promise((resolve) => gates.push(resolve));
  const spool = await bench.open({ openFile: disk.openFile });
  const answered: number[] = [];
  const take = (number: number) => spool.takeIn(webhook(number)).then(() => void answered.push(number));

  const first = take(1);
  await waitFor('the first fsync', () => gates.length === 1);
  const others = [2, 3, 4].map(take);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(answered, []);

  gates.shift()!();
  await first;
  await waitFor('the second fsync', () => gates.length === 1);
  assert.equal([answered, disk.syncs], [[1], 2]);
  gates.shift()!();
  await Promise.all(others);
  assert.equal([answered, disk.syncs], [[1, 2, 3, 4], 2]);
  disk.sync = () => Promise.resolve();
});

test('for how long a disk counts as failing does not depend on the clock of the host', async () => {
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  disk.sync = () => Promise.reject(new Error('EIO'));
  await assertRefused(spool.takeIn(webhook(1)));
  disk.sync = () => Promise.resolve();
  const hostClock = Date.now;
  Date.now = () => hostClock() + 3_600_000;
  try {
    assert.is(spool.health(), 'failing');
  } finally {
    Date.now = hostClock;
  }
});

test('a disk that fails is a refusal, nothing of it counts, and the next webhook is taken when it works again', async () => {
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  disk.sync = () => Promise.reject(new Error('EIO'));
  await assertRefused(spool.takeIn(webhook(1)));
  assert.is(spool.health(), 'failing');
  assert.is(spool.figures().records, 0);
  disk.sync = () => Promise.resolve();
  assert.is((await spool.takeIn(webhook(2))).status, 'spooled');
  assert.is(spool.health(), 'accepting');
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), [keyOf(2)]);
});

test('what a full disk refuses leaves neither files nor descriptors behind', async () => {
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  await spool.takeIn(webhook(1));
  const openFiles = disk.openFiles;
  // A file's header still fits.
  disk.isFull = (_path, bytes) => bytes > 100;
  for (const number of numbers(50)) await assertRefused(spool.takeIn(webhook(100 + number)));
  await waitFor('the files to go', () => bench.segments().length === 1);
  await waitFor('their descriptors to go', () => disk.openFiles === openFiles);
  assert.is(spool.figures().records, 1);

  disk.isFull = () => false;
  await spool.takeIn(webhook(2));
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), [1, 2].map(keyOf));
});

test('a webhook in a file whose name did not come to disk is refused, and does not count', async () => {
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  disk.syncDirectory = () => Promise.reject(new Error('EIO'));
  await assertRefused(spool.takeIn(webhook(1)));
  assert.is(spool.figures().records, 0);
  disk.syncDirectory = () => Promise.resolve();
  await spool.takeIn(webhook(2));
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), [keyOf(2)]);
});

test('each directory that is made is brought to disk in the one above', async () => {
  const disk = makeDisk();
  const dir = join(bench.dir, 'var', 'spool');
  const spool = await bench.open({ openFile: disk.openFile, dir });
  const above = [dirname(bench.dir), bench.dir, join(bench.dir, 'var'), dir];
  assert.equal([...new Set(disk.directories)].sort(), above.sort());
  await spool.takeIn(webhook(1));
  await bench.empty();
  disk.directories = [];
  await waitFor('the drain', () => spool.figures().records === 0);
  // A power cut would bring the file back otherwise.
  await waitFor('the removal to come to disk', () => disk.directories.includes(dir));
});

test('a disk that hangs is a refusal too', async () => {
  const disk = makeDisk();
  const gates: (() => void)[] = [];
  disk.sync = () => new Promise((resolve) => gates.push(resolve));
  const spool = await bench.open({ openFile: disk.openFile, deadlineMs: 50 });
  await assertRefused(spool.takeIn(webhook(1)));
  await assertRefused(spool.takeIn(webhook(2)));
  disk.sync = () => Promise.resolve();
  for (const open of gates) open();
  const isTaken = (number: number) => () =>
    spool.takeIn(webhook(number)).then(
      () => true,
      () => false,
    );
  await waitFor('the disk', isTaken(3));
  // The first may have come to disk after its answer, and did here: sent again, it is no second entry.
  await waitFor('the first to be taken when sent again', isTaken(1));
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), [1, 3].map(keyOf));
});

test('a full spool refuses, and takes again once it was drained', async () => {
  const spool = await bench.open({ bytesMax: 4_000 });
  let taken = 0;
  const error = await (async () => {
    for (;;) {
      await spool.takeIn(webhook(taken + 1));
      taken += 1;
    }
  })().catch((error: Error) => error);
  assert.is(error.name, 'StoreUnavailableError');
  assert.ok(taken > 3 && spool.figures().bytes <= 4_000);
  assert.is(spool.health(), 'full');

  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), numbers(taken).map(keyOf));
  await waitFor('the files to go', () => bench.segments().length === 0);
  assert.is(spool.health(), 'accepting');
  await bench.fill();
  assert.is((await spool.takeIn(webhook(1_000))).status, 'spooled');
});

test('it is spread over files, which go one by one as they are drained', async () => {
  const spool = await bench.open({ segmentBytesMax: 2_000 });
  for (const number of numbers(20)) await spool.takeIn(webhook(number));
  assert.ok(bench.segments().length > 2);
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  await waitFor('the files to go', () => bench.segments().length === 0);
  assert.equal(await bench.keysOf('calendly'), numbers(20).map(keyOf));
});

test('of very many files those that are written to and drained are open, no more', async () => {
  const disk = makeDisk();
  const options = { openFile: disk.openFile, segmentBytesMax: 1 };
  const first = await bench.open(options);
  for (const number of numbers(10)) await first.takeIn(webhook(number));
  assert.is(bench.segments().length, 10);
  await waitFor('the others to be closed', () => disk.openFiles <= 2);
  await first.stop();
  assert.is(disk.openFiles, 0);

  const second = await bench.open(options);
  await waitFor('the others to be closed', () => disk.openFiles <= 1);
  await second.takeIn(webhook(11));
  rmSync(join(bench.dir, bench.segments()[3]!));
  await bench.empty();
  await waitFor('the drain', () => bench.segments().length === 0);
  assert.equal(await bench.keysOf('calendly'), [1, 2, 3, 5, 6, 7, 8, 9, 10, 11].map(keyOf));
  assert.ok(bench.logLines().some(({ level, msg }) => level === 50 && msg === 'a spool file was cut short'));
  await second.stop();
  assert.is(disk.openFiles, 0);
});

test('how far a file is done is written down, also after the spool was drained before', async () => {
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  for (const first of [1, 11]) {
    await bench.fill();
    for (const number of numbers(5)) await spool.takeIn(webhook(first + number));
    const before = disk.positions;
    await bench.empty();
    await waitFor('the drain', () => spool.figures().records === 0);
    assert.ok(disk.positions > before, `by the drain of ${first} and so on`);
    await waitFor('the file to go', () => bench.segments().length === 0);
  }
});

test('nobody but the owner can read what lies there', async () => {
  mkdirSync(bench.dir);
  chmodSync(bench.dir, 0o755);
  const spool = await bench.open();
  await spool.takeIn(webhook(1));
  const mode = (...path: string[]) => (statSync(join(bench.dir, ...path)).mode & 0o777).toString(8);
  assert.is(mode(), '700');
  assert.is(mode('unreadable'), '700');
  assert.is(mode(bench.segments()[0]!), '600');
});

test('a directory has one owner, and one that died or went leaves it free', async () => {
  const spool = await bench.open();
  const error = await bench.open().catch((error: Error) => error);
  assert.instance(error, ConfigError);
  assert.match((error as Error).message, /SPOOL_DIR: should be a directory of this process alone; process \d+ /);
  const lock = join(bench.dir, 'lock');
  const left = readlinkSync(lock);
  await spool.stop();
  // The same pid, another process: in a container the first process always has the same.
  symlinkSync(left.replace(/\.\d+@/, '.1@'), lock);
  await (await bench.open()).stop();
  writeFileSync(lock, 'as the first release wrote it');
  await (await bench.open()).stop();
  // Of another container, which was heard of a moment ago.
  symlinkSync(left.replace(/@.*/, '@elsewhere'), lock);
  assert.instance(await bench.open().catch((error: Error) => error), ConfigError);
});

test('an owner that has ended leaves it free, also where nobody has waited for it', async () => {
  await (await bench.open()).stop();
  // What the shell started ends under a parent that never asks for it.
  const script = 'exec 3<&0; cat <&3 & echo $!; exec tail -f /dev/null';
  const parent = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'] });
  try {
    const pid = String(await once(parent.stdout, 'data')).trim();
    const statOf = (pid: unknown) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
    await waitFor('the parent', () => statOf(parent.pid)[1] === '(tail)');
    parent.stdin.end();
    await waitFor('its end', () => statOf(pid)[2] === 'Z');
    symlinkSync(`${pid}.${statOf(pid)[21]}@${hostname()}`, join(bench.dir, 'lock'));
    await (await bench.open()).stop();
  } finally {
    parent.kill('SIGKILL');
  }
});

test('whoever lost the directory to another answers for nothing more, and leaves the other its lock', async () => {
  const lock = () => join(bench.dir, 'lock');
  const disk = makeDisk();
  const spool = await bench.open({ openFile: disk.openFile });
  await spool.takeIn(webhook(1));
  const other = readlinkSync(lock()).replace(/@.*/, '@elsewhere');
  // As a freeze between the two would be, so long that a process elsewhere took this one for dead.
  disk.sync = async () => {
    rmSync(lock());
    symlinkSync(other, lock());
  };
  await assertRefused(spool.takeIn(webhook(2)));
  disk.sync = () => Promise.resolve();
  const { size } = statSync(join(bench.dir, bench.segments()[0]!));
  await assertRefused(spool.takeIn(webhook(3)));
  assert.is(statSync(join(bench.dir, bench.segments()[0]!)).size, size);
  assert.is(bench.segments().length, 1);
  assert.is(spool.health(), 'failing');
  const told = bench.logLines().filter(({ msg }) => /has taken SPOOL_DIR over/.test(String(msg)));
  assert.equal([told.length, told[0]?.level], [1, 50]);
  await spool.stop();
  assert.is(readlinkSync(lock()), other);

  rmSync(lock());
  await drainAgain();
  // What was refused with its bytes on disk may be drained all the same: its sender finds it known.
  assert.equal(await bench.keysOf('calendly'), [1, 2].map(keyOf));
});

test("that the directory is another process' now is told once, also where two ask at the same time", async () => {
  mkdirSync(bench.dir);
  const lock = await takeLock(bench.dir, bench.log);
  rmSync(join(bench.dir, 'lock'));
  symlinkSync('1.1@elsewhere', join(bench.dir, 'lock'));
  const asked = await Promise.allSettled([lock.confirm(), lock.confirm()]);
  assert.equal(
    asked.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.is(bench.logLines().filter(({ msg }) => /has taken SPOOL_DIR over/.test(String(msg))).length, 1);
  await lock.release();
});

test('ingest starts on a full disk, and drains what lies there', async () => {
  const spool = await bench.open();
  for (const number of numbers(3)) await spool.takeIn(webhook(number));
  await spool.stop();
  await bench.empty();
  const settings = { REDIS_URL: bench.server.url, SPOOL_DIR: bench.dir };
  const ingest = await startIngest(settings, { isDiskFull: true });
  try {
    await waitFor('the drain', () => bench.segments().length === 0);
  } finally {
    await ingest.stop();
  }
  assert.equal(await bench.keysOf('calendly'), numbers(3).map(keyOf));
});

test('of a spooled duplicate with other content the log says so', async () => {
  const spool = await bench.open();
  for (const content of ['first', 'second']) await spool.takeIn(booked(content, keyOf(1)));
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  const told = bench.logLines().filter(({ msg }) => msg === 'spooled webhook');
  assert.equal(
    told.map(({ status, changed }) => [status, changed]),
    [
      ['accepted', undefined],
      ['duplicate', true],
    ],
  );
});

test('a lock that was left and cannot be taken away is named, and not tried for ever', async () => {
  // Long enough for a name beside it to be too long.
  let dir = bench.dir;
  while (dir.length < 4_060) dir = join(dir, 'd'.repeat(Math.min(200, 4_059 - dir.length)));
  mkdirSync(dir, { recursive: true });
  symlinkSync('1.1@gone', join(dir, 'lock'));
  lutimesSync(join(dir, 'lock'), 1, 1);
  const error = await bench.open({ dir }).catch((error: Error) => error);
  assert.instance(error, ConfigError);
  assert.match((error as Error).message, 'SPOOL_DIR: should be a directory to write to (ENAMETOOLONG)');
});

test('what takes Redis longer than a request may wait is drained all the same', async () => {
  await bench.empty();
  const link = await startLink(Number(new URL(bench.server.url).port));
  const settings = { REDIS_URL: `redis://127.0.0.1:${link.port}`, SPOOL_DIR: bench.dir };
  const ingest = await startIngest(settings);
  try {
    link.delay(1_000);
    const book = () => postCalendly(ingest.base, JSON.stringify(booking()));
    await waitFor('a webhook to be spooled', async () => (await book()).body.status === 'spooled');
    await waitFor('the drain', () => bench.segments().length === 0);
  } finally {
    await ingest.stop();
    await link.stop();
  }
  assert.is((await bench.keysOf('calendly')).length, 1);
});

test('a directory that cannot be made is named', async () => {
  const error = await bench.open({ dir: '/dev/null/spool' }).catch((error: Error) => error);
  assert.instance(error, ConfigError);
  assert.match((error as Error).message, 'SPOOL_DIR: should be a directory to write to (ENOTDIR)');
});

const RECORD_MARK = Buffer.from('\x93GVREC1\n', 'latin1');
const RECORD_HEADER_BYTES = 28;

function startOfLast(bytes: Buffer): number {
  return bytes.lastIndexOf(RECORD_MARK);
}

function flipped(bytes: Buffer, at: number): Buffer {
  bytes[at]! ^= 1;
  return bytes;
}

/** Three webhooks in one file; answers its path. */
async function spoolThree(): Promise<string> {
  const spool = await bench.open();
  for (const number of [1, 2, 3]) await spool.takeIn(webhook(number));
  await spool.stop();
  return join(bench.dir, bench.segments()[0]!);
}

async function drainAgain(): Promise<void> {
  await bench.empty();
  const spool = await bench.open();
  await waitFor('the drain', () => spool.figures().records === 0);
  await waitFor('the files to go', () => bench.segments().length === 0);
}

test('a record that ends within its header is cut off with a warning that counts it; what stands before it is drained', async () => {
  const path = await spoolThree();
  truncateSync(path, startOfLast(readFileSync(path)) + RECORD_HEADER_BYTES - 1);
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 2].map(keyOf));
  const warning = bench.logLines().find(({ msg }) => msg === 'the torn end of a spool file was cut off');
  assert.is(warning?.cutBytes, RECORD_HEADER_BYTES - 1);
  assert.equal(bench.unreadable(), []);
});

for (const [what, damage] of [
  ['is not whole', (bytes: Buffer) => bytes.subarray(0, -7)],
  ['says that it is longer', (bytes: Buffer) => flipped(bytes, startOfLast(bytes) + RECORD_MARK.length)],
] as const) {
  test(`the last record is set aside and told, as it may have been answered, where it ${what}`, async () => {
    const path = await spoolThree();
    const bytes = damage(readFileSync(path));
    writeFileSync(path, bytes);
    await drainAgain();
    assert.equal(await bench.keysOf('calendly'), [1, 2].map(keyOf));
    assert.equal(bench.unreadable().length, 1);
    const kept = readFileSync(join(bench.dir, 'unreadable', bench.unreadable()[0]!));
    assert.ok(kept.equals(bytes.subarray(startOfLast(bytes))));
    assert.ok(bench.logLines().some(({ level, msg }) => level === 50 && /damaged part/.test(String(msg))));
  });
}

test('damage amid records is set aside and told; the others are drained', async () => {
  const path = await spoolThree();
  const bytes = readFileSync(path);
  bytes[bytes.indexOf(keyOf(2))]! ^= 1;
  writeFileSync(path, bytes);
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 3].map(keyOf));
  assert.match(bench.unreadable().join(), /^\d{16}-\d+\.damaged$/);
  assert.ok(bench.logLines().some(({ level, msg }) => level === 50 && /damaged part/.test(String(msg))));
});

for (const [what, count] of [
  ['the last of several', 3],
  ['the only one', 1],
] as const) {
  test(`a damaged record is set aside and told, not cut off, when it is ${what}`, async () => {
    const spool = await bench.open();
    for (const number of numbers(count)) await spool.takeIn(webhook(number));
    await spool.stop();
    const path = join(bench.dir, bench.segments()[0]!);
    const bytes = readFileSync(path);
    bytes[bytes.lastIndexOf(keyOf(count))]! ^= 1;
    writeFileSync(path, bytes);
    await drainAgain();
    assert.equal(await bench.keysOf('calendly'), numbers(count - 1).map(keyOf));
    const kept = readFileSync(join(bench.dir, 'unreadable', bench.unreadable()[0]!));
    assert.ok(bytes.includes(kept));
  });
}

test('a file that the disk does not give any more is kept whole, and what stands behind it is drained', async () => {
  const disk = makeDisk();
  const first = await bench.open({ openFile: disk.openFile, segmentBytesMax: 1 });
  for (const number of numbers(3)) await first.takeIn(webhook(number));
  const [, worn] = bench.segments();
  disk.isWorn = (path) => path.endsWith(worn!);
  await bench.empty();
  await waitFor('the drain', () => first.figures().records === 0);
  assert.equal(await bench.keysOf('calendly'), [1, 3].map(keyOf));
  await waitFor('the file to be set aside', () => first.figures().unreadable === 1);
  assert.equal(bench.unreadable(), [worn]);
  assert.ok(bench.logLines().some(({ level, file }) => level === 50 && file === worn));
  assert.is((await first.takeIn(webhook(4))).status, 'accepted');
  await first.stop();

  renameSync(join(bench.dir, 'unreadable', worn!), join(bench.dir, worn!));
  const second = await bench.open({ openFile: disk.openFile });
  assert.is(second.figures().unreadable, 1);
  await second.stop();
  renameSync(join(bench.dir, 'unreadable', worn!), join(bench.dir, worn!));
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 3, 4, 2].map(keyOf));
});

test('a spool in which a large webhook has no room is full, until it takes another one', async () => {
  await bench.fill();
  const spool = await bench.open({ bytesMax: 4_000 });
  await assertRefusedAsFull(spool.takeIn({ ...webhook(1), data: Buffer.alloc(5_000) }));
  assert.is(spool.health(), 'full');
  assert.is((await spool.takeIn(webhook(2))).status, 'spooled');
  assert.is(spool.health(), 'accepting');
});

test('what a person takes from the shelf makes room', async () => {
  const kept = join(bench.dir, 'unreadable', 'kept.damaged');
  mkdirSync(dirname(kept), { recursive: true });
  writeFileSync(kept, 'x'.repeat(3_900));
  const spool = await bench.open({ bytesMax: 4_000 });
  assert.equal([spool.figures().unreadable, spool.figures().bytes], [1, 3_900]);
  await assertRefusedAsFull(spool.takeIn(webhook(1)));
  rmSync(kept);
  assert.is(spool.health(), 'full');
  await waitFor('the room', () => spool.figures().unreadable === 0);
  await waitFor('its word', () => spool.health() === 'accepting');
  assert.is((await spool.takeIn(webhook(1))).status, 'spooled');
});

test('of a file that is cut short under its process the rest is told as gone, and the drain goes on', async () => {
  const spool = await bench.open();
  await spool.takeIn(webhook(1));
  const path = join(bench.dir, bench.segments()[0]!);
  const { size } = statSync(path);
  await spool.takeIn(webhook(2));
  truncateSync(path, size);
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.ok(bench.logLines().some(({ level, msg }) => level === 50 && msg === 'a spool file was cut short'));
  assert.is((await spool.takeIn(webhook(3))).status, 'accepted');
});

test('a file that a power cut left longer than what was written is drained as far as that goes', async () => {
  const path = await spoolThree();
  truncateSync(path, statSync(path).size + 4_096);
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 2, 3].map(keyOf));
  assert.equal(bench.unreadable(), []);
});

test('an empty or half-made file is no obstacle, and one of another version is not touched', async () => {
  await spoolThree();
  const inDir = (name: string) => join(bench.dir, name);
  writeFileSync(inDir('0000000000000001.spool'), '');
  writeFileSync(inDir('0000000000000002.spool'), 'GVIS');
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 2, 3].map(keyOf));
  await bench.reset();

  await (await bench.open()).stop();
  writeFileSync(inDir('0000000000000003.spool'), 'GVISPL2\nwhatever it holds, it is not ours to judge');
  const error = await bench.open().catch((error: Error) => error);
  assert.match((error as Error).message, 'was written by another version');
  assert.equal(bench.segments(), ['0000000000000003.spool']);
});

test('what Redis refuses for its own sake is set aside after some tries, and can be moved back', async () => {
  await bench.redis.config('SET', 'maxmemory', '0');
  await bench.redis.set('events:calendly', 'no stream');
  await bench.fill();
  const spool = await bench.open();
  await spool.takeIn(webhook(1));
  await spool.takeIn(unusable('no JSON'));
  await bench.empty();
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.is((await bench.keysOf('rejected')).length, 1);
  const [file] = bench.unreadable();
  assert.match(file!, /^\d{16}-refused\.spool$/);
  assert.is(spool.figures().unreadable, 1);
  assert.is(statSync(join(bench.dir, 'unreadable', file!)).mode & 0o777, 0o600);
  const told = bench.logLines().find(({ msg }) => msg === 'a spooled webhook was refused for good and set aside');
  assert.match(String(told?.reason), 'WRONGTYPE');
  // A webhook that arrives while there is nothing on disk is refused at once: its sender keeps it.
  const direct = await spool.takeIn(webhook(2)).catch((error: Error) => error.name);
  assert.is(direct, 'StoreUnavailableError');
  await spool.stop();

  await bench.redis.del('events:calendly');
  writeFileSync(join(bench.dir, file!), readFileSync(join(bench.dir, 'unreadable', file!)));
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [keyOf(1)]);
});

test('without room to copy what Redis refuses, its file is kept whole, and what stands behind it is drained', async () => {
  const disk = makeDisk();
  await bench.redis.config('SET', 'maxmemory', '0');
  await bench.redis.set('events:calendly', 'no stream');
  await bench.fill();
  const first = await bench.open({ openFile: disk.openFile });
  await first.takeIn(webhook(1));
  await first.takeIn(unusable('no JSON'));
  await first.takeIn(webhook(2));
  await first.takeIn(unusable('no JSON either'));
  await first.stop();
  const [file] = bench.segments();
  await bench.empty();

  disk.isFull = (path) => path.includes('unreadable');
  const spool = await bench.open({ openFile: disk.openFile });
  await waitFor('the drain', () => spool.figures().records === 0);
  assert.is((await bench.keysOf('rejected')).length, 2);
  await waitFor('the file to be set aside', () => spool.figures().unreadable === 1);
  assert.equal([bench.unreadable(), bench.segments()], [[file], []]);
  assert.is(spool.figures().bytes, statSync(join(bench.dir, 'unreadable', file!)).size);
  const told = (text: string) => bench.logLines().filter(({ msg }) => String(msg).includes(text));
  assert.equal(
    told('is kept whole').map(({ level, file, code }) => ({ level, file, code })),
    [{ level: 50, file, code: 'ENOSPC' }],
  );
  assert.equal(
    told('refused for good and set aside').map((line) => line.file),
    [file, file],
  );
  await spool.stop();

  await bench.redis.del('events:calendly');
  renameSync(join(bench.dir, 'unreadable', file!), join(bench.dir, file!));
  await drainAgain();
  assert.equal(await bench.keysOf('calendly'), [1, 2].map(keyOf));
  assert.is((await bench.keysOf('rejected')).length, 2);
});

test('without room to copy what is damaged, its file is kept whole too', async () => {
  const path = await spoolThree();
  const bytes = readFileSync(path);
  bytes[bytes.indexOf(keyOf(2))]! ^= 1;
  writeFileSync(path, bytes);
  await bench.empty();
  const disk = makeDisk();
  disk.isFull = (path) => path.includes('unreadable');
  const spool = await bench.open({ openFile: disk.openFile });
  await waitFor('the drain', () => spool.figures().records === 0);
  await waitFor('the file to be set aside', () => spool.figures().unreadable === 1);
  assert.equal(await bench.keysOf('calendly'), [1, 3].map(keyOf));
  const kept = readFileSync(join(bench.dir, 'unreadable', basename(path)));
  assert.ok(kept.includes('N-3') && kept.length === bytes.length);
});

async function assertRefusedAsFull(answer: Promise<unknown>): Promise<void> {
  const error = await answer.catch((error: Error) => error);
  assert.match(((error as Error).cause as Error | undefined)?.message ?? '', 'the spool is full');
}

async function assertRefused(answer: Promise<unknown>): Promise<void> {
  const error = await answer.then(
    () => undefined,
    (error: Error) => error,
  );
  assert.is(error?.name, 'StoreUnavailableError');
  assert.match((error?.cause as Error | undefined)?.message ?? '', "the spool's disk");
}

test.run();
