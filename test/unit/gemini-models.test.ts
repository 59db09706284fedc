import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_MODEL, rulesFor } from '../../src/lib/providers/gemini/models.js';
import { parseAnswer } from '../../src/lib/providers/gemini/reply.js';
import { isServed, refusalOf } from '../standins/gemini-wire.js';

const models = suite('the rules for a model');

const cases: [string, object | undefined, object | undefined][] = [
  ['gemini-3.5-flash-lite', { thinkingLevel: 'low' }, { thinkingLevel: 'minimal' }],
  ['models/gemini-3.5-flash', { thinkingLevel: 'low' }, { thinkingLevel: 'minimal' }],
  ['gemini-3.8-flash', { thinkingLevel: 'low' }, { thinkingLevel: 'low' }],
  ['gemini-3.1-pro-preview', { thinkingLevel: 'low' }, { thinkingLevel: 'low' }],
  ['gemini-2.5-flash', { thinkingBudget: 1024 }, { thinkingBudget: 0 }],
  ['gemini-2.5-flash-lite', { thinkingBudget: 1024 }, { thinkingBudget: 0 }],
  ['gemini-2.5-pro', { thinkingBudget: 1024 }, { thinkingBudget: 128 }],
  ['gemini-4-something', undefined, undefined],
  ['tunedModels/ours', undefined, undefined],
];

for (const [name, thinking, leastThinking] of cases) {
  models(`${name} thinks ${JSON.stringify(thinking)}, at least ${JSON.stringify(leastThinking)}`, () => {
    const rules = rulesFor(name);
    assert.equal(rules.thinking, thinking);
    assert.equal(rules.leastThinking, leastThinking);
  });
}

models('no temperature is set where Google advises against it', () => {
  assert.is(rulesFor('gemini-3.5-flash').temperature, undefined);
  assert.type(rulesFor('gemini-2.5-flash').temperature, 'number');
});

models('the default model is served, and takes what the table says', () => {
  assert.ok(isServed(DEFAULT_MODEL));
  for (const thinkingConfig of [rulesFor(DEFAULT_MODEL).thinking, rulesFor(DEFAULT_MODEL).leastThinking]) {
    const body = { contents: [{ parts: [{ text: 'x' }] }], generationConfig: { thinkingConfig } };
    assert.is(refusalOf(DEFAULT_MODEL, body), undefined);
  }
});

const answers = suite('the JSON of an answer');

const texts: [string, string, unknown][] = [
  ['plain', '{"a":1}', { a: 1 }],
  ['fenced', '```json\n{"a":1}\n```', { a: 1 }],
  ['fenced without a language', '```\n{"a":1}```', { a: 1 }],
  ['fenced, with talk around it', 'Sure!\n```json\n{"a":1}\n```\nAnything else?', { a: 1 }],
  ['with talk before and after', 'Here: {"a":{"b":"}"}} and so on }', { a: { b: '}' } }],
  ['twice', '{"a":1}{"a":2}', { a: 1 }],
  ['with a fence in a string', '{"a":"```x```"}', { a: '```x```' }],
  ['with an escaped quote', 'x {"a":"\\"}"} y', { a: '"}' }],
  ['cut off', '{"a":"b', undefined],
  ['no JSON at all', 'I cannot do that.', undefined],
];

for (const [name, text, want] of texts) answers(`${name} is read`, () => assert.equal(parseAnswer(text), want));

models.run();
answers.run();
