/** The provider through the real SDK and real HTTP: refusals, time and abortion, and the check of key and model. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutageError, TerminalError } from '../../src/lib/errors.js';
import type { GeminiOptions } from '../../src/lib/providers/gemini/gemini.js';
import { candidate, clientOf, failureOf, GREETING, greeting, KEY } from '../helpers/gemini-client.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { apiKeyInvalid, googleError, modelNotFound, quotaExceeded } from '../standins/gemini-wire.js';
import { type StandinReply, waitForCall } from '../standins/http.js';

let standin: GeminiStandin;

const refusals = suite('gemini: a refusal');
const timing = suite('gemini: time and abortion');
const checking = suite('gemini: checking key and model');

for (const test of [refusals, timing, checking]) {
  test.before.each(async () => {
    standin = await startGemini();
  });
  test.after.each(() => standin.stop());
}

const gemini = (options: Partial<GeminiOptions> = {}) => clientOf(standin, options);

type Refused = {
  name: string;
  reply: StandinReply;
  code: string;
  kind: 'configuration' | 'outage';
  retryAfterMs?: number;
};

const error = (code: number, status: string, message = 'Some words.') => googleError(code, status, message);
const outages: Refused[] = [
  { name: 'a bad key', reply: apiKeyInvalid(), code: 'gemini_key_invalid', kind: 'configuration' },
  {
    name: 'an expired key without details',
    reply: error(400, 'INVALID_ARGUMENT', 'API key expired. Please renew the API key.'),
    code: 'gemini_key_invalid',
    kind: 'configuration',
  },
  { name: '401', reply: error(401, 'UNAUTHENTICATED'), code: 'gemini_key_invalid', kind: 'configuration' },
  { name: '402', reply: error(402, 'RESOURCE_EXHAUSTED'), code: 'gemini_billing', kind: 'configuration' },
  {
    name: 'a region without billing',
    reply: error(400, 'FAILED_PRECONDITION', 'User location is not supported for the API use.'),
    code: 'gemini_billing',
    kind: 'configuration',
  },
  { name: '403', reply: error(403, 'PERMISSION_DENIED'), code: 'gemini_forbidden', kind: 'configuration' },
  {
    name: 'a retired model',
    reply: modelNotFound('gemini-3.5-flash-lite'),
    code: 'gemini_model_unknown',
    kind: 'configuration',
  },
  {
    name: '429 per minute',
    reply: quotaExceeded('Minute', '34s'),
    code: 'gemini_rate_limited',
    kind: 'outage',
    retryAfterMs: 34_000,
  },
  {
    name: '429 with a fraction of a second',
    reply: quotaExceeded('Minute', '1.5s'),
    code: 'gemini_rate_limited',
    kind: 'outage',
    retryAfterMs: 1_500,
  },
  {
    name: '429 per day',
    reply: quotaExceeded('Day', '20s'),
    code: 'gemini_quota_exhausted',
    kind: 'outage',
    retryAfterMs: 3_600_000,
  },
  {
    name: '429 per day that names hours',
    reply: quotaExceeded('Day', '7200s'),
    code: 'gemini_quota_exhausted',
    kind: 'outage',
    retryAfterMs: 7_200_000,
  },
  {
    name: '429 in an array, its details lost',
    reply: { status: 429, body: [error(429, 'RESOURCE_EXHAUSTED').body] },
    code: 'gemini_rate_limited',
    kind: 'outage',
  },
  { name: '408', reply: error(408, 'TIMEOUT'), code: 'gemini_unavailable', kind: 'outage' },
  { name: '499', reply: error(499, 'CANCELLED'), code: 'gemini_unavailable', kind: 'outage' },
  {
    name: '500, which may mean a context too long',
    reply: error(500, 'INTERNAL'),
    code: 'gemini_unavailable',
    kind: 'outage',
  },
  {
    name: '502 as a gateway page',
    reply: { status: 502, body: '<html>Bad gateway</html>' },
    code: 'gemini_unavailable',
    kind: 'outage',
  },
  { name: '503', reply: error(503, 'UNAVAILABLE'), code: 'gemini_unavailable', kind: 'outage' },
  { name: '504', reply: error(504, 'DEADLINE_EXCEEDED'), code: 'gemini_unavailable', kind: 'outage' },
  {
    name: '200 with a page instead of JSON',
    reply: { status: 200, body: '<html>Please sign in</html>' },
    code: 'gemini_unreadable',
    kind: 'outage',
  },
];

for (const { name, reply, code, kind, retryAfterMs } of outages) {
  refusals(`${name}: ${kind} ${code}, after one request`, async () => {
    standin.answers.push(reply);
    const failure = (await failureOf(gemini().ask(greeting()))) as OutageError;
    assert.instance(failure, OutageError);
    assert.equal([failure.provider, failure.kind, failure.code], ['gemini', kind, code]);
    assert.is(failure.retryAfterMs, retryAfterMs);
    assert.is(standin.calls.length, 1);
  });
}

refusals('what to do about a configuration error stands in its message, the key does not', async () => {
  const leak = `Permission denied: Consumer 'api_key:${KEY}' has been suspended.`;
  standin.answers.push(apiKeyInvalid(), modelNotFound('m'), googleError(403, 'PERMISSION_DENIED', leak));
  const failures = [];
  for (let i = 0; i < 3; i += 1) failures.push((await failureOf(gemini().ask(greeting()))) as OutageError);
  const [key, model, forbidden] = failures.map(({ message }) => message);
  assert.match(key!, 'GEMINI_API_KEY');
  assert.match(model!, /gemini-3\.5-flash-lite.*GEMINI_MODEL/);
  assert.match(forbidden!, 'GEMINI_API_KEY');
  for (const failure of failures) assert.not.match(`${failure.stack} ${String(failure.cause)}`, KEY);
});

refusals('any other 400 is about this request: terminal', async () => {
  standin.answers.push(error(400, 'INVALID_ARGUMENT'), error(400, 'INVALID_ARGUMENT'));
  const failure = await failureOf(gemini().ask(greeting()));
  assert.instance(failure, TerminalError);
  assert.is((failure as TerminalError).code, 'model_refused_request');
  assert.is(standin.calls.length, 2, 'the second one without thinkingConfig');
});

refusals('413 is terminal at once', async () => {
  standin.answers.push(error(413, 'INVALID_ARGUMENT'));
  assert.instance(await failureOf(gemini().ask(greeting())), TerminalError);
  assert.is(standin.calls.length, 1);
});

for (const message of ['Thinking level is not supported for this model.', 'Request contains an invalid argument.']) {
  refusals(`400 "${message}": once more without thinkingConfig, and never with it again`, async () => {
    const client = gemini();
    standin.answers.push(error(400, 'INVALID_ARGUMENT', message), GREETING, GREETING);
    await client.ask(greeting());
    await client.ask(greeting());
    assert.equal(
      standin.requests.map(({ generationConfig }) => 'thinkingConfig' in generationConfig),
      [true, false, false],
    );
  });
}

for (const model of ['gemini-2.5-flash', 'gemini-2.5-pro', 'gemini-3.1-pro-preview', 'gemini-3.8-flash']) {
  refusals(`${model} takes what its family's rules say, also when an answer was cut off`, async () => {
    standin.answers.push(candidate('MAX_TOKENS'), GREETING);
    assert.equal((await gemini({ model }).ask(greeting())).value, GREETING);
    assert.is(standin.calls.length, 2);
  });
}

for (const apiKey of ['', '   ', 'a key\nwith a line break', 'schlüssel']) {
  refusals(
    `a key that no header can hold (${JSON.stringify(apiKey)}) is a configuration error before any request`,
    async () => {
      const failure = (await failureOf(gemini({ apiKey }).ask(greeting()))) as OutageError;
      assert.is(failure.code, 'gemini_key_invalid');
      assert.is(failure.kind, 'configuration');
      assert.is(standin.calls.length, 0);
    },
  );
}

refusals('white space around a key is forgiven', async () => {
  await gemini({ apiKey: ` ${KEY}\n` }).ask(greeting());
});

refusals('a refused connection is an outage', async () => {
  await standin.goDown();
  const failure = (await failureOf(gemini().ask(greeting()))) as OutageError;
  assert.equal([failure.code, failure.kind], ['gemini_unreachable', 'outage']);
});

refusals('a reset connection is an outage, before and in the midst of the answer', async () => {
  standin.faults.next({ reset: true });
  const before = (await failureOf(gemini().ask(greeting()))) as OutageError;
  standin.faults.next({ slowBodyMs: 60_000 });
  const amid = failureOf(gemini().ask(greeting()));
  await waitForCall(standin, ({ status }) => status === 200);
  await standin.goDown();
  assert.is(before.code, 'gemini_unreachable');
  assert.is(((await amid) as OutageError).code, 'gemini_unreachable');
});

timing('no answer in time is an outage, and the connection is let go', async () => {
  standin.faults.next({ hang: true });
  const failure = (await failureOf(gemini({ timeoutMs: 50 }).ask(greeting()))) as OutageError;
  assert.equal([failure.code, failure.kind], ['gemini_timeout', 'outage']);
});

timing('a body that stalls ends in time, too', async () => {
  standin.faults.next({ slowBodyMs: 60_000 });
  assert.is(((await failureOf(gemini({ timeoutMs: 200 }).ask(greeting()))) as OutageError).code, 'gemini_timeout');
});

timing('a signal that is aborted already lets no request out', async () => {
  const reason = new Error('the claim is lost');
  const failure = await failureOf(gemini().ask(greeting({ signal: AbortSignal.abort(reason) })));
  assert.is(failure, reason);
  assert.is(standin.calls.length, 0);
});

timing('a signal that is aborted during the call ends it with its reason', async () => {
  const abort = new AbortController();
  standin.faults.next({ hang: true });
  const failure = failureOf(gemini().ask(greeting({ signal: abort.signal })));
  await waitForCall(standin, () => true);
  const reason = new Error('shutting down');
  abort.abort(reason);
  assert.is(await failure, reason);
});

timing('an aborted signal lets no repair out', async () => {
  const abort = new AbortController();
  const client = await startGemini({
    answer: () => {
      abort.abort(new Error('let go'));
      return 'no JSON';
    },
  });
  await failureOf(gemini({ baseUrl: client.url }).ask(greeting({ signal: abort.signal })));
  await client.stop();
  assert.is(client.calls.length, 1);
});

timing('a finished call leaves no timer behind', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  await gemini({ timeoutMs: 3_600_000 }).ask(greeting());
  assert.is(timers(), before);
});

checking('a good key and a served model pass, without a token spent', async () => {
  await gemini().check(new AbortController().signal);
  assert.equal(
    standin.calls.map(({ method, path }) => [method, path]),
    [['GET', '/v1beta/models/gemini-3.5-flash-lite']],
  );
});

const checks: [string, Partial<GeminiOptions>, string][] = [
  ['a bad key', { apiKey: 'bad-key' }, 'gemini_key_invalid'],
  ['a model that was shut down', { model: 'gemini-2.0-flash' }, 'gemini_model_unknown'],
];

for (const [name, options, code] of checks) {
  checking(`${name} is a configuration error, as it is when asking`, async () => {
    const client = gemini(options);
    const failures = [
      await failureOf(client.check(new AbortController().signal)),
      await failureOf(client.ask(greeting())),
    ];
    for (const failure of failures as OutageError[])
      assert.equal([failure.code, failure.kind], [code, 'configuration']);
  });
}

const isQuestion = ({ method }: { method: string }) => method === 'POST';

checking(
  'a probe asks nothing while Gemini hangs or fails, which takes seconds to find out instead of minutes',
  async () => {
    const client = gemini();
    for (const [asked, fault, code] of [
      [gemini({ timeoutMs: 300 }), { hang: true }, 'gemini_timeout'],
      [client, { status: 503 }, 'gemini_unavailable'],
    ] as const) {
      standin.faults.clear();
      standin.faults.next(fault);
      const failure = (await failureOf(asked.ask(greeting({ isProbe: true })))) as OutageError;
      assert.equal([failure.code, failure.kind], [code, 'outage']);
    }
    assert.equal(standin.calls.filter(isQuestion), []);
    await client.ask(greeting({ isProbe: true }));
    assert.is(standin.calls.filter(isQuestion).length, 1);
  },
);

checking('a probe goes on where something is there that does not know of models', async () => {
  standin.faults.next({ status: 404 });
  await gemini().ask(greeting({ isProbe: true }));
  assert.is(standin.calls.filter(isQuestion).length, 1);
});

checking('an unreachable host is an outage', async () => {
  await standin.goDown();
  assert.is(
    ((await failureOf(gemini().check(new AbortController().signal))) as OutageError).code,
    'gemini_unreachable',
  );
});

refusals.run();
timing.run();
checking.run();
