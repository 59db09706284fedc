/** `./scripts/dev --sandbox`: stand-ins for Zoho, Gemini and Slack, and the settings that point at them. */
import { startGemini } from '../../../test/standins/gemini.js';
import { SLACK_CHANNEL, SLACK_TOKEN, startSlack } from '../../../test/standins/slack.js';
import { startZoho } from '../../../test/standins/zoho.js';

export type Sandbox = {
  /** Wins over the environment and `.env`: a sandbox never talks to a real provider. */
  env: Record<string, string>;
  /** Lines for the box: what there is to see, and where. */
  places: [label: string, url: string][];
  stop: () => Promise<void>;
};

export async function startSandbox(): Promise<Sandbox> {
  const [zoho, gemini, slack] = await Promise.all([startZoho(), startGemini(), startSlack()]);
  return {
    env: {
      DRY_RUN: 'false',
      ZOHO_ACCOUNTS_URL: zoho.url,
      ZOHO_API_URL: zoho.url,
      ZOHO_CLIENT_ID: zoho.credentials.clientId,
      ZOHO_CLIENT_SECRET: zoho.credentials.clientSecret,
      ZOHO_REFRESH_TOKEN: zoho.credentials.refreshToken,
      GEMINI_API_KEY: 'sandbox',
      GEMINI_BASE_URL: gemini.url,
      SLACK_BOT_TOKEN: SLACK_TOKEN,
      SLACK_CHANNEL,
      SLACK_API_URL: slack.apiUrl,
    },
    places: [
      ['Zoho', `${zoho.url}/_standin/state`],
      ['Gemini', `${gemini.url}/_standin/requests`],
      ['Slack', `${slack.url}/_standin/messages`],
    ],
    async stop() {
      await Promise.all([zoho.stop(), gemini.stop(), slack.stop()]);
    },
  };
}
