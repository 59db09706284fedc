/**
 * A power cut without a machine to switch off: what Redis had not fsynced is gone from its append-only file. A SIGKILL
 * alone shows nothing of it, as the kernel still writes what a dead process has handed over.
 */
import { existsSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endRedis } from '../../helpers/redis-server.js';
import { waitFor } from '../../helpers/wait-for.js';
import type { InjectedFault } from './fault-log.js';
import type { World } from './world.js';

export type PowerLine = {
  /**
   * Resolves once Redis runs again, on what had reached the disk for certain and at most a torn command more; `bytes` is how
   * much it had written and lost.
   */
  cut: (options?: { downMs?: number }) => Promise<{ fault: InjectedFault; bytes: number }>;
  release: () => void;
};

/** With `everysec` all is on disk that was written a second before. */
const EVERYSEC_MS = 1_000;
const SAMPLE_MS = 20;
const TORN_BYTES_MAX = 60;

/**
 * - `always`: on disk is what anybody was answered, so the file's size is noted with each reply that goes through a proxy.
 *   At the cut no further reply goes through, Redis writes on until there is something that nobody was told of, and the file
 *   loses that.
 * - `everysec`: the file loses its last second.
 */
export function tapPower(world: World, appendfsync: 'always' | 'everysec'): PowerLine {
  const { redis, links, faultLog, random } = world;
  let isDark = false;
  let answeredBytes = 0;
  let samples: { at: number; bytes: number }[] = [];
  const measure = () => statSync(fileOf(redis.dir)).size;

  const sampling = setInterval(() => {
    if (isDark || !existsSync(redis.dir)) return;
    const safe = samples.findLastIndex(isSafe);
    samples = [...samples.slice(Math.max(0, safe)), { at: Date.now(), bytes: measure() }];
  }, SAMPLE_MS).unref();
  const forget = links.onCommand({ link: 'redis', when: 'after' }, () => {
    if (isDark) return 'cut';
    if (appendfsync === 'always') answeredBytes = measure();
    return undefined;
  });

  function safeBytes(): number {
    if (appendfsync === 'always') return answeredBytes;
    return (samples.findLast(isSafe) ?? samples[0])?.bytes ?? 0;
  }

  async function cut({ downMs = 0 } = {}): Promise<{ fault: InjectedFault; bytes: number }> {
    const fault = faultLog.add('power cut', `Redis with ${appendfsync}`);
    const kept = safeBytes() + random.int(0, TORN_BYTES_MAX);
    isDark = true;
    // Whoever was not answered asks again.
    await waitFor('something to be written that is not safe', () => measure() > kept);
    await endRedis(redis);
    const bytes = measure() - kept;
    truncateSync(fileOf(redis.dir), kept);
    removeTornTransaction(fileOf(redis.dir));
    fault.note = `${bytes} of ${kept + bytes} bytes were not on disk`;
    await sleep(downMs);
    isDark = false;
    samples = [];
    await redis.restart();
    fault.healedAt = Date.now();
    return { fault, bytes };
  }

  return {
    cut,
    release() {
      clearInterval(sampling);
      forget();
    },
  };
}

function isSafe({ at }: { at: number }): boolean {
  return at <= Date.now() - EVERYSEC_MS;
}

/**
 * As an operator does with `redis-check-aof --fix`. Redis itself takes the torn command away and leaves in the file what is
 * whole of its transaction, which comes to life at the next start but one (docs/redis.md).
 */
function removeTornTransaction(file: string): void {
  const content = readFileSync(file);
  const begin = content.lastIndexOf('*1\r\n$5\r\nMULTI\r\n');
  if (begin > content.lastIndexOf('*1\r\n$4\r\nEXEC\r\n')) truncateSync(file, begin);
}

/** The file that is written to at present, as the manifest names it. */
function fileOf(dir: string): string {
  const folder = join(dir, 'appendonlydir');
  const manifest = readFileSync(join(folder, 'appendonly.aof.manifest'), 'utf8');
  const [, name] = [...manifest.matchAll(/^file (\S+) seq \d+ type i/gm)].at(-1)!;
  return join(folder, name!);
}
