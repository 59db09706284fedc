/**
 * Slack, as far as alerts need it. One attempt a call: the client would retry for half an hour and sleep on a 429, both
 * are the runtime's business. Source: @slack/web-api 8.2.
 */
import { type Logger, LogLevel, WebClient } from '@slack/web-api';
import { type Gate, OPEN_GATE } from '../../provider-gate.js';
import { withDeadline } from '../deadline.js';
import type { Block } from './blocks.js';
import { isPayloadRefusal, rethrowSlack } from './errors.js';

export type SlackMessage = {
  /** Escaped; shown in notifications, and alone where Slack does not take the blocks. */
  text: string;
  blocks: Block[];
};

export type Posted = { ts: string | undefined };

export type Slack = {
  /**
   * Posts a message to the channel; `ts` names it there. Throws `OutageError`, with `mayBeDone` where it may have been
   * posted all the same, `TerminalError`, `NotYetError` where it has to wait for its turn, or the signal's reason once that
   * is aborted.
   */
  post: (message: SlackMessage & { signal: AbortSignal }) => Promise<Posted>;
  /** Asks Slack whether the token is good; changes nothing. Throws like `post`. */
  test: (signal: AbortSignal) => Promise<{ team: string | undefined; user: string | undefined; scopes: string[] }>;
};

export type SlackOptions = {
  token: string;
  /** The id, as in `C0123456789`. */
  channel: string;
  /** Slack's own when left out. */
  apiUrl?: string | undefined;
  timeoutMs?: number | undefined;
  /** Keeps to what Slack takes in a channel, from all callers together. */
  gate?: Gate | undefined;
};

const TIMEOUT_MS = 10_000;

/** The client prints what it sends and what Slack says of it: people's data, so it is not to be heard. */
const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  setLevel: () => undefined,
  getLevel: () => LogLevel.ERROR,
  setName: () => undefined,
};

export function makeSlack({ token, channel, apiUrl, timeoutMs = TIMEOUT_MS, gate = OPEN_GATE }: SlackOptions): Slack {
  /** A client for one call, as the client takes no signal and writes the token into the options it is given. */
  function clientFor(signal: AbortSignal): WebClient {
    return new WebClient(token, {
      ...(apiUrl === undefined ? {} : { slackApiUrl: apiUrl }),
      retryConfig: { retries: 0 },
      rejectRateLimitedCalls: true,
      logger: SILENT,
      fetch: (url, init) => fetch(url, { ...init, signal }),
    });
  }

  function call<T>(signal: AbortSignal, ask: (client: WebClient) => Promise<T>): Promise<T> {
    return withDeadline({ signal, timeoutMs }, (deadline) => ask(clientFor(deadline)));
  }

  async function send(message: { text: string; blocks?: Block[] }, signal: AbortSignal): Promise<Posted> {
    const { ts } = await call(signal, (client) =>
      client.chat.postMessage({ channel, ...message, unfurl_links: false, unfurl_media: false }),
    );
    return { ts };
  }

  /** `undefined` where Slack refused the form of the message. */
  async function trySend(message: { text: string; blocks: Block[] }, signal: AbortSignal): Promise<Posted | undefined> {
    try {
      return await send(message, signal);
    } catch (cause) {
      if (isPayloadRefusal(cause)) return undefined;
      return rethrowSlack(cause);
    }
  }

  return {
    async post({ signal, ...message }) {
      const options = { signal, isUrgent: true };
      const posted = await gate.pass(() => trySend(message, signal), options);
      return posted ?? gate.pass(() => send({ text: message.text }, signal).catch(rethrowSlack), options);
    },

    async test(signal) {
      const { team, user, response_metadata } = await call(signal, (client) => client.auth.test()).catch(rethrowSlack);
      return { team, user, scopes: response_metadata?.scopes ?? [] };
    },
  };
}
