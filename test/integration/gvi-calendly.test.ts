/** `gvi calendly`, run as a person runs it, against a stand-in of Calendly's API. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { calendly } from '../../scripts/gvi/calendly.js';
import type { CommandContext } from '../../scripts/gvi/command.js';
import { UsageError } from '../../src/lib/command-line.js';
import { parseConfig } from '../../src/lib/config.js';
import { makeCalendlyApi } from '../../src/lib/providers/calendly/api.js';
import { CalendlyError } from '../../src/lib/providers/calendly/errors.js';
import { inspectSubscriptions, wantedEvents } from '../../src/lib/providers/calendly/subscriptions.js';
import { runGvi } from '../helpers/gvi.js';
import {
  CALENDLY_TOKEN,
  type CalendlyApiOptions,
  type CalendlyApiStandin,
  startCalendlyApi,
} from '../standins/calendly-api.js';

const SIGNING_KEY = 'signing-key-of-the-tests';
const URL_HERE = 'https://hooks.seller.example/webhooks/calendly';
const never = new AbortController().signal;

const test = suite<{ api: CalendlyApiStandin }>('gvi calendly');

test.before.each(async (context) => {
  context.api = await startCalendlyApi();
});
test.after.each(({ api }) => api.stop());

/** No Redis listens there: the command needs none. */
const SETTINGS = {
  REDIS_URL: 'redis://127.0.0.1:1',
  CALENDLY_API_TOKEN: CALENDLY_TOKEN,
  CALENDLY_SIGNING_KEY: `${SIGNING_KEY},an-older-key`,
  BASE_URL: 'https://hooks.seller.example',
};

/** As a process of its own, which takes a second or two. */
async function gvi(api: CalendlyApiStandin, args: readonly string[]) {
  const ran = await runGvi(['calendly', ...args, '--api-url', api.url], SETTINGS);
  for (const secret of [CALENDLY_TOKEN, SIGNING_KEY]) assert.not.match(ran.stdout + ran.stderr, secret);
  return ran;
}

/** The same command in this process, for what needs no other. */
async function command(api: CalendlyApiStandin, args: readonly string[], settings: Record<string, string> = {}) {
  const config = parseConfig({ ...SETTINGS, ...settings });
  const lines: string[] = [];
  const context = { config, print: (text: string) => void lines.push(text) } as CommandContext;
  const code = await calendly.run([...args, '--api-url', api.url], context);
  return { code, stdout: lines.join('\n') };
}

async function refusalOf(api: CalendlyApiStandin, args: readonly string[], settings: Record<string, string> = {}) {
  const { code, stdout } = await command(api, [...args, '--json'], settings);
  assert.is(code, 1);
  return JSON.parse(stdout).error as { code: string; message: string };
}

test('subscribe makes one signed subscription for every event that the service handles', async ({ api }) => {
  const { code, stdout } = await gvi(api, ['subscribe']);
  assert.is(code, 0);
  assert.match(stdout, 'subscription-1');
  const [made] = api.subscriptions;
  assert.is(made!.callback_url, URL_HERE);
  assert.is(made!.scope, 'organization');
  assert.equal([...made!.events].sort(), [...wantedEvents('organization')].sort());
  assert.ok(made!.events.includes('routing_form_submission.created'));
  assert.is(api.signingKeys.get('subscription-1'), SIGNING_KEY);
});

test('with scope user routing forms are left out, as Calendly sends them to organizations alone', async ({ api }) => {
  const { code, stdout } = await command(api, ['subscribe', '--scope', 'user', '--url', URL_HERE, '--json'], {
    BASE_URL: '',
  });
  assert.is(code, 0);
  assert.equal(JSON.parse(stdout).subscribed.events, wantedEvents('user'));
  assert.not.ok(wantedEvents('user').includes('routing_form_submission.created'));
});

test('a second subscription for the same url is refused, whatever --yes says', async ({ api }) => {
  api.addSubscription({ scope: 'user', state: 'disabled', callback_url: `${URL_HERE}/` });
  const { code, message } = await refusalOf(api, ['subscribe', '--yes']);
  assert.is(code, 'already_subscribed');
  assert.match(message, 'unsubscribe subscription-1');
  assert.is(api.subscriptions.length, 1);
});

