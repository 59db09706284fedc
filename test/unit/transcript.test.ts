import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { attendeesOf as attendanceOf, makeSideOfSpeaker } from '../../src/consumers/summarize/attendees.js';
import { estimateTokens, renderTranscript, type Turn, turnsOf } from '../../src/consumers/summarize/transcript.js';
import { type ReadaiMeetingWebhook, readaiMeetingWebhook } from '../../src/lib/payloads/readai.js';
import { readFixture } from '../helpers/webhook-events.js';

const INTERNAL = ['vendor.example'];
const karen = { name: 'Karen Liu', email: 'Karen@Brightwater.example' };
const rita = { name: 'Rita Rep', email: 'rep@vendor.example' };

type Block = [string | null, string];

function meeting(participants: object[], blocks: Block[] = [], owner: object | null = rita): ReadaiMeetingWebhook {
  return readaiMeetingWebhook.parse({
    session_id: 'S1',
    participants,
    owner,
    transcript: {
      speaker_blocks: blocks.map(([name, words]) => ({ speaker: name === null ? null : { name }, words })),
    },
  });
}

const attendeesOf = (of: ReadaiMeetingWebhook, internal: string[]) => attendanceOf(of, internal).attendees;

const attending = suite('who was there');

attending('each participant stands once, with side and lower-cased email', () => {
  assert.equal(attendeesOf(meeting([karen, rita, { ...karen, email: 'karen@brightwater.example' }]), INTERNAL), [
    { name: 'Karen Liu', email: 'karen@brightwater.example', side: 'external' },
    { name: 'Rita Rep', email: 'rep@vendor.example', side: 'internal' },
  ]);
});

attending('a participant without an email is of an unknown side, "None" being none', () => {
  const [guest] = attendeesOf(meeting([{ name: 'Guest One', email: 'None' }]), INTERNAL);
  assert.equal(guest, { name: 'Guest One', side: 'unknown' });
});

attending('a missing email is taken from the only other entry of that name', () => {
  const [first] = attendeesOf(meeting([{ name: 'Rita Rep', email: null }]), INTERNAL);
  assert.equal(first, { name: 'Rita Rep', email: 'rep@vendor.example', side: 'internal' });
});

attending('a missing email stays missing where two of that name have one each', () => {
  const namesake = { name: 'Karen Liu', email: 'karen@other.example' };
  const attendees = attendeesOf(meeting([{ name: 'Karen Liu', email: null }, karen, namesake]), INTERNAL);
  assert.equal(attendees[0], { name: 'Karen Liu', side: 'unknown' });
});

attending('an owner who is no participant is no attendee', () => {
  assert.equal(attendeesOf(meeting([karen], [], { name: 'Prof Oak', email: 'oak@lab.example' }), INTERNAL).length, 1);
});

attending('an owner who is a participant of another domain is a customer', () => {
  const body = readFixture('readai/meeting-end-meddic-demo.json');
  const [owner] = attendeesOf(readaiMeetingWebhook.parse(body), INTERNAL);
  assert.equal(owner, { name: 'Owen Pryce', email: 'owen.pryce@harbourtea.example', side: 'external' });
});

attending('a room and a note taker are nobody, a person of a note taker is somebody', () => {
  const machines = [
    { name: 'Room Alps', email: 'c_188@resource.calendar.google.com' },
    { name: 'Fred - Notetaker', email: 'fred@fireflies.ai' },
    { name: 'Gail Gong', email: 'gail@gong.io' },
  ];
  assert.equal(
    attendeesOf(meeting(machines), INTERNAL).map(({ name }) => name),
    ['Gail Gong'],
  );
});

attending('without domains of our own the owner alone is one of us', () => {
  const sides = attendeesOf(meeting([karen, rita]), []).map(({ side }) => side);
  assert.equal(sides, ['external', 'internal']);
});

attending('a speaker who is no participant is added, of an unknown side', () => {
  const attendees = attendeesOf(
    meeting(
      [karen, rita],
      [
        ['Dana Ortiz', 'Hello.'],
        ['Karen', 'Hi.'],
      ],
    ),
    INTERNAL,
  );
  assert.equal(attendees.at(-1), { name: 'Dana Ortiz', side: 'unknown' });
  assert.is(attendees.length, 3);
});

attending('of a crowd as many are listed as can be, and how many are not is told', () => {
  const crowd = Array.from({ length: 2_500 }, (_, index) => ({ name: `Guest ${index}`, email: `g${index}@b.example` }));
  const { attendees, leftOut } = attendanceOf(meeting(crowd, [['Dana Ortiz', 'Hello.']]), INTERNAL);
  assert.is(attendees.length, 100);
  assert.is(attendees.length + leftOut, 2_501);
  assert.is(attendanceOf(meeting([karen, rita]), INTERNAL).leftOut, 0);
});

const sides = suite('on whose side a speaker is');

const people = meeting([karen, rita, { name: 'João Angelo Silva', email: 'joao@brightwater.example' }]);
const labels: [string | undefined, string][] = [
  ['Karen Liu', 'external'],
  ['karen  LIU (Guest)', 'external'],
  ['Liu, Karen', 'external'],
  ['Joao Angelo', 'external'],
  ['Rita Rep | Vendor', 'internal'],
  ['Karen', 'unknown'],
  ['Meeting Room 3', 'unknown'],
  ['Speaker 1', 'unknown'],
  [undefined, 'unknown'],
];

