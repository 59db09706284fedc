/** All proxies of a world: one for each process and far end, and the hooks that see what goes through them. */
import { type LinkFault, type LinkProxy, startProxy, type Verdict } from './proxy.js';
import type { Random } from './random.js';
import { LINKS, type Link, type Passage } from './wire.js';

export type Matcher = {
  link?: Link;
  /** Of the process; all of them where left out. */
  owner?: string;
  name?: string | RegExp;
  group?: string;
  when?: 'before' | 'after';
  where?: (passage: Passage) => boolean;
};

export type LinkSelection = { link?: Link; owner?: string | RegExp };

export type Links = {
  /** Where a process finds its far ends. */
  open: (owner: string) => Promise<Record<Link, LinkProxy>>;
  of: (owner: string, link: Link) => LinkProxy;
  select: (selection: LinkSelection) => LinkProxy[];
  setFault: (selection: LinkSelection, fault: LinkFault) => Promise<void>;
  heal: (selection?: LinkSelection) => Promise<void>;
  /**
   * Calls `fn` for what fits, before it is forwarded or once it was executed; `cut` destroys the connection there. Returns a
   * function that ends it.
   */
  onCommand: (
    matcher: Matcher,
    fn: (passage: Passage) => Verdict | undefined | Promise<Verdict | undefined>,
  ) => () => void;
  stop: () => Promise<void>;
};

export function makeLinks(options: {
  targets: Record<Link, () => { host: string; port: number }>;
  random: Random;
}): Links {
  const proxies = new Map<string, Record<Link, LinkProxy>>();
  const watchers = new Set<{ matcher: Matcher; fn: Parameters<Links['onCommand']>[1] }>();

  function hook(passage: Passage): Verdict | Promise<Verdict> {
    const held: Promise<Verdict | undefined>[] = [];
    for (const { matcher, fn } of watchers) {
      if (!fits(matcher, passage)) continue;
      const verdict = fn(passage);
      if (verdict instanceof Promise) held.push(verdict);
      if (verdict === 'cut') return 'cut';
    }
    if (held.length === 0) return 'pass';
    return Promise.all(held).then((verdicts) => (verdicts.includes('cut') ? 'cut' : 'pass'));
  }

  function select({ link, owner }: LinkSelection): LinkProxy[] {
    return [...proxies.values()]
      .flatMap((record) => Object.values(record))
      .filter((proxy) => link === undefined || proxy.link === link)
      .filter(
        (proxy) => owner === undefined || (owner instanceof RegExp ? owner.test(proxy.owner) : owner === proxy.owner),
      );
  }

  return {
    async open(owner) {
      const known = proxies.get(owner);
      if (known !== undefined) return known;
      const made = await Promise.all(
        LINKS.map(async (link) => {
          const random = options.random.fork(`${owner} ${link}`);
          return [link, await startProxy({ owner, link, target: options.targets[link], hook, random })] as const;
        }),
      );
      const record = Object.fromEntries(made) as Record<Link, LinkProxy>;
      proxies.set(owner, record);
      return record;
    },
    of(owner, link) {
      const found = proxies.get(owner)?.[link];
      if (found === undefined) throw new Error(`${owner} has no proxies`);
      return found;
    },
    select,
    async setFault(selection, fault) {
      await Promise.all(select(selection).map((proxy) => proxy.setFault(fault)));
    },
    async heal(selection = {}) {
      await Promise.all(select(selection).map((proxy) => proxy.heal()));
    },
    onCommand(matcher, fn) {
      const watcher = { matcher, fn };
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    async stop() {
      await Promise.all(select({}).map((proxy) => proxy.stop()));
    },
  };
}

export function fits(matcher: Matcher, passage: Passage): boolean {
  const { link, owner, name, group, when, where } = matcher;
  if (link !== undefined && link !== passage.link) return false;
  if (owner !== undefined && owner !== passage.owner) return false;
  if (when !== undefined && when !== passage.when) return false;
  if (group !== undefined && group !== passage.group) return false;
  if (name instanceof RegExp ? !name.test(passage.name) : name !== undefined && name !== passage.name) return false;
  return where?.(passage) ?? true;
}
