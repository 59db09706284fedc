import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readaiMeetingWebhook } from '../../src/lib/payloads/readai.js';
import { report } from '../helpers/webhooks.js';

const test = suite('what Read.ai may write in several ways');

const read = (over: Record<string, unknown>) => readaiMeetingWebhook.parse(report(over));
const block = (over: object) => ({ transcript: { speaker_blocks: [{ words: 'Hello', ...over }] } });
const firstBlock = (over: object) => read(block(over)).transcript?.speaker_blocks[0];

const MS = 1_794_322_800_500;
const TIMES: [what: string, given: unknown, expected: number | undefined][] = [
  ['milliseconds', MS, MS],
  ['milliseconds as text', String(MS), MS],
  ['seconds', 1_794_322_800, 1_794_322_800_000],
  ['seconds as text', '1794322800', 1_794_322_800_000],
  ['seconds with a fraction', 1_794_322_800.5, MS],
  ['no time', undefined, undefined],
  ['null', null, undefined],
  ['a text that is no number', 'soon', undefined],
];
for (const [what, given, expected] of TIMES) {
  test(`a block's time as ${what} is ${expected}`, () => {
    assert.is(firstBlock({ start_time: given })?.start_time, expected);
  });
}

for (const nothing of ['', '  ', 'None', 'none', 'null', null, undefined]) {
  test(`an address that reads ${JSON.stringify(nothing)} is none`, () => {
    const { participants, owner } = read({
      participants: [{ name: 'Ada', email: nothing }],
      owner: { email: nothing },
    });
    assert.equal([participants[0]?.name, participants[0]?.email, owner?.email], ['Ada', undefined, undefined]);
  });
}

test('a hole in a list is no item, and no reason to refuse the meeting', () => {
  const { participants, action_items, transcript } = read({
    participants: [null, { name: 'Ada' }],
    action_items: [null, 'Call'],
    transcript: { speaker_blocks: [null, { words: 'Hello' }] },
  });
  assert.equal([participants.length, action_items, transcript?.speaker_blocks.length], [1, ['Call'], 1]);
});

test('a speaker is an object, a text, or nobody', () => {
  const speakers = [{ name: ' Ada ' }, 'Ada', {}, null, undefined].map(
    (speaker) => firstBlock({ speaker })?.speaker?.name,
  );
  assert.equal(speakers, ['Ada', 'Ada', undefined, undefined, undefined]);
});

test('topics and action items are objects or texts, and blank ones are left out', () => {
  const items = [{ text: 'One' }, 'Two', { text: null }, ' ', {}];
  const { topics, action_items, key_questions } = read({ topics: items, action_items: items, key_questions: null });
  assert.equal([topics, action_items, key_questions], [['One', 'Two'], ['One', 'Two'], []]);
});

test('the older shape lacks names in parts, platform and request id', () => {
  const { request_id, platform, platform_meeting_id, ...older } = report({
    participants: [{ name: 'Ada Lovelace', email: 'ada@analytical.example' }],
  });
  const meeting = readaiMeetingWebhook.parse(older);
  assert.equal([meeting.request_id, meeting.platform, meeting.platform_meeting_id], [undefined, undefined, undefined]);
  assert.is(meeting.participants[0]?.first_name, undefined);
});

test.run();
