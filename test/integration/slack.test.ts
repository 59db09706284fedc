import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError, TerminalError } from '../../src/lib/errors.js';
import { fitBlocks, header, plainSection, section } from '../../src/lib/providers/slack/blocks.js';
import { mrkdwn } from '../../src/lib/providers/slack/mrkdwn.js';
import { makeSlack } from '../../src/lib/providers/slack/slack.js';
import { waitFor } from '../helpers/wait-for.js';
import type { Fault } from '../standins/http.js';
import { SLACK_CHANNEL, SLACK_TOKEN, type SlackStandin, slackFaults, startSlack } from '../standins/slack.js';

const never = new AbortController().signal;
const hello = { text: 'Hello', blocks: [header('Hello'), section([mrkdwn`*World*`])] };

function connect(
  standin: { apiUrl: string },
  { token = SLACK_TOKEN, channel = SLACK_CHANNEL, timeoutMs = 5_000 } = {},
) {
  return makeSlack({ token, channel, apiUrl: standin.apiUrl, timeoutMs });
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('it should have failed');
}

async function outageOf(work: Promise<unknown>): Promise<OutageError> {
  const error = await failureOf(work);
  assert.instance(error, OutageError, String(error));
  return error as OutageError;
}

const posts = ({ calls }: SlackStandin) => calls.filter(({ path }) => path.endsWith('chat.postMessage'));

const test = suite<{ slack: SlackStandin }>('slack');
test.before(async (context) => {
  context.slack = await startSlack();
});
test.after.each(({ slack }) => {
  slack.faults.clear();
  slack.calls.length = 0;
  slack.messages().length = 0;
});
test.after(({ slack }) => slack.stop());

test('a message stands in the channel once, without unfurled links, and its ts is told', async ({ slack }) => {
  const { ts } = await connect(slack).post({ ...hello, signal: never });
  assert.equal(
    slack.messages().map((message) => ({ ts: message.ts, text: message.text, blocks: message.blocks.length })),
    [{ ts, text: 'Hello', blocks: 2 }],
  );
  const form = posts(slack)[0]?.body as Record<string, string>;
  assert.equal([form.unfurl_links, form.unfurl_media, form.channel], ['false', 'false', SLACK_CHANNEL]);
  assert.equal([form.parse, form.link_names], [undefined, undefined]);
});

test('the token can be tested without posting anything', async ({ slack }) => {
  assert.equal(await connect(slack).test(never), { team: 'Stand-in', user: 'gvi', scopes: ['chat:write'] });
  assert.equal(slack.messages(), []);
});

test('a wrong token and an unknown channel are configuration faults, and nothing in the error tells the token', async ({
  slack,
}) => {
  const wrongToken = await outageOf(connect(slack, { token: 'xoxb-secret' }).post({ ...hello, signal: never }));
  assert.equal(
    [wrongToken.provider, wrongToken.kind, wrongToken.code],
    ['slack', 'configuration', 'slack_invalid_auth'],
  );
  assert.not.match(`${wrongToken.message} ${wrongToken.stack} ${String(wrongToken.cause)}`, 'xoxb-secret');

  const wrongChannel = await outageOf(connect(slack, { channel: 'C0NOWHERE' }).post({ ...hello, signal: never }));
  assert.equal([wrongChannel.kind, wrongChannel.code], ['configuration', 'slack_channel_not_found']);
});

const CONFIGURATION = [
  'account_inactive',
  'token_revoked',
  'token_expired',
  'missing_scope',
  'not_in_channel',
  'is_archived',
  'restricted_action',
  'team_access_not_granted',
  'ekm_access_denied',
  'not_authed',
];
for (const code of CONFIGURATION) {
  test(`${code} is a configuration fault, asked once`, async ({ slack }) => {
    slack.faults.next(slackFaults.refusal(code, { needed: 'chat:write' }));
    const error = await outageOf(connect(slack).post({ ...hello, signal: never }));
    assert.equal([error.kind, error.code, error.mayBeDone], ['configuration', `slack_${code}`, false]);
    assert.is(posts(slack).length, 1);
  });
}

