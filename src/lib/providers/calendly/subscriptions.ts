/** Which subscriptions this service wants, which ones there are, and what is wrong with them. */
import { catalogue } from '../../events.js';
import type { Account, CalendlyApi, Scope, Subscription } from './api.js';
import { CalendlyError } from './errors.js';

export const WEBHOOK_PATH = '/webhooks/calendly';

export type SubscriptionFinding = { level: 'warning' | 'problem'; finding: string; fix: string };

export type Visible = {
  subscriptions: Subscription[];
  /** The token's user may not see the organization's subscriptions. */
  isOrganizationHidden: boolean;
};

/** Calendly gives up on a subscription after this long, and an hour for its clock and ours. */
const RETRIES_LAST_MS = 25 * 3_600_000;

const GVI = 'npm run -s gvi -- calendly';

/** Calendly sends routing forms to a whole organization alone. */
const ORGANIZATION_ONLY = new Set(['routing_form_submission.created']);

/** The events that the catalogue knows, by Calendly's names. */
export function wantedEvents(scope: string): string[] {
  return Object.keys(catalogue)
    .filter((type) => type.startsWith('calendly.'))
    .map((type) => type.slice('calendly.'.length))
    .filter((event) => scope === 'organization' || !ORGANIZATION_ONLY.has(event));
}

/** Those of the organization and those of the token's own user. Throws `CalendlyError`. */
export async function listVisible(api: CalendlyApi, account: Account, signal: AbortSignal): Promise<Visible> {
  const ofScope = (scope: Scope) => api.listSubscriptions(account, scope, signal);
  const [own, shared] = await Promise.all([ofScope('user'), ofScope('organization').catch(hiddenOrThrow)]);
  const byId = new Map([...(shared ?? []), ...own].map((found) => [found.id, found]));
  return { subscriptions: [...byId.values()], isOrganizationHidden: shared === undefined };
}

function hiddenOrThrow(error: unknown): undefined {
  if (error instanceof CalendlyError && error.code === 'calendly_forbidden') return undefined;
  throw error;
}

/** The same address, however it is written. */
export function isSameUrl(a: string, b: string): boolean {
  return normalizeUrl(a) === normalizeUrl(b);
}

/** By its path: the host may be any of the names that a service goes by. */
export function leadsHere({ url }: Pick<Subscription, 'url'>): boolean {
  return URL.canParse(url) && new URL(url).pathname.replace(/\/+$/, '').endsWith(WEBHOOK_PATH);
}

/** What is wrong, the worst first; nothing where all is well. Other people's subscriptions are their own business. */
export function inspectSubscriptions(
  { subscriptions, isOrganizationHidden }: Visible,
  { ownUrl, now }: { ownUrl: string | undefined; now: number },
): SubscriptionFinding[] {
  const ours = subscriptions.filter(leadsHere);
  const active = ours.filter(({ state }) => state === 'active');
  const findings = [
    ...ours.filter(({ state }) => state !== 'active').map(disabled),
    ...(active.length > 1 ? [doubled(active)] : []),
    ...(ours.length === 0 ? [missing(isOrganizationHidden)] : []),
    ...active.flatMap((found) => (isRetrying(found, now) ? [retrying(found)] : [])),
    ...active.flatMap((found) => lacking(found)),
    ...(ownUrl !== undefined && active.length > 0 && !active.some(({ url }) => isSameUrl(url, ownUrl))
      ? [elsewhere()]
      : []),
  ];
  return findings.sort((a, b) => Number(a.level === 'warning') - Number(b.level === 'warning'));
}

function disabled({ id, state }: Subscription): SubscriptionFinding {
  return {
    level: 'problem',
    finding: `Subscription ${id} is ${state}: Calendly sends nothing through it and never tries again by itself`,
    fix: `mend what refused its deliveries, then: ${GVI} unsubscribe ${id}, and: ${GVI} subscribe`,
  };
}

function doubled(active: readonly Subscription[]): SubscriptionFinding {
  const ids = active.map(({ id, scope }) => `${id} (${scope})`).join(', ');
  return {
    level: 'problem',
    finding: `${active.length} active subscriptions lead to a ${WEBHOOK_PATH}, so events come more than once: ${ids}`,
    fix: `keep one: ${GVI} unsubscribe <uuid>`,
  };
}

function missing(isOrganizationHidden: boolean): SubscriptionFinding {
  return isOrganizationHidden
    ? {
        level: 'warning',
        finding: 'No subscription of this user leads here; those of the organization cannot be seen with this token',
        fix: `use the token of an owner or admin, or for this user's own bookings: ${GVI} subscribe --scope user`,
      }
    : {
        level: 'problem',
        finding: 'No subscription leads here: Calendly sends nothing',
        fix: `${GVI} subscribe`,
      };
}

function isRetrying({ retryStartedAt }: Subscription, now: number): boolean {
  return retryStartedAt !== undefined && now - Date.parse(retryStartedAt) < RETRIES_LAST_MS;
}

function retrying({ id, retryStartedAt }: Subscription): SubscriptionFinding {
  return {
    level: 'problem',
    finding: `Deliveries of subscription ${id} fail and are repeated since ${retryStartedAt}; after 24 hours Calendly disables it`,
    fix: 'see what ingest answers: its log, /readyz, CALENDLY_SIGNING_KEY, the way from the internet to it',
  };
}

function lacking({ id, scope, events }: Subscription): SubscriptionFinding[] {
  const names = wantedEvents(scope).filter((event) => !events.includes(event));
  if (names.length === 0) return [];
  return [
    {
      level: 'warning',
      finding: `Subscription ${id} does not send ${names.join(', ')}`,
      fix: `a subscription cannot be changed: ${GVI} unsubscribe ${id}, then: ${GVI} subscribe`,
    },
  ];
}

function elsewhere(): SubscriptionFinding {
  return {
    level: 'warning',
    finding: 'The active subscription leads to another address than BASE_URL',
    fix: 'set BASE_URL to the public address of ingest, or subscribe anew',
  };
}

function normalizeUrl(url: string): string {
  if (!URL.canParse(url)) return url;
  const { origin, pathname, search } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/, '')}${search}`;
}
