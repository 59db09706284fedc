/** `redis-sentinel://` and `redis-cluster://`: several hosts in one URL, which `URL` does not take. */

export type NodeList = {
  hosts: { host: string; port: number }[];
  /** Of the master that the sentinels watch; '' where none is named. */
  name: string;
  credentials: { username?: string; password?: string };
  /** From `?sentinelUsername=…&sentinelPassword=…`; sentinels have a login of their own, or none. */
  sentinelCredentials: { sentinelUsername?: string; sentinelPassword?: string };
  /** From `?tls=true`. */
  tls: boolean;
  /** From `/mymaster/1` or `?db=1`; a cluster has number 0 alone. */
  db: number;
};

const FORM =
  /^[a-z-]+:\/\/(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?(?<hosts>[^/?]+)(?:\/(?<path>[^?]*))?(?:\?(?<query>.*))?$/;
const HOST = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:]+))(?::(?<port>\d+))?$/;
const PARTS = /^[a-z-]+:\/\/[^/?]*(?<path>[^?]*)(?:\?(?<query>.*))?$/;
const SENTINEL_PORT = 26_379;
const REDIS_PORT = 6_379;

/** `redis-sentinel://user:password@h1:26379,h2:26379/mymaster?tls=true`; an unknown form gives no hosts. */
export function parseNodeList(url: string): NodeList {
  const { user = '', password = '', hosts = '', path = '', query = '' } = FORM.exec(url)?.groups ?? {};
  const [name = '', db] = path.split('/');
  const settings = new URLSearchParams(query);
  const defaultPort = url.startsWith('redis-sentinel:') ? SENTINEL_PORT : REDIS_PORT;
  const given = (value: string | null) => (value ? decodeURIComponent(value) : undefined);
  return {
    hosts: hosts.split(',').flatMap((item) => {
      const { v6, name: host = v6, port } = HOST.exec(item)?.groups ?? {};
      return host === undefined ? [] : [{ host, port: port === undefined ? defaultPort : Number(port) }];
    }),
    name,
    credentials: withoutEmpty({ username: given(user), password: given(password) }),
    sentinelCredentials: withoutEmpty({
      sentinelUsername: settings.get('sentinelUsername'),
      sentinelPassword: settings.get('sentinelPassword'),
    }),
    tls: settings.get('tls') === 'true',
    db: Number(db || settings.get('db') || 0),
  };
}

/**
 * False for what no client could connect to, or would read otherwise than it was meant: a password with a character that
 * ends it, such as `#`, `/` or `?`, leaves a URL that is none, or that leads elsewhere.
 */
export function isReadable(url: string): boolean {
  try {
    return /^redis-(sentinel|cluster):/.test(url) ? isNodeList(url) : isSingleServer(url);
  } catch {
    // A part that cannot be decoded.
    return false;
  }
}

function isSingleServer(url: string): boolean {
  const { username, password, hash } = new URL(url);
  decodeURIComponent(username + password);
  return hash === '';
}

function isNodeList(url: string): boolean {
  const { hosts } = parseNodeList(url);
  const given = FORM.exec(url)?.groups?.hosts?.split(',').length;
  return (
    hosts.length === given && hosts.every(({ host, port }) => /^[\w.:-]+$/.test(host) && port > 0 && port <= 65_535)
  );
}

/** False where it names a database in a way that would be read as number 0, or as another one. */
export function namesDbWell(url: string): boolean {
  const { path = '', query = '' } = PARTS.exec(url)?.groups ?? {};
  const names = path.split('/').filter((part) => part !== '');
  if (url.startsWith('redis-sentinel:')) names.shift();
  const dbs = [...names, ...new URLSearchParams(query).getAll('db')];
  const form = url.startsWith('redis-cluster:') ? /^0$/ : /^\d+$/;
  return dbs.length <= 1 && dbs.every((db) => form.test(db));
}

function withoutEmpty<K extends string>(values: Record<K, string | null | undefined>): Partial<Record<K, string>> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return Object.fromEntries(given) as Partial<Record<K, string>>;
}
