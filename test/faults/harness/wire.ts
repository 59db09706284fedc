/** What goes over a wire, by name: which of the service's scripts an EVALSHA is, for which group, which call to a provider. */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import type { RedisClient } from '../../../src/lib/redis.js';
import { loadScript } from '../../../src/lib/scripts.js';

export const LINKS = ['redis', 'zoho', 'gemini', 'slack'] as const;
export type Link = (typeof LINKS)[number];

/** A command or call on its way through a proxy. */
export type Passage = {
  /** The process at the near end. */
  owner: string;
  link: Link;
  /** A script's file name without `.lua`, a Redis command in lower case, or `POST /crm/v8/Leads/upsert`. */
  name: string;
  /** `before`: not forwarded yet. `after`: executed at the far end, the answer not passed on yet. */
  when: 'before' | 'after';
  /** Redis: the keys of a script, or all arguments of a command. */
  keys: readonly string[];
  /** Redis: the arguments of a script. */
  argv: readonly string[];
  /** Redis: the consumer group, where the command concerns one. */
  group: string | undefined;
  /** A provider: what it is told. */
  body?: string;
  /** Redis, once it was executed: the whole reply as it came. */
  reply?: Buffer;
};

/** Those whose first argument is a group. */
const WITH_GROUP = new Set([
  ...['take', 'take-due', 'adopt', 'reclaim', 'keep', 'restore-claims', 'note-start', 'settle', 'hand-back'],
  ...['ensure-groups', 'save-cursors', 'remove-consumer', 'remove-dead-consumers'],
]);
const scriptNames = readScriptNames();

/** Of the service. */
export const SCRIPT_NAMES: readonly string[] = [...scriptNames.values()];

/** `when` and `owner` are added by the proxy. */
export function describeCommand(args: readonly Buffer[]): Pick<Passage, 'name' | 'keys' | 'argv' | 'group'> {
  const command = args[0]!.toString('latin1').toLowerCase();
  const texts = args.slice(1).map((arg) => arg.toString('utf8'));
  if (command !== 'evalsha' && command !== 'eval') {
    return { name: command, keys: texts, argv: [], group: command === 'xreadgroup' ? texts[1] : undefined };
  }
  const sha = command === 'evalsha' ? texts[0]! : createHash('sha1').update(args[1]!).digest('hex');
  const name = scriptNames.get(sha) ?? command;
  const keyCount = Number(texts[1]);
  const argv = texts.slice(2 + keyCount);
  const group = WITH_GROUP.has(name) ? argv[0] : undefined;
  return { name, keys: texts.slice(2, 2 + keyCount), argv, group };
}

/** Taken from what the service itself would send. */
function readScriptNames(): Map<string, string> {
  const names = new Map<string, string>();
  const folder = new URL('../../../src/lib/scripts/', import.meta.url);
  for (const file of readdirSync(folder)) {
    const name = file.replace(/\.lua$/, '');
    if (name === 'common' || name === file) continue;
    const client: Record<string, unknown> = {
      defineCommand(command: string, { lua }: { lua: string }) {
        names.set(createHash('sha1').update(lua).digest('hex'), name);
        client[command] = async () => null;
      },
    };
    loadScript(client as unknown as RedisClient, name);
  }
  return names;
}
