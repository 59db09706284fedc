/** From Read.ai's bodies to `meeting.summarized` where no model has a say. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Body, fixture, northwind, type Options, summarizeWith } from '../helpers/summarize-meeting.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';

let standin: GeminiStandin;

const plain = suite('summarize: without a model');
plain.before.each(async () => {
  standin = await startGemini();
});
plain.after.each(() => standin.stop());

const summarize = (body: Body, options: Options = {}) => summarizeWith(standin, body, options);

plain("a meeting carries Read.ai's own summary and action items, and says that no model was asked", async () => {
  const meeting = await summarize(northwind(), { withModel: false });
  assert.equal(meeting, {
    meetingId: '01KFXNORTHWIND0DISCOVERY01',
    revision: 1,
    happenedAt: '2026-11-19T14:32:00Z',
    title: 'GoVisually demo: Northwind Foods',
    startedAt: '2026-11-19T14:00:00Z',
    reportUrl: 'https://app.read.ai/analytics/meetings/01KFXNORTHWIND0DISCOVERY01',
    attendees: [
      { name: 'Laura Brandt', email: 'laura.brandt@northwind-foods.example', side: 'external' },
      { name: 'Jonas Keller', email: 'jonas.keller@northwind-foods.example', side: 'external' },
      { name: 'Rita Moreau', email: 'rita@vendor.example', side: 'internal' },
    ],
    summary:
      'Laura Brandt and Jonas Keller of Northwind Foods described how packaging labels are approved by email. They want a pilot in January and a decision before the spring range.',
    nextSteps: [
      { text: 'Rita sends the security documents and a price for 25 people' },
      { text: 'Laura introduces Rita to the head of quality' },
    ],
  });
  assert.is(standin.calls.length, 0);
});

const keys: [string, number][] = [
  ['readai:meeting_completed:S:r2', 2],
  ['readai:meeting_completed:S:r12', 12],
  ['readai:meeting_completed:S', 1],
];
for (const [key, revision] of keys) {
  plain(`the key ${key} names revision ${revision}`, async () => {
    assert.is((await summarize({ ...northwind(), session_id: 'S' }, { key, withModel: false })).revision, revision);
  });
}

plain('a meeting id that ends like a revision is none', async () => {
  const key = 'readai:meeting_completed:S:r2';
  assert.is((await summarize({ ...northwind(), session_id: 'S:r2' }, { key, withModel: false })).revision, 1);
});

plain("the old service's meeting_id names the meeting; without times the event's own stands", async () => {
  const { session_id: _, end_time: __, start_time: ___, ...body } = northwind();
  const meeting = await summarize({ ...body, meeting_id: 'old-7' }, { withModel: false });
  assert.is(meeting.meetingId, 'old-7');
  assert.is(meeting.happenedAt, '2026-11-23T12:13:20.000Z');
});

const silent: [string, Body][] = [
  ['a meeting in which nobody spoke', fixture('empty-transcript')],
  ['a meeting without a transcript', { ...northwind(), transcript: null }],
  [
    'a meeting with blocks of silence',
    { ...northwind(), transcript: { speaker_blocks: [{ speaker: null, words: '  ' }] } },
  ],
];
for (const [name, body] of silent) {
  plain(`${name}: no model is asked, and there is no MEDDIC`, async () => {
    const meeting = await summarize(body);
    assert.is(meeting.meddic, undefined);
    assert.is(meeting.by, undefined);
    assert.is(meeting.summary, (body.summary as string) ?? '');
    assert.is(standin.calls.length, 0);
  });
}

plain('a meeting among colleagues is skipped with nothing of its content', async () => {
  const meeting = await summarize(fixture('internal-only'));
  assert.equal([meeting.skip, meeting.summary, meeting.nextSteps], ['internal_meeting', '', undefined]);
  assert.is(standin.calls.length, 0);
});

plain('a meeting without an external email is skipped, and no model is asked', async () => {
  for (const body of [
    fixture('null-everything'),
    { ...northwind(), participants: [{ name: 'Guest', email: 'None' }] },
  ]) {
    assert.is((await summarize(body)).skip, 'no_external_email');
  }
  assert.is(standin.calls.length, 0);
});

plain('a report that is no web link is left out', async () => {
  assert.is(
    (await summarize({ ...northwind(), report_url: 'javascript:alert(1)' }, { withModel: false })).reportUrl,
    undefined,
  );
});

plain.run();
