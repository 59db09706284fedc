/** What to do where Redis refuses us: its login, its rights, its address or its database, which no waiting mends. */
import { judgeRedisError } from './redis-errors.js';

export type RedisRefusal = {
  code: string;
  advice: string;
  /** Waiting mends neither its number nor the right to it, as it may a login that is being changed. */
  isOfDb: boolean;
};

const ADVICE: Record<string, string> = {
  NOAUTH: 'REDIS_URL should hold a user and a password',
  WRONGPASS: 'REDIS_URL should hold the right user and password',
  NOPERM: 'the user in REDIS_URL should have the rights that docs/redis.md lists',
  MOVED: 'it is a node of a cluster, so REDIS_URL should begin with redis-cluster://',
  CROSSSLOT: 'it is a cluster, so KEY_PREFIX should hold a hash tag such as {gvi}:',
  SENTINEL_LOGIN: "REDIS_URL should hold the sentinels' own login, as docs/redis.md says",
  NO_SUCH_MASTER: 'REDIS_URL should end with the name of a master that the sentinels watch',
  NO_SUCH_DB: 'REDIS_URL should name a database that there is, or none',
};
const NO_SELECT = 'the user in REDIS_URL should have +select, as it names a database other than 0';

/** `undefined` for any other error. */
export function describeRefusal(error: unknown): RedisRefusal | undefined {
  const fault = judgeRedisError(error);
  if (fault?.kind !== 'configuration') return undefined;
  const { code } = fault;
  const { command } = error as { command?: { name: string } };
  const isSelect = code === 'NOPERM' && command?.name === 'select';
  return {
    code,
    advice: isSelect ? NO_SELECT : (ADVICE[code] ?? 'REDIS_URL should be looked at'),
    isOfDb: isSelect || code === 'NO_SUCH_DB',
  };
}

export function sayRefusal({ code, advice }: RedisRefusal): string {
  return `Redis refuses us (${code}): ${advice}`;
}
