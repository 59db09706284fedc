/**
 * Who may see the debug routes and the dashboard. With tokens: who has one. Without: only who sits at this machine, and
 * never in production. A tunnel to localhost is the internet, so a proxied request does not count as local.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

export type AccessRule = {
  tokens: readonly { name: string; token: string }[];
  isProduction: boolean;
};

export type Visitor = { remoteAddress: string | undefined; headers: IncomingHttpHeaders };

/** `hidden`: answer as if the route did not exist. `unauthorized`: a token would open it. */
export type Access = { kind: 'granted'; name: string } | { kind: 'hidden' } | { kind: 'unauthorized' };

export const SESSION_COOKIE = 'gvi_session';

export function decideAccess(visitor: Visitor, { tokens, isProduction }: AccessRule): Access {
  if (tokens.length === 0) {
    return !isProduction && isLocal(visitor) ? { kind: 'granted', name: 'local' } : { kind: 'hidden' };
  }
  const { authorization, cookie } = visitor.headers;
  const bearer = /^Bearer +(.+)$/i.exec(authorization?.trim() ?? '')?.[1];
  const session = findCookie(cookie ?? '', SESSION_COOKIE);
  const known = tokens.filter(
    ({ token }) =>
      (bearer !== undefined && isSame(bearer, token)) || (session !== undefined && isSame(session, sessionOf(token))),
  );
  return known[0] === undefined ? { kind: 'unauthorized' } : { kind: 'granted', name: known[0].name };
}

/** What the sign-in cookie holds: it proves the token without being it, and dies with it. */
export function sessionOf(token: string): string {
  return createHmac('sha256', token).update('gvi session').digest('base64url');
}

function isLocal({ remoteAddress, headers }: Visitor): boolean {
  const isLoopback = /^(127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/.test(remoteAddress ?? '');
  const namesThisHost = /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i.test(headers.host ?? '');
  const isProxied = Object.keys(headers).some((name) => PROXY_HEADERS.has(name) || name.startsWith('x-forwarded-'));
  return isLoopback && namesThisHost && !isProxied;
}

/** What proxies and tunnels add, beside `X-Forwarded-*`. */
const PROXY_HEADERS = new Set(['forwarded', 'via', 'x-real-ip', 'true-client-ip', 'cf-connecting-ip']);

function findCookie(header: string, name: string): string | undefined {
  const pairs = header.split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Hashed first: only texts of equal length can be compared in constant time. Node reads header bytes as Latin-1. */
function isSame(given: string, expected: string): boolean {
  const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest();
  return timingSafeEqual(hash(Buffer.from(given, 'latin1')), hash(Buffer.from(expected, 'utf8')));
}
