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
};

const FORM =
  /^[a-z-]+:\/\/(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?(?<hosts>[^/?]+)(?:\/(?<name>[^?]*))?(?:\?(?<query>.*))?$/;
const HOST = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:]+))(?::(?<port>\d+))?$/;
const SENTINEL_PORT = 26_379;
const REDIS_PORT = 6_379;

/** `redis-sentinel://user:password@h1:26379,h2:26379/mymaster?tls=true`; an unknown form gives no hosts. */
export function parseNodeList(url: string): NodeList {
  const { user = '', password = '', hosts = '', name = '', query = '' } = FORM.exec(url)?.groups ?? {};
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
  };
}

function withoutEmpty<K extends string>(values: Record<K, string | null | undefined>): Partial<Record<K, string>> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return Object.fromEntries(given) as Partial<Record<K, string>>;
}
