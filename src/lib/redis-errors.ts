/**
 * What to do with whatever goes wrong between us and Redis: one table, read by all who must decide. What Redis says begins
 * with a word of its own, as in `LOADING Redis is loading the dataset`, also where a script passes it on.
 *
 * | kind          | meaning                                                        | ends                                |
 * | ------------- | -------------------------------------------------------------- | ----------------------------------- |
 * | away          | not there, or not yet: down, loading, electing, busy, cut off   | by itself                           |
 * | full          | reads, but writes nothing now: no memory, no disk, no replica   | when there is room, or a person acts |
 * | reconnect     | this connection leads to a server that is no master any more    | by another connection                |
 * | group         | the stream or the group is gone: emptied, failed over, removed  | by making it again                   |
 * | configuration | login, rights, address or hash tag                              | when a person mends it               |
 * | ours          | a fault of a command or script of ours                          | never by waiting                     |
 */

export type RedisFaultKind = 'away' | 'full' | 'reconnect' | 'group' | 'configuration' | 'ours';

export type RedisFault = {
  /** Redis' own word, or ours for what the client says. Fit for a log line: it holds no key, value or address. */
  code: string;
  kind: RedisFaultKind;
  /** `spool`: to the spool, and 503 where there is none. `refuse`: this webhook alone; waiting cures it for nobody. */
  ingest: 'spool' | 'refuse';
  /**
   * `resend`: the same again after a moment, as often as it takes. `reconnect`: the client does so by itself and sends it
   * again; meanwhile as `resend`. `repair`: make the group, then read on; what was held is nobody's. `go on`: what was
   * wanted is there already. `fail`: the work in hand is at fault, and spends its own attempts.
   */
  worker: 'resend' | 'reconnect' | 'repair' | 'go on' | 'fail';
  /** `once`: when it begins; nothing for each repetition. `always`: each is news. `never`: it is everyday. */
  log: 'once' | 'always' | 'never';
};

type Row = RedisFault & { matches: (error: ErrorFacts) => boolean };

type ErrorFacts = { name: string; message: string; word: string; code: string; syscall: string };

const byKind: Record<RedisFaultKind, Omit<RedisFault, 'code' | 'kind'>> = {
  away: { ingest: 'spool', worker: 'resend', log: 'once' },
  full: { ingest: 'spool', worker: 'resend', log: 'once' },
  reconnect: { ingest: 'spool', worker: 'reconnect', log: 'once' },
  group: { ingest: 'spool', worker: 'repair', log: 'once' },
  configuration: { ingest: 'spool', worker: 'resend', log: 'once' },
  ours: { ingest: 'refuse', worker: 'fail', log: 'always' },
};

function row(code: string, kind: RedisFaultKind, matches: Row['matches'], differing: Partial<RedisFault> = {}): Row {
  return { code, kind, ...byKind[kind], ...differing, matches };
}

/** A reply of Redis that begins with the word. */
function reply(word: string, kind: RedisFaultKind, differing?: Partial<RedisFault>): Row {
  return row(word, kind, (error) => error.word === word, differing);
}

/** A reply of Redis that says so in its text, as many begin with `ERR`. */
function replyLike(code: string, kind: RedisFaultKind, text: RegExp): Row {
  return row(code, kind, ({ name, message }) => name === 'ReplyError' && text.test(message));
}

/** What the client says for Redis, which has not answered. */
function client(code: string, text: RegExp): Row {
  return row(code, 'away', ({ name, message }) => name !== 'ReplyError' && text.test(`${name}: ${message}`));
}

/** What the client says where no sentinel has named it a master. */
function sentinels(code: string, kind: RedisFaultKind, text: RegExp): Row {
  return row(code, kind, ({ message }) => message.startsWith('All sentinels are unreachable') && text.test(message));
}

/** Of the socket itself: providers' clients wrap theirs in errors of other names. */
function socket(code: string): Row {
  return row(code, 'away', (error) => error.code === code && error.name === 'Error' && SOCKET_CALLS.has(error.syscall));
}

const SOCKET_CALLS: ReadonlySet<string> = new Set(['connect', 'read', 'write', 'getaddrinfo']);

const EVERYDAY = { log: 'never' } as const;

