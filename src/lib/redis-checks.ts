/**
 * What the service wants of its Redis, and what an answer of 2xx is therefore worth: the rules, for whoever starts and for
 * `gvi doctor`. `docs/redis.md` gives the reasons.
 */
import type { RedisFacts, RedisHealth } from './redis-facts.js';

/** Holds no secret or address. What is not ok has a fix. */
export type RedisFinding = {
  level: 'ok' | 'warning' | 'problem';
  finding: string;
  fix?: string;
  /** Nothing starts on such a Redis: it could not work, or would lose events. */
  isRefused?: true;
};

export type RedisSetting = {
  isProduction: boolean;
  redisUrl: string;
  keyPrefix: string;
  /** How far the time in a signature may be from ours. */
  toleranceMs: number;
};

const VERSION_MIN = '7.0';
/** Patch levels of Redis with a fault in what we use, or an open door. */
const KNOWN_FAULTS: readonly { from: string; fixed: string; fault: string }[] = [
  { from: '7.0.0', fixed: '7.0.5', fault: 'XAUTOCLAIM can crash it (CVE-2022-31144, CVE-2022-35951)' },
  { from: '7.0.9', fixed: '7.0.15', fault: 'a full buffer can crash it (CVE-2023-41056)' },
  { from: '7.2.0', fixed: '7.2.4', fault: 'a full buffer can crash it (CVE-2023-41056)' },
  { from: '8.2.0', fixed: '8.2.3', fault: 'a command can take it over (CVE-2025-62507)' },
];
const MEMORY_HIGH = 0.8;
const MEMORY_FULL = 0.9;
const MEMORY_SPARE = 0.05;
const CLIENTS_HIGH = 0.8;
const CLOCK_OFF_MS = 2_000;
const STREAM_AHEAD_MS = 5_000;

/** Pure. */
export function inspectRedis(facts: RedisFacts, setting: RedisSetting): RedisFinding[] {
  return [
    inspectVersion(facts),
    inspectEviction(facts, setting),
    ...inspectDisk(facts),
    inspectDurability(facts),
    inspectMemory(facts, setting),
    ...inspectCluster(facts, setting),
    ...inspectClients(facts),
    ...inspectClock(facts, setting),
    ...inspectStreams(facts),
    ...(facts.role === 'master'
      ? []
      : [problem('This Redis is a replica: it takes no writes', 'point REDIS_URL at the master, or at Sentinel')]),
  ];
}

/** Why the Redis that we run on may lose events from now on; empty while it is as it should be. */
export function findDangers({ maxmemoryPolicy, isDiskWritable }: RedisHealth): ('eviction' | 'disk')[] {
  const isEvicting = maxmemoryPolicy !== '' && maxmemoryPolicy !== 'noeviction';
  return [...(isEvicting ? (['eviction'] as const) : []), ...(isDiskWritable ? [] : (['disk'] as const))];
}

/** `full`: or nearly so. */
export type MemoryLevel = 'fine' | 'scarce' | 'full';

/** Who stood on a level before leaves it only with some room to spare, so that what sways around a line crosses it once. */
export function judgeMemory({ usedBytes, limitBytes }: RedisHealth, before: MemoryLevel = 'fine'): MemoryLevel {
  const share = limitBytes === 0 ? 0 : usedBytes / limitBytes;
  if (share >= MEMORY_FULL || (before === 'full' && share >= MEMORY_FULL - MEMORY_SPARE)) return 'full';
  if (share >= MEMORY_HIGH || (before !== 'fine' && share >= MEMORY_HIGH - MEMORY_SPARE)) return 'scarce';
  return 'fine';
}

export function describeMemory({ usedBytes, limitBytes }: RedisHealth, level: MemoryLevel): RedisFinding {
  const limit = limitBytes === 0 ? ', no limit set' : ` of ${inMb(limitBytes)} (${inPercent(usedBytes / limitBytes)})`;
  const text = `Memory: ${inMb(usedBytes)} used${limit}`;
  const fix = 'give Redis more memory, or drop what is finished: npm run -s gvi -- trim';
  switch (level) {
    case 'fine':
      return ok(text);
    case 'scarce':
      return warning(text, fix);
    case 'full':
      return problem(`${text}: when it is full webhooks are answered 503`, fix);
  }
}

