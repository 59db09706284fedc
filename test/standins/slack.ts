/**
 * Slack's Web API as far as the service uses it: `chat.postMessage`, `chat.update`, `auth.test`. Like the real one it
 * reads a form with `blocks` as JSON text, answers 200 with `ok: false` to what it refuses, and checks Block Kit's
 * limits. Source: docs.slack.dev chat.postMessage, Block Kit reference.
 */
import { type Fault, type Standin, type StandinReply, type StandinRequest, startStandin } from './http.js';
import { findBlocksFault } from './slack-blocks.js';

export type SlackMessage = { ts: string; text: string; blocks: SlackBlock[]; edited?: { ts: string } };
export type SlackBlock = { type: string } & Record<string, unknown>;

export type SlackStandin = Standin & {
  /** What `SLACK_API_URL` should be. */
  apiUrl: string;
  /** A channel's messages, the oldest first. */
  messages: (channel?: string) => SlackMessage[];
};

export const SLACK_TOKEN = 'xoxb-standin-token';
export const SLACK_CHANNEL = 'C0STANDIN01';

const TEXT_LENGTH_MAX = 40_000;

/** Accepts `token` and knows `channels`; what else is asked of it, it refuses in Slack's own words. */
export async function startSlack(
  options: { port?: number | undefined; token?: string; channels?: readonly string[]; latencyMs?: number } = {},
): Promise<SlackStandin> {
  const { token = SLACK_TOKEN, channels = [SLACK_CHANNEL] } = options;
  const kept = new Map<string, SlackMessage[]>(channels.map((channel) => [channel, []]));
  const nextTs = makeClock();

  const methods: Record<string, (form: Record<string, string>) => object> = {
    'auth.test': () => ({
      ok: true,
      url: 'https://standin.slack.com/',
      team: 'Stand-in',
      user: 'gvi',
      team_id: 'T0STANDIN01',
      user_id: 'U0STANDIN01',
      bot_id: 'B0STANDIN01',
    }),
    'chat.postMessage': (form) => {
      const messages = kept.get(form.channel ?? '');
      if (!messages) return refuse('channel_not_found');
      const content = parseContent(form);
      if ('ok' in content) return content;
      const message = { ts: nextTs(), ...content };
      messages.push(message);
      return { ok: true, channel: form.channel, ts: message.ts, message: { type: 'message', ...message } };
    },
    'chat.update': (form) => {
      const messages = kept.get(form.channel ?? '');
      if (!messages) return refuse('channel_not_found');
      const message = messages.find(({ ts }) => ts === form.ts);
      if (!message) return refuse('message_not_found');
      const content = parseContent(form);
      if ('ok' in content) return content;
      Object.assign(message, content, { edited: { ts: nextTs() } });
      return { ok: true, channel: form.channel, ts: message.ts, text: message.text };
    },
  };

  function handle(request: StandinRequest): StandinReply {
    const method = methods[request.path.split('/').at(-1) ?? ''];
    const scopes = { 'x-oauth-scopes': 'chat:write' };
    if (!method) return { status: 200, body: refuse('unknown_method') };
    const given = bearerOf(request);
    if (given === undefined) return { status: 200, body: refuse('not_authed') };
    if (given !== token) return { status: 200, body: refuse('invalid_auth') };
    return { status: 200, body: method((request.body ?? {}) as Record<string, string>), headers: scopes };
  }

  const messages = (channel = channels[0] ?? SLACK_CHANNEL) => kept.get(channel) ?? [];
  const standin = await startStandin({
    port: options.port,
    latencyMs: options.latencyMs,
    handle,
    control: { 'GET messages': ({ query }) => ({ messages: messages(query.get('channel') ?? undefined) }) },
  });
  return { ...standin, apiUrl: `${standin.url}/api/`, messages };
}

/** How Slack fails, as faults for `faults.next` and `faults.on`. */
export const slackFaults = {
  /** 200 with `ok: false`. */
  refusal: (error: string, more: object = {}): Fault => ({ status: 200, body: { ok: false, error, ...more } }),
  /** Without `retryAfterS` the header is left out. */
  rateLimited: (retryAfterS?: number): Fault => ({
    status: 429,
    body: { ok: false, error: 'ratelimited' },
    ...(retryAfterS === undefined ? {} : { headers: { 'retry-after': String(retryAfterS) } }),
  }),
  unavailable: (): Fault => ({ status: 503, body: '<html><body><h1>503 Service Unavailable</h1></body></html>' }),
  /** The message is posted and the answer says that something broke. */
  postedButInternalError: (): Fault => ({
    status: 200,
    body: { ok: false, error: 'internal_error' },
    doneButAnswerLost: true,
  }),
};

function parseContent(form: Record<string, string>): Pick<SlackMessage, 'text' | 'blocks'> | { ok: false } {
  const text = form.text ?? '';
  const blocks = parseBlocks(form.blocks);
  if (blocks === undefined) return refuse('invalid_blocks_format');
  if (text === '' && blocks.length === 0) return refuse('no_text');
  if (text.length > TEXT_LENGTH_MAX) return refuse('msg_too_long');
  const fault = findBlocksFault(blocks);
  if (!fault) return { text, blocks };
  return fault.error === 'invalid_blocks'
    ? refuse(fault.error, { errors: [fault.detail], response_metadata: { messages: [`[ERROR] ${fault.detail}`] } })
    : refuse(fault.error);
}

function parseBlocks(json: string | undefined): SlackBlock[] | undefined {
  if (json === undefined || json === '') return [];
  try {
    const blocks: unknown = JSON.parse(json);
    return Array.isArray(blocks) ? (blocks as SlackBlock[]) : undefined;
  } catch {
    return undefined;
  }
}

function refuse(error: string, more: object = {}): { ok: false; error: string } {
  return { ok: false, error, ...more };
}

function bearerOf({ headers }: StandinRequest): string | undefined {
  return /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
}

/** Slack's `ts`: seconds and microseconds, and the message's identity in its channel, so it only ever rises. */
function makeClock(): () => string {
  let lastMicros = 0;
  return () => {
    lastMicros = Math.max(Date.now() * 1000, lastMicros + 1);
    return `${Math.floor(lastMicros / 1e6)}.${String(lastMicros % 1e6).padStart(6, '0')}`;
  };
}