for (const [label, side] of labels) {
  sides(`"${label}" is ${side}`, () => assert.is(makeSideOfSpeaker(people, INTERNAL)(label), side));
}

sides('a name that a customer and one of us share is unknown', () => {
  const shared = meeting([karen, { name: 'Karen Liu', email: 'karen@vendor.example' }]);
  assert.is(makeSideOfSpeaker(shared, INTERNAL)('Karen Liu'), 'unknown');
});

sides('a name that two customers share is a customer', () => {
  const shared = meeting([karen, { name: 'Karen Liu', email: 'kl@brightwater.example' }]);
  assert.is(makeSideOfSpeaker(shared, INTERNAL)('Karen Liu'), 'external');
});

sides('a name is nobody in a crowd of which not all were looked at', () => {
  const crowd = Array.from({ length: 999 }, (_, index) => ({ name: `Guest ${index}` }));
  assert.is(makeSideOfSpeaker(meeting([karen, ...crowd]), INTERNAL)('Karen Liu'), 'external');
  assert.is(makeSideOfSpeaker(meeting([karen, ...crowd, { name: 'One More' }]), INTERNAL)('Karen Liu'), 'unknown');
});

sides('a name made of words that many have is looked up as any other', () => {
  const many = ['a b', 'a c', 'b c', 'c d'].map((name) => ({ name, email: `${name.replace(' ', '')}@b.example` }));
  const sideOf = makeSideOfSpeaker(meeting([...many, { name: 'a b c', email: 'abc@vendor.example' }]), INTERNAL);
  assert.equal(['a b c', 'b a', 'a b d', 'c b a d', 'd e'].map(sideOf), [
    'internal',
    'external',
    'external',
    'unknown',
    'unknown',
  ]);
});

const turning = suite('a transcript as turns');

turning('what one speaker says in several blocks is one turn; silence is none', () => {
  const turns = turnsOf(
    meeting(
      [karen, rita],
      [
        ['Karen Liu', 'We lose'],
        ['Karen Liu', ' 40 hours. '],
        ['Rita Rep', ''],
        ['Karen Liu', 'A month.'],
        ['Rita Rep', 'Oh.'],
      ],
    ),
    makeSideOfSpeaker(people, INTERNAL),
  );
  assert.equal(turns, [
    { speaker: 'Karen Liu', side: 'external', text: 'We lose 40 hours. A month.' },
    { speaker: 'Rita Rep', side: 'internal', text: 'Oh.' },
  ]);
});

turning('blocks of nobody stay apart: they may be two people', () => {
  const turns = turnsOf(
    meeting(
      [karen],
      [
        [null, 'Yes.'],
        [null, 'No.'],
      ],
    ),
    () => 'unknown',
  );
  assert.equal(
    turns.map(({ speaker, text }) => [speaker, text]),
    [
      ['Unknown speaker', 'Yes.'],
      ['Unknown speaker', 'No.'],
    ],
  );
});

const rendering = suite('what a model reads');

const turn = (side: Turn['side'], text: string): Turn => ({
  speaker: side === 'external' ? 'Karen' : 'Rita',
  side,
  text,
});

rendering('a short transcript is whole, with name and side', () => {
  assert.is(
    renderTranscript([turn('external', 'Hello.'), turn('internal', 'Hi.')], 1000),
    'Karen (customer): Hello.\nRita (us): Hi.',
  );
});

rendering('a long one keeps beginning, end, and what the customer said with the turns around it', () => {
  const turns = Array.from({ length: 400 }, (_, i) =>
    turn('internal', `Turn ${i} of ours, which goes on for quite a while here.`),
  );
  turns[200] = turn('external', 'The customer says what matters.');
  const text = renderTranscript(turns, 1000);
  assert.ok(estimateTokens(text) <= 1000);
  for (const kept of ['Turn 0 ', 'Turn 199 ', 'what matters', 'Turn 201 ', 'Turn 399 ']) assert.match(text, kept);
  for (const gone of ['Turn 150 ', 'Turn 250 ']) assert.not.match(text, gone);
  assert.match(text, /\n\[\d+ turns left out\]\n/);
});

rendering('one endless turn is cut, too', () => {
  const text = renderTranscript([turn('external', 'word '.repeat(100_000))], 1000);
  assert.ok(text.startsWith('Karen (customer): word'));
  assert.ok(estimateTokens(text) <= 1000);
});

rendering('an hour of talk with unknown speakers stays under a small budget', () => {
  const body = readaiMeetingWebhook.parse(readFixture('readai/meeting-end-long-transcript.json'));
  const turns = turnsOf(body, makeSideOfSpeaker(body, INTERNAL));
  const text = renderTranscript(turns, 3000);
  assert.ok(estimateTokens(text) <= 3000);
  assert.ok(estimateTokens(text) > 2000);
});

attending.run();
sides.run();
turning.run();
rendering.run();
