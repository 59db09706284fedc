import { makeSlack } from '../../../src/lib/providers/slack/slack.js';
import { CALL_TIMEOUT_MS, type Check, describeFailure, type Found, ok, problem, warning } from './check.js';

/** The token, live, and what can be said of the channel without posting to it. */
export const slack: Check = {
  name: 'slack',
  needsRedis: false,
  async run({ config }, signal) {
    if (config.slack === undefined) {
      return [
        warning(
          'No Slack settings: an alert is a log line at error, which somebody must look at',
          'set SLACK_BOT_TOKEN and SLACK_CHANNEL',
        ),
      ];
    }
    const token = await makeSlack({ ...config.slack, timeoutMs: CALL_TIMEOUT_MS })
      .test(signal)
      .then(({ scopes }) => inspectScopes(scopes), describeFailure);
    return [token, ...inspectChannel(config.slack.channel)];
  },
};

/** Slack names the scopes in a header; behind some proxies it is gone. */
function inspectScopes(scopes: readonly string[]): Found {
  return scopes.length === 0 || scopes.includes('chat:write')
    ? ok('The token is good; whether the bot is in the channel shows at the first alert')
    : problem(
        'The token lacks the scope chat:write: no alert can be posted',
        'add it to the app and reinstall the app',
      );
}

function inspectChannel(channel: string): Found[] {
  if (/^[CDG][A-Z0-9]{6,}$/.test(channel)) return [];
  return [
    warning('SLACK_CHANNEL does not look like the id of a channel', 'set the id, as in C0123456789, not the name'),
  ];
}