test('beside another active subscription it subscribes only with --yes', async ({ api }) => {
  for (let i = 0; i < 3; i += 1) api.addSubscription({ state: 'disabled', callback_url: `https://old-${i}.example/` });
  api.addSubscription({ callback_url: 'https://other.seller.example/webhooks/calendly' });
  assert.is((await refusalOf(api, ['subscribe'])).code, 'other_subscription');
  assert.is(api.subscriptions.length, 4);
  assert.is((await command(api, ['subscribe', '--yes'])).code, 0);
  assert.is(api.subscriptions.length, 5);
});

test('without a signing key or a token nothing is asked of Calendly', async ({ api }) => {
  assert.is((await refusalOf(api, ['subscribe'], { CALENDLY_SIGNING_KEY: '' })).code, 'no_signing_key');
  assert.is((await refusalOf(api, ['status'], { CALENDLY_API_TOKEN: '' })).code, 'no_token');
  assert.is(api.calls.length, 0);
});

test('a url that is not https, an unknown scope and an unknown action are wrong usage', async ({ api }) => {
  const wrong = [
    ['subscribe', '--url', 'http://hooks.seller.example/webhooks/calendly'],
    ['subscribe', '--scope', 'group'],
    ['resubscribe'],
  ];
  for (const args of wrong) {
    assert.instance(await command(api, args).catch((error: unknown) => error), UsageError);
  }
  assert.is((await gvi(api, wrong[0]!)).code, 2);
  assert.is(api.calls.length, 0);
});

test('status is content with one active subscription', async ({ api }) => {
  api.addSubscription();
  api.addSubscription({ scope: 'user', callback_url: 'https://hooks.zapier.example/1' });
  const { code, stdout } = await command(api, ['status']);
  assert.is(code, 0);
  assert.match(stdout, URL_HERE);
  assert.match(stdout, '(not this service)');
  assert.not.match(stdout, 'PROBLEM');
});

test('status exits 1 when the subscription is disabled, and when two lead here', async ({ api }) => {
  api.addSubscription({ state: 'disabled' });
  const disabled = await gvi(api, ['status']);
  assert.is(disabled.code, 1);
  assert.match(disabled.stdout, 'PROBLEM: Subscription subscription-1 is disabled');

  api.subscriptions[0]!.state = 'active';
  api.addSubscription({ scope: 'user' });
  const doubled = await command(api, ['status', '--json']);
  assert.is(doubled.code, 1);
  const { subscriptions, findings } = JSON.parse(doubled.stdout);
  assert.is(subscriptions.length, 2);
  assert.match(findings[0].finding, '2 active subscriptions');
});

test('unsubscribe takes the url or the uuid, and asks first', async ({ api }) => {
  const first = api.addSubscription();
  api.addSubscription({ callback_url: 'https://other.seller.example/webhooks/calendly' });
  const unasked = await gvi(api, ['unsubscribe', first]);
  assert.is(unasked.code, 2);
  assert.match(unasked.stderr, '--yes');
  assert.is(api.subscriptions.length, 2);

  assert.is((await command(api, ['unsubscribe', first, '--yes'])).code, 0);
  const byUrl = await gvi(api, ['unsubscribe', 'https://other.seller.example/webhooks/calendly', '--yes', '--json']);
  assert.is(byUrl.code, 0);
  assert.is(JSON.parse(byUrl.stdout).unsubscribed.id, 'subscription-2');
  assert.is(api.subscriptions.length, 0);
  assert.is((await refusalOf(api, ['unsubscribe', URL_HERE, '--yes'])).code, 'not_found');
});

test("Calendly's refusals are explained", async ({ api }) => {
  const wrongToken = await refusalOf(api, ['subscribe'], { CALENDLY_API_TOKEN: 'another-token' });
  assert.match(wrongToken.message, 'CALENDLY_API_TOKEN is wrong, expired or revoked');

  const free = await startCalendlyApi({ isPaid: false });
  const unpaid = await refusalOf(free, ['subscribe']);
  await free.stop();
  assert.is(unpaid.code, 'calendly_plan_required');
  assert.match(unpaid.message, 'paid plan');
});

test.run();

const apiTest = suite("Calendly's API");

async function withApi(options: CalendlyApiOptions, run: (api: CalendlyApiStandin) => Promise<void>): Promise<void> {
  const api = await startCalendlyApi(options);
  try {
    await run(api);
  } finally {
    await api.stop();
  }
}

