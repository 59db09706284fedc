/** What can happen to a Redis and to the clients of it, each noted in the world's log of faults. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GROUPS, streamsOf } from '../../../src/lib/events.js';
import { endRedis } from '../../helpers/redis-server.js';
import { removeDir } from '../../helpers/remove-dir.js';
import { waitFor } from '../../helpers/wait-for.js';
import type { InjectedFault } from './fault-log.js';
import type { World } from './world.js';

/** SIGSTOP: its sockets stay open, and nobody answers. */
export async function freezeRedis(
  { redis, faultLog }: World,
  ms: number,
  whileFrozen: () => Promise<void> = async () => {},
): Promise<InjectedFault> {
  const fault = faultLog.add('SIGSTOP Redis', `for ${ms} ms`);
  redis.kill('SIGSTOP');
  await Promise.all([sleep(ms), whileFrozen()]);
  redis.kill('SIGCONT');
  return healed(fault);
}

type KillOptions = { downMs?: number; isEmpty?: boolean; whileDown?: () => Promise<void> };

/** SIGKILL, then a start on what is on disk; `isEmpty`: on a new directory. */
export async function killRedis(
  { redis, faultLog }: World,
  { downMs = 0, isEmpty = false, whileDown = async () => {} }: KillOptions = {},
): Promise<InjectedFault> {
  const fault = faultLog.add(isEmpty ? 'Redis restarted empty' : 'SIGKILL Redis', `down for ${downMs} ms`);
  await endRedis(redis);
  if (isEmpty) for (const name of readdirSync(redis.dir)) removeDir(join(redis.dir, name));
  await Promise.all([sleep(downMs), whileDown()]);
  await redis.restart();
  return healed(fault);
}

export async function flushRedis({ client, faultLog }: World): Promise<InjectedFault> {
  const fault = faultLog.add('FLUSHALL', 'Redis');
  await client.flushall();
  return healed(fault);
}

/** Every connection but our own is closed by the server, so many times. */
export async function killClients(
  { client, faultLog }: World,
  { times, everyMs }: { times: number; everyMs: number },
): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    const fault = faultLog.add('CLIENT KILL', 'all clients');
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    healed(fault);
    await sleep(everyMs);
  }
}

/** Redis takes commands in and answers none. */
export async function pauseClients({ client, faultLog }: World, ms: number): Promise<InjectedFault> {
  const fault = faultLog.add('CLIENT PAUSE', `for ${ms} ms`);
  await client.call('CLIENT', 'PAUSE', ms, 'ALL');
  await sleep(ms);
  return healed(fault);
}

/** A script that does not come to its end: after a moment everybody else is told BUSY. */
export async function keepRedisBusy({ redis, faultLog }: World, ms: number): Promise<InjectedFault> {
  const BUSY_AFTER_MS = 200;
  const [culprit, healer] = [redis.connect({ maxRetriesPerRequest: null }), redis.connect()];
  await healer.config('SET', 'busy-reply-threshold', BUSY_AFTER_MS);
  const fault = faultLog.add('BUSY', `for ${ms} ms`);
  const running = culprit.eval('while true do end', 0).catch(() => {});
  await sleep(ms);
  await waitFor('the script to be killed', async () => {
    const answer = await healer.call('SCRIPT', 'KILL').catch((error: Error) => error.message);
    return answer === 'OK';
  });
  healed(fault);
  await running;
  for (const client of [culprit, healer]) client.disconnect();
  return fault;
}

/** Redis refuses what needs memory. Resolves with what gives it enough again. */
export async function fillMemory({ client, faultLog }: World): Promise<() => Promise<InjectedFault>> {
  const fault = faultLog.add('out of memory', 'Redis');
  const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))![1]);
  await client.config('SET', 'maxmemory-policy', 'noeviction');
  await client.config('SET', 'maxmemory', String(Math.round(used / 2)));
  return async () => {
    await client.config('SET', 'maxmemory', '0');
    return healed(fault);
  };
}

/** Every group of every stream is removed, with all that was delivered to it and not yet acknowledged. */
export async function destroyGroups({ client, keys, faultLog }: World): Promise<InjectedFault> {
  const fault = faultLog.add('XGROUP DESTROY', 'all groups');
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) await client.xgroup('DESTROY', keys.stream(stream), group);
  }
  return healed(fault);
}

/** Every group is set back to the start of its streams, as somebody might who wants to do all of it again. */
export async function setGroupsBack({ client, keys, faultLog }: World): Promise<InjectedFault> {
  const fault = faultLog.add('XGROUP SETID 0', 'all groups');
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) await client.xgroup('SETID', keys.stream(stream), group, '0');
  }
  return healed(fault);
}

function healed(fault: InjectedFault): InjectedFault {
  fault.healedAt = Date.now();
  return fault;
}
