/**
 * Calendly's API v2 as far as webhook subscriptions go: `users/me`, and listing, making, reading and deleting
 * subscriptions, with the errors of its reference. It delivers nothing. Source: developer.calendly.com "Webhooks".
 */
import { type Standin, type StandinReply, type StandinRequest, startStandin } from './http.js';

export type StoredSubscription = {
  uri: string;
  callback_url: string;
  created_at: string;
  updated_at: string;
  retry_started_at: string | null;
  state: 'active' | 'disabled';
  events: string[];
  scope: 'organization' | 'user';
  organization: string;
  user: string | null;
  creator: string;
};

export type CalendlyApiStandin = Standin & {
  /** Those there are; a test may change them. */
  subscriptions: StoredSubscription[];
  /** The signing key that each was made with, by uuid. */
  signingKeys: Map<string, string | undefined>;
  /** Puts one there without a call and returns its uuid. */
  addSubscription: (given?: Partial<StoredSubscription>) => string;
};

export type CalendlyApiOptions = {
  port?: number | undefined;
  token?: string;
  /** [true] Webhooks need a paid plan. */
  isPaid?: boolean;
  /** [true] Scope `organization` takes an owner or admin. */
  isAdmin?: boolean;
  /** Subscriptions in a page at the most [100]; a request may ask for fewer. */
  pageSizeMax?: number;
};

export const CALENDLY_TOKEN = 'standin-calendly-token';

const USER = 'https://api.calendly.com/users/STANDINUSER';
const ORGANIZATION = 'https://api.calendly.com/organizations/STANDINORG';
const EVENTS = [
  ...['invitee.created', 'invitee.canceled', 'invitee_no_show.created', 'invitee_no_show.deleted'],
  ...['routing_form_submission.created', 'event_type.created', 'event_type.updated', 'event_type.deleted'],
];

type Wanted = {
  url?: string;
  events?: string[];
  organization?: string;
  user?: string;
  scope?: string;
  signing_key?: string;
};

export async function startCalendlyApi(options: CalendlyApiOptions = {}): Promise<CalendlyApiStandin> {
  const { token = CALENDLY_TOKEN, isPaid = true, isAdmin = true, pageSizeMax = 100 } = options;
  const subscriptions: StoredSubscription[] = [];
  const signingKeys = new Map<string, string | undefined>();
  let made = 0;

  function addSubscription(given: Partial<StoredSubscription> = {}): string {
    made += 1;
    const uuid = `subscription-${made}`;
    const at = new Date().toISOString().replace('Z', '000Z');
    subscriptions.push({
      uri: `https://api.calendly.com/webhook_subscriptions/${uuid}`,
      callback_url: 'https://hooks.seller.example/webhooks/calendly',
      created_at: at,
      updated_at: at,
      retry_started_at: null,
      state: 'active',
      events: EVENTS.slice(0, 5),
      scope: 'organization',
      organization: ORGANIZATION,
      user: given.scope === 'user' ? USER : null,
      creator: USER,
      ...given,
    });
    return uuid;
  }

  function list({ query }: StandinRequest): StandinReply {
    const scope = query.get('scope');
    if (query.get('organization') !== ORGANIZATION) return invalid('organization', 'is not this organization');
    if (scope !== 'organization' && scope !== 'user') return invalid('scope', 'must be a known scope');
    if (scope === 'user' && query.get('user') === null) return invalid('user', 'is missing');
    if (scope === 'organization' && !isAdmin) return forbidden('You do not have permission to access this resource.');
    const all = subscriptions.filter(
      (found) => found.scope === scope && (scope === 'organization' || found.user === query.get('user')),
    );
    const start = Number(query.get('page_token') ?? 0);
    const end = start + Math.min(Number(query.get('count') ?? 20), pageSizeMax);
    const nextToken = end < all.length ? String(end) : null;
    const collection = all.slice(start, end);
    const pagination = {
      ...{ count: collection.length, next_page_token: nextToken, previous_page_token: null, previous_page: null },
      next_page: nextToken && `https://api.calendly.com/webhook_subscriptions?page_token=${nextToken}`,
    };
    return { status: 200, body: { collection, pagination } };
  }

  function create(wanted: Wanted): StandinReply {
    const { url = '', events = [], scope, signing_key: signingKey } = wanted;
    if (!URL.canParse(url) || !url.startsWith('https://')) return invalid('url', 'must be an https URL');
    if (wanted.organization !== ORGANIZATION) return invalid('organization', 'is not this organization');
    if (scope !== 'organization' && scope !== 'user') return invalid('scope', 'must be a known scope');
    if (scope === 'user' && wanted.user === undefined) return invalid('user', 'is missing');
    if (events.length === 0 || !events.every((event) => EVENTS.includes(event))) return invalid('events', 'is unknown');
    if (scope === 'user' && events.includes('routing_form_submission.created')) {
      return invalid('events', 'routing_form_submission.created is allowed with scope organization alone');
    }
    if (!isPaid) return forbidden('Please upgrade your Calendly account to Standard');
    if (scope === 'organization' && !isAdmin) return forbidden('You do not have permission');
    if (subscriptions.some((found) => found.callback_url === url && found.scope === scope)) {
      return { status: 409, body: { title: 'Already Exists', message: 'Hook with this url already exists' } };
    }
    const uuid = addSubscription({ callback_url: url, events, scope });
    signingKeys.set(uuid, signingKey);
    const resource = subscriptions.at(-1)!;
    return { status: 201, headers: { location: resource.uri }, body: { resource } };
  }

  function byUuid(method: string, uuid: string): StandinReply {
    const index = subscriptions.findIndex(({ uri }) => uri.endsWith(`/${uuid}`));
    if (index < 0) return notFound();
    if (method === 'GET') return { status: 200, body: { resource: subscriptions[index] } };
    subscriptions.splice(index, 1);
    return { status: 204 };
  }

  function handle(request: StandinRequest): StandinReply {
    if (request.headers.authorization !== `Bearer ${token}`) {
      return { status: 401, body: { title: 'Unauthenticated', message: 'The access token is invalid' } };
    }
    const uuid = /^\/webhook_subscriptions\/([\w-]+)$/.exec(request.path)?.[1];
    if (uuid !== undefined && ['GET', 'DELETE'].includes(request.method)) return byUuid(request.method, uuid);
    switch (`${request.method} ${request.path}`) {
      case 'GET /users/me':
        return { status: 200, body: { resource: { uri: USER, name: 'Rob Rep', current_organization: ORGANIZATION } } };
      case 'GET /webhook_subscriptions':
        return list(request);
      case 'POST /webhook_subscriptions':
        return create((request.body ?? {}) as Wanted);
      default:
        return notFound();
    }
  }

  const standin = await startStandin({ port: options.port, handle });
  return { ...standin, subscriptions, signingKeys, addSubscription };
}

function invalid(parameter: string, message: string): StandinReply {
  const body = {
    title: 'Invalid Argument',
    message: 'The supplied parameters are invalid.',
    details: [{ parameter, message }],
  };
  return { status: 400, body };
}

function forbidden(message: string): StandinReply {
  return { status: 403, body: { title: 'Permission Denied', message } };
}

function notFound(): StandinReply {
  const body = { title: 'Resource Not Found', message: 'The server could not find the requested resource.' };
  return { status: 404, body };
}