async function failureOf(work: Promise<unknown>): Promise<CalendlyError> {
  const error = await work.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  assert.instance(error, CalendlyError);
  return error as CalendlyError;
}

apiTest('every page of the list is read', () =>
  withApi({ pageSizeMax: 2 }, async (api) => {
    for (let i = 0; i < 5; i += 1) api.addSubscription();
    const client = makeCalendlyApi({ token: CALENDLY_TOKEN, apiUrl: api.url });
    const account = await client.readAccount(never);
    assert.is((await client.listSubscriptions(account, 'organization', never)).length, 5);
    assert.is(api.calls.filter(({ path }) => path === '/webhook_subscriptions').length, 3);
  }),
);

apiTest('what Calendly refuses or fails at is told apart, after one call each', () =>
  withApi({ isAdmin: false }, async (api) => {
    const client = makeCalendlyApi({ token: CALENDLY_TOKEN, apiUrl: api.url });
    const hasty = makeCalendlyApi({ token: CALENDLY_TOKEN, apiUrl: api.url, timeoutMs: 1_000 });
    const account = await client.readAccount(never);
    const wanted = { url: URL_HERE, scope: 'user', events: ['invitee.created'], signingKey: SIGNING_KEY } as const;
    await client.createSubscription(account, wanted, never);
    const again = await failureOf(client.createSubscription(account, wanted, never));
    assert.is(again.code, 'calendly_already_exists');
    const unknownEvent = { ...wanted, events: ['invitee.sneezed'] };
    const refused = await failureOf(client.createSubscription(account, unknownEvent, never));
    assert.is(refused.message, 'Calendly answered 400 to POST /webhook_subscriptions: wrong events');
    assert.is((await failureOf(client.listSubscriptions(account, 'organization', never))).code, 'calendly_forbidden');
    assert.is((await failureOf(client.readSubscription('unknown', never))).code, 'calendly_not_found');

    api.calls.length = 0;
    for (const [asking, fault, code] of [
      [client, { status: 503 }, 'calendly_unavailable'],
      [client, { status: 429 }, 'calendly_rate_limited'],
      [client, { reset: true }, 'calendly_unavailable'],
      [hasty, { hang: true }, 'calendly_unavailable'],
      [client, { status: 200, body: '<html></html>' }, 'calendly_unreadable_answer'],
      [client, { status: 302, headers: { location: 'http://127.0.0.1:1/' } }, 'calendly_refused'],
    ] as const) {
      api.faults.next(fault);
      assert.is((await failureOf(asking.readAccount(never))).code, code);
    }
    assert.is(api.calls.length, 6);
  }),
);

apiTest.run();

const inspect = suite("what is wrong with a service's subscriptions");

const healthy = {
  ...{ id: 'a', url: URL_HERE, scope: 'organization', state: 'active', events: wantedEvents('organization') },
  ...{ createdAt: '2026-11-01T00:00:00Z', retryStartedAt: undefined },
};
const now = Date.parse('2026-11-23T12:00:00Z');

function findingsOf(...subscriptions: (typeof healthy | { retryStartedAt: string })[]) {
  const all = subscriptions.map((given) => ({ ...healthy, ...given }));
  const visible = { subscriptions: all, isOrganizationHidden: false };
  return inspectSubscriptions(visible, { ownUrl: URL_HERE, now }).map(({ level, finding }) => `${level}: ${finding}`);
}

inspect('repeated deliveries are a problem until Calendly would have given up', () => {
  assert.equal(findingsOf(healthy), []);
  assert.match(
    findingsOf({ retryStartedAt: '2026-11-23T09:00:00Z' })[0]!,
    'problem: Deliveries of subscription a fail',
  );
  assert.equal(findingsOf({ retryStartedAt: '2026-11-21T09:00:00Z' }), []);
});

inspect('a missing event and another address are warnings, no subscription at all is a problem', () => {
  assert.match(findingsOf({ ...healthy, events: ['invitee.created'] })[0]!, 'warning: Subscription a does not send');
  assert.match(findingsOf({ ...healthy, url: 'https://b.example/webhooks/calendly' })[0]!, 'another address');
  assert.match(findingsOf()[0]!, 'problem: No subscription leads here');
});

inspect.run();
