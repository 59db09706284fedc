import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeEnrich } from '../../src/consumers/enrich.js';
import { makeSummarize } from '../../src/consumers/summarize.js';
import type { Gemini } from '../../src/lib/providers/gemini/gemini.js';
import { readFixture, storedEvent } from '../helpers/webhook-events.js';

const test = suite('what an event needs a provider for');

const gemini = {} as Gemini;
const summarize = makeSummarize({ gemini, internalDomains: ['vendor.example'] });
const enrich = makeEnrich({ gemini, internalDomains: ['vendor.example'] });

const meeting = (over: object) =>
  storedEvent('readai.meeting_completed', { ...readFixture<object>('readai/meeting-end-base.json'), ...over });
const said = (...words: (string | null)[]) => ({
  transcript: { speaker_blocks: words.map((text) => ({ speaker: { name: 'Karen Liu' }, words: text })) },
});

// What is done without a call must neither wait for a provider nor pass for a sign of its life.
test('a meeting needs the model when somebody said something', () => {
  assert.equal(summarize.needs?.(meeting(said('We lose 40 hours a month.'))), ['gemini']);
  for (const silence of [said(), said('', ' \n', null, 'None'), { transcript: null }]) {
    assert.equal(summarize.needs?.(meeting(silence)), []);
  }
});

test('a meeting that goes to nobody needs no model', () => {
  assert.equal(summarize.needs?.(meeting({ participants: [{ email: 'rep@vendor.example' }] })), []);
  assert.equal(summarize.needs?.(meeting({ participants: [{ name: 'Karen Liu', email: null }] })), []);
});

test('without a model nothing needs one', () => {
  const plain = makeSummarize({ gemini: undefined, internalDomains: [] });
  assert.equal(plain.needs?.(meeting({})), []);
});

test('a booking needs the model, a cancellation and a colleague do not', () => {
  const needsOf = (name: string, email?: string) => {
    const body = readFixture<{ payload: object }>(`calendly/${name}.json`);
    const payload = { ...body.payload, ...(email !== undefined && { email }) };
    const type = name === 'invitee-canceled' ? 'calendly.invitee.canceled' : 'calendly.invitee.created';
    return enrich.needs?.(storedEvent(type, { ...body, payload }));
  };
  assert.equal(needsOf('invitee-created'), ['gemini']);
  assert.equal(needsOf('invitee-created', 'rep@VENDOR.example'), []);
  assert.equal(needsOf('invitee-canceled'), []);
});

test.run();