/** The first row that fits counts. */
const TABLE: readonly Row[] = [
  reply('NOGROUP', 'group'),
  // A blocked read ends so when its server is demoted under it; otherwise because the stream was deleted.
  replyLike('UNBLOCKED_DEMOTED', 'reconnect', /^UNBLOCKED .*instance state changed/),
  reply('UNBLOCKED', 'group'),
  reply('BUSYGROUP', 'group', { worker: 'go on', ...EVERYDAY }),

  reply('READONLY', 'reconnect'),
  reply('MASTERDOWN', 'reconnect'),

  reply('OOM', 'full'),
  reply('MISCONF', 'full'),
  reply('NOREPLICAS', 'full'),

  reply('LOADING', 'away'),
  reply('BUSY', 'away'),
  reply('CLUSTERDOWN', 'away'),
  reply('TRYAGAIN', 'away', EVERYDAY),
  // The client loads the script again by itself.
  reply('NOSCRIPT', 'away', EVERYDAY),
  replyLike('MAXCLIENTS', 'away', /max number of clients/i),
  // While a slot moves to another node: a script met a key that has gone ahead. It is safe to send again.
  replyLike('SLOT_MOVING', 'away', /access a non local key in a cluster node/),

  reply('NOAUTH', 'configuration'),
  reply('WRONGPASS', 'configuration'),
  reply('NOPERM', 'configuration'),
  // Of what a script may not do Redis tells without that word: 7.0 in the first way, later versions in the second.
  replyLike('NOPERM', 'configuration', /^ERR .*(user executing the script can't|ACL failure in script)/),
  reply('DENIED', 'configuration'),
  // Of a single server: it is a node of a cluster. The cluster client follows these by itself.
  reply('MOVED', 'configuration'),
  reply('ASK', 'configuration'),
  reply('CROSSSLOT', 'configuration'),
  replyLike('CROSSSLOT', 'configuration', /do not hash to the same slot/),
  replyLike('NO_CLUSTER', 'configuration', /cluster support disabled/),
  replyLike('UNKNOWN_COMMAND', 'configuration', /unknown (redis )?command/i),
  replyLike('NO_SUCH_DB', 'configuration', /DB index is out of range|SELECT is not allowed/),

  client('MAX_RETRIES', /^MaxRetriesPerRequestError/),
  // Of what the last of them said the client tells in its own error alone: so these stand before the next.
  sentinels('SENTINEL_LOGIN', 'configuration', /Last error: (NOAUTH|WRONGPASS|NOPERM)\b/),
  sentinels('NO_SUCH_MASTER', 'configuration', /Last error: ERR No such master/),
  sentinels('SENTINELS_UNREACHABLE', 'away', /(?:)/),
  client(
    'CONNECTION_CLOSED',
    /: Connection is closed\.$|Command aborted due to connection close|Cluster is (ended|disconnect)/,
  ),
  client('NOT_CONNECTED', /enableOfflineQueue options is false/),
  client('TIMEOUT', /: (Command timed out|Blocking command timed out|no reply within|Socket timeout)/),
  client(
    'CLUSTER_UNREACHABLE',
    /^ClusterAllFailedError|Too many Cluster redirections|None of startup nodes is available/,
  ),
  ...['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN'].map(socket),
  ...['EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'EADDRNOTAVAIL', 'ENOENT', 'EMFILE'].map(socket),
  row(
    'TLS',
    'configuration',
    ({ name, code }) => name === 'Error' && /CERT|^ERR_(TLS|SSL)|UNABLE_TO_VERIFY/.test(code),
  ),

  // Also what a script of ours says; without a word of its own it is an old server's.
  row('ERR', 'ours', ({ name, word }) => name === 'ReplyError' && (word === 'ERR' || word === '')),
  reply('WRONGTYPE', 'ours'),
  // Whatever Redis will think of next: good work is not thrown away for a word that we do not know.
  row('UNKNOWN', 'away', ({ name }) => name === 'ReplyError'),
];

/** The table as others may read it. */
export const redisFaults: readonly RedisFault[] = TABLE.map(toFault);

/** Before Redis 7 a script's error hid Redis' word behind `ERR Error running script`; some hosted ones still do so. */
const HIDDEN_WORD = /\b(OOM|MISCONF|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|TRYAGAIN|NOGROUP|NOPERM)\b/;

/** What an error says of Redis; `undefined` for one that neither Redis nor its client raised. */
export function judgeRedisError(error: unknown): RedisFault | undefined {
  if (!(error instanceof Error)) return undefined;
  const { name, message } = error;
  const { code = '', syscall = '', lastNodeError } = error as NodeJS.ErrnoException & { lastNodeError?: unknown };
  const word = name === 'ReplyError' ? firstWord(message) : '';
  const facts = { name, message, word, code: String(code), syscall };
  // The cluster client says that no node answered well; what the last one answered tells more.
  if (lastNodeError instanceof Error && lastNodeError.name === 'ReplyError') return judgeRedisError(lastNodeError);
  const found = TABLE.find(({ matches }) => matches(facts));
  if (found === undefined) return undefined;
  return { ...toFault(found), ...(found.code === 'UNKNOWN' ? { code: word } : {}) };
}

/** True for what says nothing of the work in hand: it is as good as before, and is done when Redis is well again. */
export function isStoreError(error: unknown): boolean {
  const fault = judgeRedisError(error);
  return fault !== undefined && fault.kind !== 'ours';
}

/** True when there is no group to read from or to acknowledge in: no claim of ours is left either. */
export function isGroupMissing(error: unknown): boolean {
  return judgeRedisError(error)?.worker === 'repair';
}

function toFault({ matches: _, ...fault }: Row): RedisFault {
  return fault;
}

function firstWord(message: string): string {
  const word = /^[A-Z][A-Z0-9_]+/.exec(message)?.[0] ?? '';
  return word === 'ERR' || word === '' ? (HIDDEN_WORD.exec(message)?.[1] ?? word) : word;
}
