/** Calendly's webhook subscription: made, looked at and removed. Neither the token nor a signing key is ever printed. */
import { UsageError } from '../../src/lib/command-line.js';
import type { Config } from '../../src/lib/config.js';
import {
  type CalendlyApi,
  makeCalendlyApi,
  type Scope,
  type Subscription,
} from '../../src/lib/providers/calendly/api.js';
import { CalendlyError } from '../../src/lib/providers/calendly/errors.js';
import {
  inspectSubscriptions,
  isSameUrl,
  leadsHere,
  listVisible,
  type Visible,
  WEBHOOK_PATH,
  wantedEvents,
} from '../../src/lib/providers/calendly/subscriptions.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';
import { confirm } from './confirm.js';
import { formatTable, printError } from './format.js';

type Options = { url?: string | undefined; scope?: string | undefined; json: boolean; yes: boolean };
type Task = Pick<CommandContext, 'config' | 'print'> & { api: CalendlyApi; signal: AbortSignal; options: Options };

/** It could not be done; the message says what to do about it. */
class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const GVI = 'npm run -s gvi -- calendly';

const HELP = `Usage: gvi calendly subscribe [--url <https url ending in ${WEBHOOK_PATH}>] [--scope organization|user] [--yes]
       gvi calendly status
       gvi calendly unsubscribe <uuid or url> [--yes]
--url is BASE_URL${WEBHOOK_PATH} unless given, --scope organization. --api-url <url>, for tests, is another host than Calendly's.`;

/** Makes, shows and removes the subscription. */
export const calendly: Command = {
  name: 'calendly',
  redis: 'unused',
  usage: 'calendly <subscribe | status | unsubscribe>',
  summary: "Calendly's webhook subscription; needs CALENDLY_API_TOKEN",
  help: HELP,
  async run(argv, { config, print }) {
    const { values, positionals } = parseCommandLine(calendly, argv, {
      url: { type: 'string' },
      scope: { type: 'string' },
      'api-url': { type: 'string' },
    });
    const [action, ...rest] = positionals;
    const work = findWork(action, rest);
    try {
      const { apiToken } = config.calendly;
      if (apiToken === undefined) throw new RefusedError('no_token', 'CALENDLY_API_TOKEN is not set');
      const api = makeCalendlyApi({ token: apiToken, apiUrl: values['api-url'] });
      return await work({ config, print, api, options: values, signal: new AbortController().signal });
    } catch (error) {
      if (!(error instanceof RefusedError) && !(error instanceof CalendlyError)) throw error;
      const { code, message } = error;
      if (values.json) print(JSON.stringify({ error: { code, message } }));
      else printError(message);
      return 1;
    }
  },
};

function findWork(action: string | undefined, rest: readonly string[]): (task: Task) => Promise<number> {
  const [target] = rest;
  if (action === 'subscribe' && rest.length === 0) return subscribe;
  if (action === 'status' && rest.length === 0) return showStatus;
  if (action === 'unsubscribe' && target !== undefined && rest.length === 1) return (task) => unsubscribe(task, target);
  throw new UsageError(HELP);
}

async function subscribe({ config, print, api, signal, options }: Task): Promise<number> {
  const url = readUrl(options.url, config);
  const scope = readScope(options.scope);
  const [signingKey] = config.calendly.signingKeys;
  if (signingKey === undefined) {
    throw new RefusedError(
      'no_signing_key',
      'CALENDLY_SIGNING_KEY is not set, so deliveries would be unsigned. Choose a key (openssl rand -hex 32), set it for ingest and here, and repeat this',
    );
  }
  const account = await api.readAccount(signal);
  refuseSecond(await listVisible(api, account, signal), url, options);
  const made = await api.createSubscription(account, { url, scope, events: wantedEvents(scope), signingKey }, signal);
  if (options.json) print(JSON.stringify({ subscribed: made }));
  else
    print(
      `Subscribed as ${made.id} (${made.scope}): ${made.events.join(', ')}\nCalendly sends to ${made.url} from now on.`,
    );
  return 0;
}