/** What an answer of 2xx says, in one sentence. */
export function inspectDurability(facts: RedisFacts): RedisFinding {
  const found = facts.hasAppendOnlyFile ? inspectFsync(facts) : inspectSnapshots(facts);
  const replicas = facts.replicas > 0 ? ' A fail-over may lose what no replica has yet.' : '';
  return { ...found, finding: `${found.finding}${replicas}` };
}

function inspectVersion({ product, version }: RedisFacts): RedisFinding {
  if (compareVersions(version, VERSION_MIN) < 0) {
    return refused(
      `Version ${version} is too old: it does not know what the scripts use`,
      `run Redis ${VERSION_MIN} or later, or Valkey`,
    );
  }
  const known =
    product === 'Redis' &&
    KNOWN_FAULTS.find(({ from, fixed }) => compareVersions(version, from) >= 0 && compareVersions(version, fixed) < 0);
  if (known) return warning(`Version ${version} has a known fault: ${known.fault}`, `run ${known.fixed} or later`);
  return ok(product === 'Redis' ? `Version ${version}` : `Version ${version} (${product})`);
}

function inspectEviction(facts: RedisFacts, { isProduction }: RedisSetting): RedisFinding {
  const { maxmemoryPolicy: policy, limitBytes } = facts;
  if (policy === 'noeviction') return ok('maxmemory-policy noeviction: when memory is full nothing is dropped');
  if (policy === '') {
    return warning(
      'maxmemory-policy cannot be read: this Redis does not tell it',
      'make sure, in the settings of the provider, that it is noeviction',
    );
  }
  const fix = 'set maxmemory-policy noeviction';
  const when = limitBytes === 0 ? 'once a memory limit is set' : 'when memory is full';
  const dropped = policy.startsWith('allkeys')
    ? 'Redis drops streams, and events are lost'
    : 'Redis drops keys that tell duplicates, or more';
  const text = `maxmemory-policy ${policy}: ${when} ${dropped}`;
  if (isProduction) return refused(text, fix);
  return policy.startsWith('allkeys') && limitBytes > 0 ? problem(text, fix) : warning(text, fix);
}

function inspectDisk({ isDiskWritable }: RedisFacts): RedisFinding[] {
  if (isDiskWritable) return [];
  return [problem('Redis could not write to its disk', 'see its log: the disk is full, or may not be written to')];
}

function inspectFsync({ appendfsync, skipsFsyncOnRewrite }: RedisFacts): RedisFinding {
  switch (appendfsync) {
    case 'always':
      return skipsFsyncOnRewrite
        ? warning(
            'appendonly yes, appendfsync always, but no-appendfsync-on-rewrite yes: a 2xx says that the event is on the disk of this Redis, except while the file is rewritten.',
            'no-appendfsync-on-rewrite no',
          )
        : ok('appendonly yes, appendfsync always: a 2xx says that the event is on the disk of this Redis.');
    case 'everysec':
    case 'no': {
      const lost = appendfsync === 'everysec' ? 'second or two' : 'half minute';
      return warning(
        `appendonly yes, appendfsync ${appendfsync}: a 2xx says that the event is in the memory of this Redis; a crash of Redis loses nothing, a power cut may lose the last ${lost}.`,
        'appendfsync always; it is fast enough for webhooks',
      );
    }
    default:
      return warning(
        'appendonly yes; appendfsync cannot be read, as CONFIG is forbidden here: unless it is always, a power cut may lose the last second or two although the answer was 2xx.',
        'ask the provider of this Redis what appendfsync is',
      );
  }
}

