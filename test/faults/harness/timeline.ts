/** What happened to one event, as `gvi show` tells it, with the lines that the processes wrote of it. */
import { makeChains } from '../../../src/lib/chain.js';
import { readSnapshot } from './snapshot.js';
import type { World } from './world.js';

const LINES_MAX = 60;
const TEXT_MAX = 900;

export async function describeTimeline(world: World, eventId: string): Promise<string[]> {
  const { client, keys } = world;
  const chain = await makeChains({ redis: client, keys }).findChain(eventId);
  if (chain === undefined) return [`Timeline of ${eventId}: there is no such entry`];
  const ids = chain.trail.map((step) => step.eventId);
  const steps = chain.trail.map(({ at, type, eventId: id, attempts, durationMs, group }) => {
    return `${at} ${type} ${id} by ${group}, attempt ${attempts}, ${durationMs} ms`;
  });
  const told = world.everyPart().flatMap((part) =>
    part
      .lines()
      .filter((line) => line.includes(`"${chain.key}"`) || ids.some((id) => line.includes(id)))
      .map((line) => describeLine(part.name, line)),
  );
  const lines = [...steps, ...told, ...world.faultLog.describe()].sort().slice(-LINES_MAX);
  return [`Timeline of ${chain.key}, now ${chain.status}:`, ...lines.map((line) => `  ${line}`)];
}

/** What the service says to have written to a lead, what of it is still in doubt, and what was asked of the CRM. */
export async function describePerson(world: World, email: string): Promise<string[]> {
  const { byStream } = await readSnapshot(world);
  const synced = byStream('events:synced').filter(({ fields }) => fields.data?.includes(email));
  const ownKeys = new Set(synced.map(({ key }) => key));
  const enriched = byStream('events:enriched').filter(
    ({ fields, key }) => fields.data?.includes(email) || ownKeys.has(key),
  );
  const written = [...enriched, ...synced].map(({ eventId, at, key, fields }) => {
    return `${new Date(at).toISOString()} ${eventId} of ${key}: ${fields.data?.slice(0, TEXT_MAX)}`;
  });
  const intents = await world.client.hget(world.keys.intents(), email);
  const calls = world.zoho.calls
    .filter(({ body }) => JSON.stringify(body ?? '').includes(email))
    .map((call) => `${new Date(call.at).toISOString()} ${JSON.stringify(call).slice(0, TEXT_MAX)}`);
  const lines = [...written, ...calls].sort().slice(-LINES_MAX);
  return [`What was written to ${email}:`, ...lines.map((line) => `  ${line}`), `  in doubt: ${intents ?? 'nothing'}`];
}

/** A line of a log in short, beginning with its time. */
export function describeLine(name: string, line: string): string {
  try {
    const { time, msg, level: _level, pid, hostname: _hostname, name: _name, ...more } = JSON.parse(line);
    return `${new Date(time).toISOString()} ${name} (${pid}): ${msg} ${JSON.stringify(more)}`;
  } catch {
    return `${name}: ${line}`;
  }
}
