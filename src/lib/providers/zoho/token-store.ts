/**
 * What the workers share about the access token, in Redis: the token itself (encrypted), who refreshes it, how often that
 * was done lately, and since when nobody should ask again. All keys begin alike and expire by themselves.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import type { OutageKind } from '../../errors.js';
import type { RedisClient } from '../../redis.js';

export type StoredToken = {
  accessToken: string;
  /** Of Zoho's hosts, checked; `undefined` when the reply named none or another's. */
  apiDomain: string | undefined;
  /** From then on it is renewed, while it is still good. Milliseconds since 1970, as `expiresAtMs`. */
  renewAtMs: number;
  expiresAtMs: number;
};

/** A refusal that all workers heed: nobody asks for a token until it is over. */
export type Hold = { code: string; kind: OutageKind; message: string };

export type TokenStoreOptions = {
  redis: RedisClient;
  keyPrefix: string;
  accountsUrl: string;
  clientId: string;
  clientSecret: string;
  refreshToken: string;
};

/** Zoho gives ten tokens for a refresh token in a window; the tenth is left to whoever else uses it. */
export const REFRESHES_MAX = 9;

const RESERVE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
local used = redis.call('ZCARD', KEYS[1])
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then return {0, used} end
if used >= tonumber(ARGV[2]) then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {math.max(1, oldest[2] + ARGV[1] - now), used}
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {0, used + 1}`;

const DELETE_IF_SAME = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

const EXTEND_IF_SAME = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`;

export type TokenStore = ReturnType<typeof makeTokenStore>;

export function makeTokenStore({ redis, keyPrefix, ...identity }: TokenStoreOptions) {
  // Other credentials are another token: what is mended in the settings takes effect at once.
  const parts = [identity.accountsUrl, identity.clientId, identity.clientSecret, identity.refreshToken];
  const hash = hashOf(parts.join('\n')).slice(0, 16);
  const key = `${keyPrefix}token:zoho:${hash}`;
  const cipher = makeCipher(identity.clientSecret, hash);

  return {
    async read(): Promise<StoredToken | undefined> {
      return cipher.open(await redis.get(key));
    },
    async write(token: StoredToken, lifetimeMs: number): Promise<void> {
      await redis.set(key, cipher.seal(token), 'PX', Math.max(1, Math.ceil(lifetimeMs)));
    },
    /** Forgets the token if it is still this one: a worker that used an older one must not throw away its successor. */
    async forget(accessToken: string): Promise<void> {
      const sealed = await redis.get(key);
      if (sealed === null || cipher.open(sealed)?.accessToken !== accessToken) return;
      await redis.eval(DELETE_IF_SAME, 1, key, sealed);
    },

    async noteRefused(accessToken: string, forMs: number): Promise<void> {
      await redis.set(`${key}:refused`, hashOf(accessToken), 'PX', Math.max(1, Math.ceil(forMs)));
    },
    async isRefused(accessToken: string): Promise<boolean> {
      return (await redis.get(`${key}:refused`)) === hashOf(accessToken);
    },

    async lock(owner: string, ttlMs: number): Promise<boolean> {
      return (await redis.set(`${key}:lock`, owner, 'PX', ttlMs, 'NX')) === 'OK';
    },
    async keepLock(owner: string, ttlMs: number): Promise<void> {
      await redis.eval(EXTEND_IF_SAME, 1, `${key}:lock`, owner, ttlMs);
    },
    async unlock(owner: string): Promise<void> {
      await redis.eval(DELETE_IF_SAME, 1, `${key}:lock`, owner);
    },

    /** Takes one of the refreshes that a window allows; `waitMs` above 0 says that none is left for so long. */
    async reserve(owner: string, windowMs: number): Promise<{ waitMs: number; used: number }> {
      const reply = await redis.eval(RESERVE, 1, `${key}:refreshes`, windowMs, REFRESHES_MAX, owner);
      const [waitMs, used] = reply as [number, number];
      return { waitMs, used };
    },
    /** Gives it back: the request never counted at Zoho's. */
    async release(owner: string): Promise<void> {
      await redis.zrem(`${key}:refreshes`, owner);
    },

    async hold(hold: Hold, forMs: number): Promise<void> {
      await redis.set(`${key}:hold`, JSON.stringify(hold), 'PX', Math.max(1, Math.ceil(forMs)));
    },
    async readHold(): Promise<(Hold & { leftMs: number }) | undefined> {
      const text = await redis.get(`${key}:hold`);
      if (text === null) return undefined;
      const leftMs = await redis.pttl(`${key}:hold`);
      return leftMs > 0 ? { ...(JSON.parse(text) as Hold), leftMs } : undefined;
    },
  };
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** AES-256-GCM under a key that only who knows the client secret can derive: a dump of Redis gives no token away. */
function makeCipher(clientSecret: string, salt: string) {
  const secretKey = Buffer.from(hkdfSync('sha256', clientSecret, salt, 'zoho access token', 32));
  return {
    seal(token: StoredToken): string {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', secretKey, iv);
      const sealed = Buffer.concat([cipher.update(JSON.stringify(token), 'utf8'), cipher.final()]);
      return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64url');
    },
    /** `undefined` for what is not there, or was not sealed by us: then a new token is fetched. */
    open(text: string | null): StoredToken | undefined {
      if (text === null) return undefined;
      try {
        const bytes = Buffer.from(text, 'base64url');
        const decipher = createDecipheriv('aes-256-gcm', secretKey, bytes.subarray(0, 12), { authTagLength: 16 });
        decipher.setAuthTag(bytes.subarray(12, 28));
        const opened = Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]);
        return JSON.parse(opened.toString('utf8')) as StoredToken;
      } catch {
        return undefined;
      }
    },
  };
}