function inspectSnapshots({ save }: RedisFacts): RedisFinding {
  const fix = 'appendonly yes and appendfsync always';
  if (save === undefined) {
    return warning(
      'appendonly no; what else is kept cannot be read, as CONFIG is forbidden here: a 2xx says no more than that the event is in the memory of one node.',
      'ask the provider of this Redis for persistence (AOF)',
    );
  }
  return save === ''
    ? problem(
        'appendonly no, no snapshots: a 2xx says that the event is in the memory of one node; any restart loses everything.',
        fix,
      )
    : warning(
        'appendonly no, snapshots only: a 2xx says that the event is in the memory of one node; a restart may lose minutes of events.',
        fix,
      );
}

function inspectMemory(facts: RedisFacts, { isProduction }: RedisSetting): RedisFinding {
  const found = describeMemory(facts, judgeMemory(facts));
  if (facts.limitBytes > 0 || !isProduction) return found;
  return warning(
    `${found.finding}: the system may kill Redis when the machine is full`,
    'set maxmemory to 75 % of the machine',
  );
}

function inspectCluster({ isCluster }: RedisFacts, { redisUrl, keyPrefix }: RedisSetting): RedisFinding[] {
  if (!isCluster) return [];
  if (!hasHashTag(keyPrefix)) {
    return [
      refused(
        'This Redis is a cluster, and KEY_PREFIX holds no hash tag: the pipeline must be in one slot',
        'set KEY_PREFIX={gvi}:',
      ),
    ];
  }
  if (redisUrl.startsWith('redis-cluster:')) return [];
  return [
    problem(
      'This Redis is a node of a cluster, and REDIS_URL knows this node alone',
      'let REDIS_URL begin with redis-cluster://',
    ),
  ];
}

/** What stands between the first `{` and the next `}` says which slot a key is in, unless it is nothing. */
function hasHashTag(prefix: string): boolean {
  return /^[^{]*\{[^}]+\}/.test(prefix);
}

function inspectClients({ clients, clientsMax }: RedisFacts): RedisFinding[] {
  if (clientsMax === 0 || clients < clientsMax * CLIENTS_HIGH) return [];
  return [warning(`${clients} of ${clientsMax} connections are taken`, 'raise maxclients, or find who holds them')];
}

function inspectClock({ clockAheadMs }: RedisFacts, { toleranceMs }: RedisSetting): RedisFinding[] {
  const off = Math.abs(clockAheadMs);
  if (off < CLOCK_OFF_MS) return [];
  const text = `The clock of Redis is ${inWords(off)} ${clockAheadMs > 0 ? 'ahead of' : 'behind'} this machine's`;
  const fix = 'set both by NTP';
  return off < toleranceMs
    ? [warning(text, fix)]
    : [problem(`${text}: if this one is wrong, Calendly's signatures are refused as too old or too new`, fix)];
}

/** Ids never go back: after one from the future all others carry its time, until the clock has caught up. */
function inspectStreams({ aheadStreams }: RedisFacts): RedisFinding[] {
  return aheadStreams
    .filter(({ aheadMs }) => aheadMs > STREAM_AHEAD_MS)
    .map(({ stream, aheadMs }) =>
      warning(
        `The last id of ${stream} is ${inWords(aheadMs)} ahead of Redis' clock: ages, time ranges and trimming are wrong until then`,
        'see whether the clock was set back, or who appended an entry by hand',
      ),
    );
}

function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)];
  for (let i = 0; i < 3; i += 1) {
    const difference = (left[i] || 0) - (right[i] || 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function inWords(ms: number): string {
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}

const inMb = (bytes: number) => `${Math.round(bytes / 1_048_576)} MB`;
const inPercent = (share: number) => `${Math.round(share * 100)} %`;

const ok = (finding: string): RedisFinding => ({ level: 'ok', finding });
const warning = (finding: string, fix: string): RedisFinding => ({ level: 'warning', finding, fix });
const problem = (finding: string, fix: string): RedisFinding => ({ level: 'problem', finding, fix });
const refused = (finding: string, fix: string): RedisFinding => ({ ...problem(finding, fix), isRefused: true });
