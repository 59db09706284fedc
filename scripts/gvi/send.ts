import { createHmac, randomUUID } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import got, { RequestError } from 'got';
import { UsageError } from '../../src/lib/command-line.js';
import type { Config } from '../../src/lib/config.js';
import { type Command, parseCommandLine } from './command.js';
import { printError } from './format.js';

const FIXTURES: Record<string, string> = {
  calendly: 'test/fixtures/calendly_invitee_created.json',
  readai: 'test/fixtures/readai_meeting_completed.json',
};
const TIMEOUT_MS = 10_000;

/** Posts a sample webhook, signed with the keys that are set. */
export const send: Command = {
  name: 'send',
  redis: 'unused',
  usage: 'send <calendly | readai | file> [--url] [--fresh]',
  summary: 'posts a signed sample webhook; --fresh makes it a new event',
  async run(argv, { config, print }) {
    const { values, positionals } = parseCommandLine(send, argv, {
      url: { type: 'string' },
      fresh: { type: 'boolean', default: false },
    });
    const [name] = positionals;
    if (name === undefined || positionals.length > 1) throw new UsageError(`Usage: gvi ${send.usage}`);
    const body = readFixture(name, values.fresh);
    const source = 'session_id' in body || 'meeting_id' in body ? 'readai' : 'calendly';
    const base = values.url ?? `http://127.0.0.1:${config.port}`;
    if (!/^https?:/.test(base) || !URL.canParse(base)) {
      throw new UsageError('--url: should be an http or https address, as http://127.0.0.1:8000');
    }
    const url = base.includes('/webhooks/') ? base : `${base.replace(/\/$/, '')}/webhooks/${source}`;
    const text = JSON.stringify(body);
    const reply = await post(url, text, sign(source, text, config));
    if (reply instanceof RequestError) {
      const message = `${new URL(url).origin} does not answer (${reply.code}): does ingest run there?`;
      if (values.json) print(JSON.stringify({ error: { code: 'no_answer', message } }));
      else printError(message);
      return 1;
    }
    print(
      values.json
        ? JSON.stringify({ status: reply.statusCode, body: parseOrText(reply.body) })
        : `${reply.statusCode} ${reply.body}`,
    );
    return reply.statusCode < 300 ? 0 : 1;
  },
};

async function post(url: string, body: string, headers: Record<string, string>) {
  try {
    return await got.post(url, {
      ...{ body, headers: { 'content-type': 'application/json', ...headers }, throwHttpErrors: false },
      // The secret of a relay would go along, to wherever it leads.
      followRedirect: false,
      retry: { limit: 0 },
      timeout: { request: TIMEOUT_MS },
    });
  } catch (error) {
    if (error instanceof RequestError) return error;
    throw error;
  }
}

type Body = Record<string, unknown>;

function readFixture(name: string, isFresh: boolean): Body {
  const path = Object.hasOwn(FIXTURES, name) ? FIXTURES[name]! : name;
  if (!statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new UsageError(`There is no sample ${name}: it should be calendly, readai or the path of a JSON file`);
  const body = parseBody(readFileSync(path, 'utf8'));
  if (body === undefined) throw new UsageError(`${path} should hold a JSON object`);
  const fresh = isFresh ? makeFresh(body) : body;
  if (fresh === undefined) throw new UsageError(`--fresh: ${path} should hold a webhook of Calendly or Read.ai`);
  return fresh;
}

function parseBody(text: string): Body | undefined {
  const body = parseOrText(text);
  return isObject(body) ? body : undefined;
}

function isObject(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Another booking, another meeting: the parts that the idempotency key is made of are new. */
function makeFresh(body: Body): Body | undefined {
  const id = randomUUID();
  if ('session_id' in body || 'meeting_id' in body) return { ...body, session_id: id, request_id: randomUUID() };
  const { payload } = body;
  if (!isObject(payload)) return undefined;
  const renew = (uri: unknown) => String(uri).replace(/[^/]+$/, id);
  const noShow = payload.no_show as Body | null | undefined;
  // A no-show is told apart by its own id.
  const renewed = noShow?.uri === undefined ? {} : { no_show: { ...noShow, uri: renew(noShow.uri) } };
  return {
    ...body,
    created_at: new Date().toISOString(),
    payload: { ...payload, uri: renew(payload.uri), ...renewed },
  };
}

function sign(source: 'calendly' | 'readai', text: string, { calendly, readai }: Config): Record<string, string> {
  if (source === 'calendly') {
    const [key] = calendly.signingKeys;
    if (key === undefined) return {};
    const time = Math.floor(Date.now() / 1000);
    const digest = createHmac('sha256', key).update(`${time}.${text}`).digest('hex');
    return { 'calendly-webhook-signature': `t=${time},v1=${digest}` };
  }
  const [key] = readai.signingKeys;
  if (key !== undefined) {
    return { 'x-read-signature': createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('hex') };
  }
  return readai.sharedSecret === undefined ? {} : { 'x-readai-secret': readai.sharedSecret };
}

function parseOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