/** Calendly keeps two subscriptions apart and delivers every event through both. */
function refuseSecond({ subscriptions, isOrganizationHidden }: Visible, url: string, { yes, json }: Options): void {
  const same = subscriptions.find((found) => isSameUrl(found.url, url));
  if (same !== undefined) {
    throw new RefusedError(
      'already_subscribed',
      `There is a subscription for this url: ${same.id} (${same.scope}, ${same.state}). To make it anew: ${GVI} unsubscribe ${same.id}, then subscribe again; what happens in between is not sent`,
    );
  }
  const others = subscriptions.filter(({ state }) => state === 'active').map(({ id, scope }) => `${id} (${scope})`);
  if (others.length > 0 && !yes) {
    throw new RefusedError(
      'other_subscription',
      `There is another active subscription: ${others.join(', ')}. Where it leads to this service too, every event would come twice: unsubscribe it first. To subscribe all the same, say --yes`,
    );
  }
  if (isOrganizationHidden && !json) {
    printError("This token may not see the organization's subscriptions: there may be one already");
  }
}

async function showStatus({ config, print, api, signal, options }: Task): Promise<number> {
  const visible = await listVisible(api, await api.readAccount(signal), signal);
  const findings = inspectSubscriptions(visible, { ownUrl: ownUrlOf(config), now: Date.now() });
  if (options.json) print(JSON.stringify({ ...visible, findings }));
  else {
    if (visible.subscriptions.length > 0) print(formatSubscriptions(visible.subscriptions));
    for (const { level, finding, fix } of findings) print(`\n${level.toUpperCase()}: ${finding}\n  ${fix}`);
  }
  return findings.some(({ level }) => level === 'problem') ? 1 : 0;
}

function formatSubscriptions(subscriptions: readonly Subscription[]): string {
  const rows = subscriptions.map((found) => [
    ...[found.id, found.scope, found.state, found.retryStartedAt ?? '–'],
    leadsHere(found) ? found.url : `${found.url} (not this service)`,
  ]);
  return formatTable(['subscription', 'scope', 'state', 'retrying since', 'url'], rows);
}

async function unsubscribe({ print, api, signal, options }: Task, target: string): Promise<number> {
  const found = await findSubscription(api, target, signal);
  const question = `Remove subscription ${found.id} (${found.scope}, ${found.state}) to ${found.url}? Calendly then sends nothing through it.`;
  if (!options.yes && !(await confirm(question))) return 1;
  await api.deleteSubscription(found.id, signal);
  print(options.json ? JSON.stringify({ unsubscribed: found }) : `Removed subscription ${found.id} to ${found.url}`);
  return 0;
}

/** By uuid, by its URI at Calendly, or by the url that it delivers to. */
async function findSubscription(api: CalendlyApi, target: string, signal: AbortSignal): Promise<Subscription> {
  const id = /^(?:https:\/\/[^?#]*\/webhook_subscriptions\/)?([\w-]+)$/.exec(target)?.[1];
  if (id !== undefined) return api.readSubscription(id, signal);
  const { subscriptions } = await listVisible(api, await api.readAccount(signal), signal);
  const matches = subscriptions.filter(({ url }) => isSameUrl(url, target));
  const [match] = matches;
  if (match === undefined) throw new RefusedError('not_found', 'No subscription delivers to this url');
  if (matches.length === 1) return match;
  const ids = matches.map(({ id: each, scope, state }) => `${each} (${scope}, ${state})`).join(', ');
  throw new RefusedError('ambiguous', `Several subscriptions deliver to this url; name one by its uuid: ${ids}`);
}

function readUrl(given: string | undefined, config: Config): string {
  const url = given ?? ownUrlOf(config);
  if (url === undefined) throw new UsageError('--url: should be the public address of ingest, as BASE_URL is not set');
  if (isUsable(url)) return url;
  throw new UsageError(
    given === undefined
      ? `BASE_URL: should be an https URL, as Calendly delivers to it; or give --url`
      : `--url: should be an https URL that ends in ${WEBHOOK_PATH}`,
  );
}

function isUsable(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, pathname, search, hash, username } = new URL(url);
  return protocol === 'https:' && pathname.endsWith(WEBHOOK_PATH) && `${search}${hash}${username}` === '';
}

function readScope(given: string | undefined): Scope {
  if (given === undefined || given === 'organization' || given === 'user') return given ?? 'organization';
  throw new UsageError('--scope: should be organization or user');
}

function ownUrlOf({ baseUrl }: Config): string | undefined {
  return baseUrl === undefined ? undefined : `${baseUrl}${WEBHOOK_PATH}`;
}
