import { formatDuration } from '../format.js';
import { type Check, type Found, ok, problem, warning } from './check.js';
import { type RedisFacts, readFacts } from './redis-info.js';

/** The server: what it can do, what it keeps, and what an answer of 2xx is therefore worth. */
export const redis: Check = {
  name: 'redis',
  needsRedis: true,
  async run({ redis: client, config }) {
    return inspectRedis(await readFacts(client), config.calendly.toleranceS * 1000);
  },
};

const VERSION_MIN = [7, 0] as const;
const MEMORY_HIGH = 0.75;
const MEMORY_FULL = 0.9;
const CLOCK_OFF_MS = 2_000;

/** Pure. `toleranceMs`: how far the time in a signature may be from ours. */
export function inspectRedis(facts: RedisFacts, toleranceMs: number): Found[] {
  return [
    inspectVersion(facts),
    inspectEviction(facts),
    ...inspectDurability(facts),
    inspectMemory(facts),
    ...inspectClock(facts, toleranceMs),
    ...(facts.role === 'master'
      ? []
      : [problem('This Redis is a replica: it takes no writes', 'point REDIS_URL at the master, or at Sentinel')]),
  ];
}

function inspectVersion({ version }: RedisFacts): Found {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isEnough = major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1]);
  return isEnough
    ? ok(`Version ${version}`)
    : problem(`Version ${version} is too old`, `run Redis ${VERSION_MIN.join('.')} or later, or Valkey`);
}

function inspectEviction({ maxmemoryPolicy: policy, limitBytes }: RedisFacts): Found {
  if (policy === 'noeviction') return ok('maxmemory-policy noeviction: when memory is full nothing is dropped');
  if (policy === '') {
    return warning(
      'maxmemory-policy cannot be read: this Redis does not tell it',
      'make sure, in the settings of the provider, that it is noeviction',
    );
  }
  const fix = 'set maxmemory-policy noeviction';
  const when = limitBytes === 0 ? 'once a memory limit is set' : 'when memory is full';
  if (policy.startsWith('allkeys') && limitBytes > 0) {
    return problem(`maxmemory-policy ${policy}: ${when} Redis drops streams, and events are lost`, fix);
  }
  return warning(`maxmemory-policy ${policy}: ${when} Redis drops keys that tell duplicates, or more`, fix);
}

function inspectDurability(facts: RedisFacts): Found[] {
  const written = facts.isDiskWritable
    ? []
    : [problem('Redis could not write to its disk', 'see its log: the disk is full, or may not be written to')];
  const replicas = facts.replicas > 0 ? ' A fail-over may lose what no replica has yet.' : '';
  const found = facts.hasAppendOnlyFile ? inspectFsync(facts) : inspectSnapshots(facts);
  return [...written, { ...found, finding: `${found.finding}${replicas}` }];
}

function inspectFsync({ appendfsync }: RedisFacts): Found {
  switch (appendfsync) {
    case 'always':
      return ok('appendonly yes, appendfsync always: a 2xx says that the event is on the disk of this Redis.');
    case 'everysec':
    case 'no': {
      const lost = appendfsync === 'everysec' ? 'second' : 'half minute';
      return warning(
        `appendonly yes, appendfsync ${appendfsync}: a 2xx says that the event is in the memory of this Redis; a crash of Redis loses nothing, a power cut may lose the last ${lost}.`,
        'appendfsync always; it is fast enough for webhooks',
      );
    }
    default:
      return warning(
        'appendonly yes; appendfsync cannot be read, as CONFIG is forbidden here: unless it is always, a power cut may lose the last second although the answer was 2xx.',
        'ask the provider of this Redis what appendfsync is',
      );
  }
}

function inspectSnapshots({ save }: RedisFacts): Found {
  const fix = 'appendonly yes and appendfsync always';
  if (save === undefined) {
    return warning(
      'appendonly no; what else is kept cannot be read, as CONFIG is forbidden here: a 2xx says no more than that the event is in the memory of one node.',
      'ask the provider of this Redis for persistence (AOF)',
    );
  }
  return save === ''
    ? problem('appendonly no, no snapshots: a 2xx says that the event is in memory; any restart loses everything.', fix)
    : warning(
        'appendonly no, snapshots only: a 2xx says that the event is in memory; a restart may lose minutes of events.',
        fix,
      );
}

function inspectMemory({ usedBytes, limitBytes }: RedisFacts): Found {
  const used = `${Math.round(usedBytes / 1_048_576)} MB`;
  if (limitBytes === 0) return ok(`Memory: ${used} used, no limit set`);
  const share = usedBytes / limitBytes;
  const text = `Memory: ${used} used of ${Math.round(limitBytes / 1_048_576)} MB (${Math.round(share * 100)} %)`;
  if (share < MEMORY_HIGH) return ok(text);
  const fix = 'give Redis more memory, or drop what is finished: npm run -s gvi -- trim';
  return share < MEMORY_FULL ? warning(text, fix) : problem(`${text}: when it is full webhooks are answered 503`, fix);
}

function inspectClock({ clockAheadMs }: RedisFacts, toleranceMs: number): Found[] {
  const off = Math.abs(clockAheadMs);
  if (off < CLOCK_OFF_MS) return [];
  const text = `The clock of Redis is ${formatDuration(off)} ${clockAheadMs > 0 ? 'ahead of' : 'behind'} this machine's`;
  const fix = 'set both by NTP';
  return off < toleranceMs
    ? [warning(text, fix)]
    : [problem(`${text}: if this one is wrong, Calendly's signatures are refused as too old or too new`, fix)];
}