const PAYLOAD = [
  'invalid_blocks',
  'invalid_blocks_format',
  'msg_blocks_too_long',
  'msg_too_long',
  'no_text',
  'too_many_attachments',
];
for (const code of PAYLOAD) {
  test(`${code} is answered with one second try as plain text`, async ({ slack }) => {
    slack.faults.next(slackFaults.refusal(code));
    await connect(slack).post({ ...hello, signal: never });
    assert.equal(
      slack.messages().map(({ text, blocks }) => ({ text, blocks })),
      [{ text: 'Hello', blocks: [] }],
    );
  });

  test(`${code} twice is terminal`, async ({ slack }) => {
    slack.faults.on({ times: 2 }, slackFaults.refusal(code));
    const error = await failureOf(connect(slack).post({ ...hello, signal: never }));
    assert.instance(error, TerminalError);
    assert.is((error as TerminalError).code, `slack_${code}`);
    assert.is(posts(slack).length, 2);
  });
}

test('a refusal of a kind never heard of is terminal', async ({ slack }) => {
  slack.faults.next(slackFaults.refusal('something_new'));
  const error = await failureOf(connect(slack).post({ ...hello, signal: never }));
  assert.instance(error, TerminalError);
  assert.is((error as TerminalError).code, 'slack_something_new');
});

const OUTAGES: { name: string; fault: Fault; code: string; mayBeDone: boolean; retryAfterMs?: number }[] = [
  { name: '429', fault: slackFaults.rateLimited(7), code: 'slack_rate_limited', mayBeDone: false, retryAfterMs: 7_000 },
  {
    name: '429 without Retry-After',
    fault: slackFaults.rateLimited(),
    code: 'slack_rate_limited',
    mayBeDone: false,
    retryAfterMs: 30_000,
  },
  {
    name: 'ratelimited with 200',
    fault: slackFaults.refusal('ratelimited'),
    code: 'slack_rate_limited',
    mayBeDone: false,
    retryAfterMs: 30_000,
  },
  {
    name: 'service_unavailable',
    fault: slackFaults.refusal('service_unavailable'),
    code: 'slack_service_unavailable',
    mayBeDone: false,
  },
  {
    name: 'request_timeout',
    fault: slackFaults.refusal('request_timeout'),
    code: 'slack_request_timeout',
    mayBeDone: false,
  },
  {
    name: 'internal_error',
    fault: slackFaults.postedButInternalError(),
    code: 'slack_internal_error',
    mayBeDone: true,
  },
  { name: 'fatal_error', fault: slackFaults.refusal('fatal_error'), code: 'slack_fatal_error', mayBeDone: true },
  { name: '503 with HTML', fault: slackFaults.unavailable(), code: 'slack_http_503', mayBeDone: true },
  {
    name: '200 with HTML',
    fault: { status: 200, body: '<html>maintenance</html>' },
    code: 'slack_unreadable_answer',
    mayBeDone: true,
  },
  {
    name: '200 with JSON that is no object',
    fault: { status: 200, body: '"fine"' },
    code: 'slack_unreadable_answer',
    mayBeDone: true,
  },
  { name: 'a reset', fault: { reset: true }, code: 'slack_connection_lost', mayBeDone: true },
  { name: 'a lost answer', fault: { doneButAnswerLost: true }, code: 'slack_connection_lost', mayBeDone: true },
];
for (const { name, fault, code, mayBeDone, retryAfterMs } of OUTAGES) {
  test(`${name} is an outage, ${mayBeDone ? 'and the message may be posted' : 'and nothing is posted'}`, async ({
    slack,
  }) => {
    slack.faults.next(fault);
    const error = await outageOf(connect(slack).post({ ...hello, signal: never }));
    assert.equal([error.provider, error.kind, error.code, error.mayBeDone], ['slack', 'outage', code, mayBeDone]);
    assert.is(error.retryAfterMs, retryAfterMs);
    assert.is(posts(slack).length, 1);
  });
}

for (const fault of [{ hang: true }, { slowBodyMs: 60_000 }]) {
  test(`an answer that does not come in time is an outage (${Object.keys(fault)})`, async ({ slack }) => {
    slack.faults.next(fault);
    const error = await outageOf(connect(slack, { timeoutMs: 100 }).post({ ...hello, signal: never }));
    assert.equal([error.code, error.mayBeDone], ['slack_timeout', true]);
  });
}

