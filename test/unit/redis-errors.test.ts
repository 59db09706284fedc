import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isStoreError, judgeRedisError, type RedisFaultKind, redisFaults } from '../../src/lib/redis-errors.js';

const test = suite('what is done with an error of Redis');

function replyError(message: string): Error {
  return Object.assign(new Error(message), { name: 'ReplyError' });
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}

/** As ioredis says it when it has asked all of them. */
function noSentinel(lastError: string): Error {
  return new Error(`All sentinels are unreachable and retry is disabled. Last error: ${lastError}`);
}

function systemError(code: string, syscall: string): Error {
  return Object.assign(new Error(`${syscall} ${code} 127.0.0.1:6379`), { code, syscall });
}

/** Every row of the table, in the words of the server or client that raises it. */
const CASES: readonly [code: string, kind: RedisFaultKind, error: Error][] = [
  ['NOGROUP', 'group', replyError("NOGROUP No such key 'events:x' or consumer group 'enrich' in XREADGROUP")],
  ['UNBLOCKED', 'group', replyError('UNBLOCKED the stream key no longer exists')],
  [
    'UNBLOCKED_DEMOTED',
    'reconnect',
    replyError('UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)'),
  ],
  ['BUSYGROUP', 'group', replyError('BUSYGROUP Consumer Group name already exists')],
  ['READONLY', 'reconnect', replyError("READONLY You can't write against a read only replica.")],
  ['MASTERDOWN', 'reconnect', replyError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.")],
  ['OOM', 'full', replyError("OOM command not allowed when used memory > 'maxmemory'.")],
  ['OOM', 'full', replyError("OOM command not allowed when used memory > 'maxmemory'. script: ab, on @user_script:5.")],
  [
    'OOM',
    'full',
    replyError("ERR Error running script (call to f_ab): -OOM command not allowed when used memory > 'maxmemory'."),
  ],
  ['MISCONF', 'full', replyError('MISCONF Redis is configured to save RDB snapshots, but it is unable to persist.')],
  ['NOREPLICAS', 'full', replyError('NOREPLICAS Not enough good replicas to write.')],
  ['LOADING', 'away', replyError('LOADING Redis is loading the dataset in memory')],
  ['BUSY', 'away', replyError('BUSY Redis is busy running a script. You can only call SCRIPT KILL.')],
  ['CLUSTERDOWN', 'away', replyError('CLUSTERDOWN The cluster is down')],
  ['TRYAGAIN', 'away', replyError('TRYAGAIN Multiple keys request during rehashing of slot')],
  ['NOSCRIPT', 'away', replyError('NOSCRIPT No matching script. Please use EVAL.')],
  ['MAXCLIENTS', 'away', replyError('ERR max number of clients reached')],
  ['SLOT_MOVING', 'away', replyError('ERR Script attempted to access a non local key in a cluster node script: ab')],
  ['NOAUTH', 'configuration', replyError('NOAUTH Authentication required.')],
  ['WRONGPASS', 'configuration', replyError('WRONGPASS invalid username-password pair or user is disabled.')],
  ['NOPERM', 'configuration', replyError("NOPERM this user has no permissions to run the 'xadd' command")],
  [
    'NOPERM',
    'configuration',
    replyError("ERR The user executing the script can't run this command or subcommand script: ab"),
  ],
  [
    'NOPERM',
    'configuration',
    replyError("ERR ACL failure in script: User gvi has no permissions to run the 'hset' command script: ab"),
  ],
  ['DENIED', 'configuration', replyError('DENIED Redis is running in protected mode')],
  ['MOVED', 'configuration', replyError('MOVED 4711 10.0.0.2:6379')],
  ['ASK', 'configuration', replyError('ASK 4711 10.0.0.2:6379')],
  ['CROSSSLOT', 'configuration', replyError("CROSSSLOT Keys in request don't hash to the same slot")],
  ['CROSSSLOT', 'configuration', replyError('ERR Script attempted to access keys that do not hash to the same slot')],
  ['NO_CLUSTER', 'configuration', replyError('ERR This instance has cluster support disabled')],
  ['UNKNOWN_COMMAND', 'configuration', replyError("ERR unknown command 'CONFIG', with args beginning with: 'GET'")],
  ['UNKNOWN_COMMAND', 'configuration', replyError('ERR Unknown Redis command called from script script: ab')],
  ['NO_SUCH_DB', 'configuration', replyError('ERR DB index is out of range')],
  ['TLS', 'configuration', Object.assign(new Error('self-signed'), { code: 'SELF_SIGNED_CERT_IN_CHAIN' })],
  ['MAX_RETRIES', 'away', named('MaxRetriesPerRequestError', 'Reached the max retries per request limit')],
  ['CONNECTION_CLOSED', 'away', new Error('Connection is closed.')],
  ['CONNECTION_CLOSED', 'away', named('AbortError', 'Command aborted due to connection close')],
  ['NOT_CONNECTED', 'away', new Error("Stream isn't writeable and enableOfflineQueue options is false")],
  ['TIMEOUT', 'away', new Error('Command timed out')],
  ['TIMEOUT', 'away', new Error('no reply within 800 ms')],
  ['CLUSTER_UNREACHABLE', 'away', named('ClusterAllFailedError', 'Failed to refresh slots cache.')],
  ['CLUSTER_UNREACHABLE', 'away', new Error('Too many Cluster redirections. Last error: ReplyError: CLUSTERDOWN')],
  ['SENTINELS_UNREACHABLE', 'away', new Error('All sentinels are unreachable. Retrying from scratch after 10ms.')],
  ['SENTINELS_UNREACHABLE', 'away', noSentinel('Connection is closed.')],
  ['SENTINEL_LOGIN', 'configuration', noSentinel('NOAUTH Authentication required.')],
  ['SENTINEL_LOGIN', 'configuration', noSentinel('WRONGPASS invalid username-password pair or user is disabled.')],
  ['NO_SUCH_MASTER', 'configuration', noSentinel('ERR No such master with that name')],
  ['ECONNREFUSED', 'away', systemError('ECONNREFUSED', 'connect')],
  ['ECONNRESET', 'away', systemError('ECONNRESET', 'read')],
  ['EPIPE', 'away', systemError('EPIPE', 'write')],
  ['ETIMEDOUT', 'away', systemError('ETIMEDOUT', 'connect')],
  ['ENOTFOUND', 'away', systemError('ENOTFOUND', 'getaddrinfo')],
  ['EAI_AGAIN', 'away', systemError('EAI_AGAIN', 'getaddrinfo')],
  ...['EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'EADDRNOTAVAIL', 'ENOENT', 'EMFILE'].map(
    (code): [string, RedisFaultKind, Error] => [code, 'away', systemError(code, 'connect')],
  ),
  ['ERR', 'ours', replyError('ERR value is not an integer or out of range')],
  ['ERR', 'ours', replyError("ERR user_script:12: attempt to index local 'x' (a nil value) script: ab")],
  ['WRONGTYPE', 'ours', replyError('WRONGTYPE Operation against a key holding the wrong kind of value')],
];

test('each is known by its word, also within a script, and has its kind', () => {
  for (const [code, kind, error] of CASES) {
    const fault = judgeRedisError(error);
    assert.equal([fault?.code, fault?.kind], [code, kind], error.message);
  }
});

test('every row of the table is among these cases', () => {
  const told = new Set([...CASES.map(([code]) => code), 'UNKNOWN']);
  assert.equal(
    redisFaults.map(({ code }) => code).filter((code) => !told.has(code)),
    [],
  );
});

test('only what is our own fault is refused and spends attempts; all else is kept and done later', () => {
  for (const [code, kind, error] of CASES) {
    const { ingest, worker } = judgeRedisError(error)!;
    assert.is(ingest, kind === 'ours' ? 'refuse' : 'spool', code);
    assert.is(worker === 'fail', kind === 'ours', code);
    assert.is(isStoreError(error), kind !== 'ours', code);
  }
});

test('a worker makes a missing group again, and takes one that is there for made', () => {
  const worker = (code: string) => redisFaults.find((fault) => fault.code === code)?.worker;
  assert.equal(['NOGROUP', 'UNBLOCKED', 'BUSYGROUP', 'READONLY', 'LOADING'].map(worker), [
    'repair',
    'repair',
    'go on',
    'reconnect',
    'resend',
  ]);
});

test('a word that nobody knows yet throws no work away', () => {
  const fault = judgeRedisError(replyError('FROZEN for maintenance'))!;
  assert.equal([fault.code, fault.kind, fault.ingest], ['FROZEN', 'away', 'spool']);
});

test("of a cluster that cannot be reached the last node's own word is told", () => {
  const error = Object.assign(named('ClusterAllFailedError', 'Failed to refresh slots cache.'), {
    lastNodeError: replyError('NOAUTH Authentication required.'),
  });
  assert.is(judgeRedisError(error)?.code, 'NOAUTH');
});

test('what neither Redis nor its client raised is no concern of the table', () => {
  const others = [
    new TypeError('x is not a function'),
    named('RequestError', 'connect ECONNREFUSED'),
    Object.assign(named('RequestError', 'x'), { code: 'ECONNRESET', syscall: 'read' }),
    systemError('ENOENT', 'open'),
    named('AbortError', 'The operation was aborted'),
    'a string',
  ];
  for (const error of others) {
    assert.is(judgeRedisError(error), undefined);
    assert.is(isStoreError(error), false);
  }
});

test.run();
