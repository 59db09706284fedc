/** The rights that `docs/redis.md` tells people to give, as they stand there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';

const DOC = join(import.meta.dirname, '..', '..', 'docs', 'redis.md');

/** The rule of a user, on one line, as in an ACL file. */
export function readRule(user: 'gvi' | 'gvi-sentinel' = 'gvi'): string {
  const rules = [...readFileSync(DOC, 'utf8').matchAll(/```acl\n(.*?)```/gs)].map(([, rule]) =>
    rule!.replaceAll(/\s+/g, ' ').trim(),
  );
  const found = rules.find((rule) => rule.startsWith(`user ${user} `));
  if (found === undefined) throw new Error(`docs/redis.md has no rule for ${user}`);
  return found;
}

/** What is to be added to it for a purpose: the line of the list that begins so. */
export function readAddition(purpose: string): string[] {
  const line = readFileSync(DOC, 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`- ${purpose}`));
  const rights = /`(\+[^`]+)`/.exec(line ?? '')?.[1];
  if (rights === undefined) throw new Error(`docs/redis.md names no rights for ${purpose}`);
  return rights.split(' ');
}

/** Makes the user on a server, whose own clients go on as `default`. */
export async function setUser(admin: Redis, rule: string, ...additions: string[]): Promise<void> {
  await admin.call('ACL', 'SETUSER', ...rule.split(' ').slice(1), ...additions);
}

/** What was refused to the user, as the server noted it. */
export async function readDenied(admin: Redis, user: string): Promise<string[]> {
  const log = (await admin.call('ACL', 'LOG', '100')) as unknown[][];
  const fields = log.map((flat) =>
    Object.fromEntries(flat.flatMap((_, i) => (i % 2 === 0 ? [[flat[i], flat[i + 1]]] : []))),
  );
  return [...new Set(fields.filter(({ username }) => username === user).map(({ object }) => String(object)))];
}