test('garbage that is collected while an answer is waited for does not take the time-out with it', async ({
  slack,
}) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  slack.faults.next({ slowBodyMs: 3_000 });
  const failed = outageOf(connect(slack, { timeoutMs: 300 }).post({ ...hello, signal: never }));
  await waitFor('the call to arrive', () => posts(slack).length === 1);
  for (let n = 0; n < 3; n += 1) {
    collect();
    await nextTurn();
  }
  assert.is((await failed).code, 'slack_timeout');
});

test('a refused connection is an outage in which nothing can have been posted', async () => {
  const down = await startSlack();
  await down.stop();
  const error = await outageOf(connect(down).post({ ...hello, signal: never }));
  assert.equal([error.code, error.mayBeDone], ['slack_unreachable', false]);
});

test('a body that breaks off is an outage, and the message may be posted', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 });
    response.write('{"ok":', () => response.socket?.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const error = await outageOf(connect({ apiUrl: `http://127.0.0.1:${port}` }).post({ ...hello, signal: never }));
  server.close();
  assert.equal([error.code, error.mayBeDone], ['slack_connection_lost', true]);
});

for (const status of [401, 403, 404]) {
  test(`${status} comes from something that is not Slack: a configuration fault`, async ({ slack }) => {
    slack.faults.next({ status });
    const error = await outageOf(connect(slack).post({ ...hello, signal: never }));
    assert.equal([error.kind, error.code], ['configuration', `slack_http_${status}`]);
  });
}

test('an abort ends the call with the reason of the signal', async ({ slack }) => {
  const abort = new AbortController();
  slack.faults.next({ hang: true });
  const posted = failureOf(connect(slack).post({ ...hello, signal: abort.signal }));
  abort.abort(new Error('let go'));
  assert.is(((await posted) as Error).message, 'let go');
});

test('after an abort nothing is sent', async ({ slack }) => {
  const aborted = AbortSignal.abort(new Error('let go'));
  assert.is(((await failureOf(connect(slack).post({ ...hello, signal: aborted }))) as Error).message, 'let go');
  assert.is(posts(slack).length, 0);
});

test('blocks are within the limits whatever is put into them', async ({ slack }) => {
  const long = '<!channel> & 𝒳'.repeat(2_000);
  const blocks = fitBlocks([
    header(long),
    ...Array.from({ length: 80 }, () => section([mrkdwn`*x* ${'a'.repeat(100)}`, mrkdwn`${long}`])),
    ...Array.from({ length: 5 }, () => plainSection([long])),
  ]);
  await connect(slack).post({ text: 'Hello', blocks, signal: never });
  assert.is(posts(slack).length, 1, 'the first try should do');
  assert.ok(slack.messages()[0]!.blocks.length <= 50);
});

test('the stand-in refuses what the real service refuses', async ({ slack }) => {
  const refusals = [
    { blocks: [{ type: 'header', text: { type: 'mrkdwn', text: 'x' } }], error: 'invalid_blocks' },
    { blocks: [{ type: 'header', text: { type: 'plain_text', text: 'x'.repeat(151) } }], error: 'invalid_blocks' },
    { blocks: [{ type: 'section', text: { type: 'mrkdwn', text: 'x'.repeat(3001) } }], error: 'invalid_blocks' },
    { blocks: Array.from({ length: 51 }, () => ({ type: 'divider' })), error: 'invalid_blocks' },
    {
      blocks: Array.from({ length: 5 }, () => ({ type: 'section', text: { type: 'mrkdwn', text: 'x'.repeat(2_700) } })),
      error: 'msg_blocks_too_long',
    },
    { blocks: 'no list', error: 'invalid_blocks_format' },
  ];
  for (const { blocks, error } of refusals) {
    const response = await fetch(`${slack.apiUrl}chat.postMessage`, {
      method: 'POST',
      headers: { authorization: `Bearer ${SLACK_TOKEN}` },
      body: new URLSearchParams({ channel: SLACK_CHANNEL, blocks: JSON.stringify(blocks) }),
    });
    assert.is(((await response.json()) as { error: string }).error, error);
  }
});

test.run();
