/** The provider through the real SDK and real HTTP: good answers, and each that cannot be used. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RetryableError, TerminalError } from '../../src/lib/errors.js';
import type { GeminiOptions } from '../../src/lib/providers/gemini/gemini.js';
import { candidate, clientOf, failureOf, GREETING, greeting, usage } from '../helpers/gemini-client.js';
import { type GeminiAnswer, type GeminiStandin, startGemini } from '../standins/gemini.js';

let standin: GeminiStandin;

const asking = suite('gemini: asking');
const oddities = suite('gemini: an answer that cannot be used');

for (const test of [asking, oddities]) {
  test.before.each(async () => {
    standin = await startGemini();
  });
  test.after.each(() => standin.stop());
}

const gemini = (options: Partial<GeminiOptions> = {}) => clientOf(standin, options);

asking('the value comes back checked, with what it cost and who answered', async () => {
  standin.answers.push({
    ...candidate('STOP', [{ text: JSON.stringify(GREETING) }]),
    ...usage(12, 5, 3),
    modelVersion: 'gemini-3.5-flash-lite-001',
  });
  assert.equal(await gemini().ask(greeting()), {
    value: GREETING,
    tokens: { prompt: 12, output: 5, thoughts: 3 },
    model: 'gemini-3.5-flash-lite-001',
  });
});

asking('one request goes out: system, user, schema, room to think, and the key in a header only', async () => {
  standin.answers.push(GREETING);
  await gemini().ask(greeting());
  const [call, ...others] = standin.calls;
  assert.equal(others, []);
  assert.is(call?.path, '/v1beta/models/gemini-3.5-flash-lite:generateContent');
  assert.equal(call?.query, {});
  assert.equal(standin.requests[0], {
    model: 'gemini-3.5-flash-lite',
    system: 'You greet people.',
    turns: [{ role: 'user', text: 'Ada is here.' }],
    generationConfig: {
      responseMimeType: 'application/json',
      responseSchema: {
        type: 'object',
        properties: { greeting: { type: 'string', description: 'One sentence' } },
        required: ['greeting'],
      },
      maxOutputTokens: 8192,
      thinkingConfig: { thinkingLevel: 'low' },
    },
  });
});

asking('the stand-in answers any schema by itself', async () => {
  assert.equal((await gemini().ask(greeting())).value, { greeting: 'text' });
});

asking('a model without a version in its answer goes by the name that was asked for', async () => {
  standin.answers.push(candidate('STOP', [{ text: JSON.stringify(GREETING) }]));
  const { model, tokens } = await gemini().ask(greeting());
  assert.is(model, 'gemini-3.5-flash-lite');
  assert.equal(tokens, { prompt: 0, output: 0, thoughts: 0 });
});

const readable: [string, GeminiAnswer][] = [
  ['a fenced answer', `\`\`\`json\n${JSON.stringify(GREETING, null, 2)}\n\`\`\``],
  ['an answer with talk after it', `${JSON.stringify(GREETING)}\nI hope this helps!`],
  ['an answer in several parts', candidate('STOP', [{ text: '{"greeting":' }, { text: '"Hello Ada"}' }])],
  [
    'an answer after a thought',
    candidate('STOP', [{ text: 'Who is {Ada}?', thought: true }, { text: '{"greeting":"Hello Ada"}' }]),
  ],
];

for (const [name, answer] of readable) {
  asking(`${name} is read, with one request`, async () => {
    standin.answers.push(answer);
    assert.equal((await gemini().ask(greeting())).value, GREETING);
    assert.is(standin.calls.length, 1);
  });
}

oddities('off the schema: it goes back once, with its errors named, and both calls are counted', async () => {
  standin.answers.push({ ...candidate('STOP', [{ text: '{"greeting":7}' }]), ...usage(10, 2, 1) });
  standin.answers.push({ ...candidate('STOP', [{ text: JSON.stringify(GREETING) }]), ...usage(20, 4, 2) });
  const { value, tokens } = await gemini().ask(greeting({ repairHint: 'Be brief.' }));
  assert.equal(value, GREETING);
  assert.equal(tokens, { prompt: 30, output: 6, thoughts: 3 });
  const [, repair] = standin.requests;
  assert.equal(
    repair?.turns.map(({ role }) => role),
    ['user', 'model', 'user'],
  );
  assert.is(repair?.turns[1]?.text, '{"greeting":7}');
  assert.match(repair!.turns[2]!.text, /- greeting: .*string[\s\S]*Be brief\.$/);
});

oddities('off the schema twice: terminal, naming the field and not the value', async () => {
  standin.answers.push({ greeting: 'x'.repeat(50) }, { greeting: 'y'.repeat(50) });
  const error = await failureOf(gemini().ask(greeting()));
  assert.instance(error, TerminalError);
  assert.is((error as TerminalError).code, 'model_off_schema');
  assert.is((error as TerminalError).message, 'Gemini answered off the schema twice (greeting)');
  assert.is(standin.calls.length, 2);
});

oddities('no JSON: it goes back once', async () => {
  standin.answers.push('I would rather not.', GREETING);
  assert.equal((await gemini().ask(greeting())).value, GREETING);
});

oddities('cut off: one more try with four times the room and the least thinking, both counted', async () => {
  standin.answers.push({ ...candidate('MAX_TOKENS', [{ text: '{"greeting":"Hel' }]), ...usage(10, 4, 1150) });
  standin.answers.push({ ...candidate('STOP', [{ text: JSON.stringify(GREETING) }]), ...usage(10, 5, 20) });
  const { value, tokens } = await gemini().ask(greeting({ maxOutputTokens: 1200 }));
  assert.equal(value, GREETING);
  assert.equal(tokens, { prompt: 20, output: 9, thoughts: 1170 });
  const [first, second] = standin.requests.map(({ generationConfig }) => generationConfig);
  assert.is(first?.maxOutputTokens, 1200);
  assert.is(second?.maxOutputTokens, 4800);
  assert.equal(second?.thinkingConfig, { thinkingLevel: 'minimal' });
});

oddities('cut off for real: the stand-in counts thoughts and answer against the room', async () => {
  const { value } = await gemini().ask(greeting({ maxOutputTokens: 41 }));
  assert.equal(value, { greeting: 'text' });
  assert.is(standin.requests.length, 2);
});

const failing: [string, GeminiAnswer[], typeof TerminalError | typeof RetryableError, string, number][] = [
  [
    'cut off twice, once without any text',
    [candidate('MAX_TOKENS', [{ text: '{"gr' }]), candidate('MAX_TOKENS')],
    TerminalError,
    'model_truncated',
    2,
  ],
  [
    'a blocked prompt',
    [{ promptFeedback: { blockReason: 'PROHIBITED_CONTENT' }, ...usage(638, 0, 0) }],
    TerminalError,
    'model_blocked',
    1,
  ],
  ...['SAFETY', 'PROHIBITED_CONTENT', 'SPII', 'BLOCKLIST', 'LANGUAGE'].map((reason): (typeof failing)[number] => [
    `finished for ${reason}`,
    [candidate(reason)],
    TerminalError,
    'model_blocked',
    1,
  ]),
  ...['RECITATION', 'OTHER', 'MALFORMED_FUNCTION_CALL', 'A_REASON_TO_COME'].map((reason): (typeof failing)[number] => [
    `finished for ${reason}`,
    [candidate(reason)],
    RetryableError,
    'model_declined',
    1,
  ]),
  [
    'RECITATION with half an answer',
    [candidate('RECITATION', [{ text: '{"greeting":"x"}' }])],
    RetryableError,
    'model_declined',
    1,
  ],
  ['stopped without text', [candidate('STOP', [{ text: '' }])], RetryableError, 'model_declined', 1],
  [
    'stopped with thoughts alone',
    [candidate('STOP', [{ text: '{"greeting":"x"}', thought: true }])],
    RetryableError,
    'model_declined',
    1,
  ],
  ['an empty object for a response', [{ status: 200, body: {} }], RetryableError, 'model_declined', 1],
  ['no candidates and no reason', [{ candidates: [] }], RetryableError, 'model_declined', 1],
  ['a response of another shape', [{ candidates: 'none' }], RetryableError, 'model_declined', 1],
];

for (const [name, answers, kind, code, requests] of failing) {
  oddities(`${name}: ${kind.name} ${code}, after ${requests} request(s)`, async () => {
    standin.answers.push(...answers);
    const error = await failureOf(gemini().ask(greeting()));
    assert.instance(error, kind);
    assert.is((error as TerminalError | RetryableError).code, code);
    assert.is(standin.calls.length, requests);
  });
}

asking.run();
oddities.run();
