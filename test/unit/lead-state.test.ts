import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { LeadSynced } from '../../src/lib/events.js';
import {
  addLeadId,
  addNote,
  addWhole,
  addWrote,
  joinPlace,
  type LeadState,
  mergeStates,
  nextTurn,
  timeOfTurn,
  turnAt,
  writtenOf,
} from '../../src/lib/lead-state.js';

const test = suite('what is remembered of a lead');

type Wrote = NonNullable<LeadSynced['wrote']>[string];

const value = fc.constantFrom('2aaaaaaaaaa', '1bbbbbbbbbb', '0cccccccccc', '2dddddddddd');
const fields = fc.dictionary(fc.constantFrom('Company', 'Phone', 'Last_Name'), value, { maxKeys: 3 });
const order = fc.constantFrom('o1', 'o2', 'o3', 'o4');
const leadId = fc.constantFrom('1', '2', '3');
const seen = fc.dictionary(fc.constantFrom('Company', 'Phone'), fc.constantFrom('', 'ssssssssss'), { maxKeys: 2 });

type Receipt = { wrote: Wrote & { turn: string }; leadId: string };

/** Writes under one address, each in a turn of its own, as leases see to; a try without a receipt comes with a later one. */
const receipts = fc
  .array(
    fc.record({
      ...{
        order,
        fields,
        leadId,
        seen,
        stood: fc.boolean(),
        derived: fc.dictionary(fc.constant('Lead_Status'), value),
      },
      tried: fc.option(fc.record({ fields, leadId }), { nil: undefined }),
    }),
    { maxLength: 6 },
  )
  .map((list) =>
    list.map(
      ({ stood, leadId, tried, seen, ...wrote }, index): Receipt => ({
        leadId,
        wrote: {
          ...wrote,
          turn: turnAt(1_001 + 2 * index),
          ...(tried && { earlier: [{ ...tried, turn: turnAt(1_000 + 2 * index) }] }),
          bookings: { [`b${index % 2}`]: [`state of ${wrote.order}.${index}`, ''] },
          order: `${wrote.order}.${index}`,
          ...(Object.keys(seen).length > 0 && { seen }),
          ...(stood ? { stood: { [`note${index}`]: 'n' } } : {}),
        },
      }),
    ),
  );

const fold = (list: readonly Receipt[], state: LeadState = {}) =>
  list.reduce((known, { wrote, leadId }) => {
    const next = addLeadId(addWrote(known, wrote), leadId, wrote.turn, wrote.seen);
    return addNote(next, 'meeting', {
      id: `note of ${wrote.turn}`,
      revision: wrote.order.length,
      place: joinPlace(wrote),
    });
  }, state);

/** What stands in the lead that was found last, told from the whole story. */
function standingOf(list: readonly Receipt[]): Record<string, string> {
  const writes = list.flatMap(({ wrote, leadId }) => [
    ...(wrote.earlier ?? []).map(({ leadId, fields = {}, turn }) => ({ leadId, turn, fields })),
    { leadId, turn: wrote.turn, fields: { ...wrote.fields, ...wrote.derived } },
  ]);
  const last = writes.at(-1)?.leadId;
  const own = writes.slice(writes.findLastIndex(({ leadId }) => leadId !== last) + 1);
  return Object.assign({}, ...own.map(({ fields }) => fields));
}

test('the receipts of a lead may come in any order, in part more than once, and be merged in any way', () => {
  fc.assert(
    fc.property(receipts, fc.array(fc.nat(), { minLength: 12, maxLength: 12 }), fc.nat(6), (list, keys, cut) => {
      const shuffled = list
        .map((receipt, index) => [keys[index]!, receipt] as const)
        .sort(([a], [b]) => a - b)
        .map(([, receipt]) => receipt);
      const expected = fold(list);
      const standing = Object.assign({}, ...Object.values(expected.written ?? {}));
      assert.equal(standing, standingOf(list), 'of the lead that was found last');
      assert.equal(expected.seen, list.at(-1)?.wrote.seen, 'by the last look');
      assert.equal(fold([...shuffled, ...shuffled.slice(0, cut)]), expected);
      assert.equal(mergeStates(fold(shuffled.slice(0, cut)), fold(shuffled.slice(cut))), expected);
    }),
    { numRuns: 500 },
  );
});

test('what stands in the CRM is the last write, even where it was an older fact', () => {
  const state = fold([
    { leadId: '1', wrote: { order: 'o5', turn: turnAt(1), fields: { Company: '2aaaaaaaaaa' } } },
    { leadId: '1', wrote: { order: 'o3', turn: turnAt(2), fields: { Company: '2dddddddddd' } } },
  ]);
  assert.equal(writtenOf(state, 'Company'), { quality: 2, hash: 'dddddddddd', order: 'o3', turn: turnAt(2) });
});

test('of two notes the one that was written later stands, whatever its revision; without turns the higher revision', () => {
  const first = { id: 'n', revision: 2, place: joinPlace({ order: 'o1', turn: turnAt(1) }) };
  const later = { id: 'n', revision: 1, place: joinPlace({ order: 'o2', turn: turnAt(2) }) };
  const inOrder = addNote(addNote({}, 'meeting', first), 'meeting', later);
  assert.equal(inOrder.notes, { meeting: ['n', 1, 'Leads', later.place] });
  assert.equal(addNote(addNote({}, 'meeting', later), 'meeting', first), inOrder);
  const old: LeadState = { notes: { meeting: ['n', 2] } };
  assert.equal(addNote(old, 'meeting', { id: 'n', revision: 1 }), old);
  assert.is(timeOfTurn(nextTurn(inOrder, 0)), 3, 'the next write is later');
});

test('what was seen is told by the last look alone, however often and in whatever order looks are told', () => {
  const looks: [turn: number, leadId: string, seen: LeadState['seen']][] = [
    [1, '1', { Company: 'aaaaaaaaaa', Phone: '' }],
    [2, '1', { Company: 'bbbbbbbbbb' }],
    [3, '1', undefined],
  ];
  const look = (state: LeadState, [turn, leadId, seen]: (typeof looks)[number]) =>
    addLeadId(state, leadId, turnAt(turn), seen);
  const [first, second, third] = [looks.slice(0, 1), looks.slice(0, 2), looks].map((told) => told.reduce(look, {}));
  assert.equal(first!.seen, { Company: 'aaaaaaaaaa', Phone: '' });
  assert.equal(second!.seen, { Company: 'bbbbbbbbbb' });
  assert.equal(third, { leadId: '1', turn: turnAt(3) }, 'what was put back is a person’s no more');
  assert.equal([...looks].reverse().reduce(look, {}), third);
  assert.equal(looks.slice(0, 2).reduce(look, second!), second, 'twice');
  assert.equal([mergeStates(first!, second!), mergeStates(second!, first!)], [second, second]);
  assert.equal([mergeStates(second!, third!), mergeStates(third!, second!)], [third, third]);
});

test('of two looks in one turn the same is kept whichever is told first', () => {
  const looks = [{ Company: 'aaaaaaaaaa' }, { Company: 'bbbbbbbbbb' }].map((seen) =>
    addLeadId({}, '1', turnAt(1), seen),
  );
  assert.equal(mergeStates(looks[0]!, looks[1]!), mergeStates(looks[1]!, looks[0]!));
});

test('what was seen in another lead under the address is forgotten with it', () => {
  const before = addLeadId({}, '1', turnAt(1), { Company: 'aaaaaaaaaa' });
  const after = addLeadId({}, '2', turnAt(2), { Phone: 'bbbbbbbbbb' });
  const expected = { leadId: '2', turn: turnAt(2), former: turnAt(1), seen: { Phone: 'bbbbbbbbbb' } };
  assert.equal([mergeStates(before, after), mergeStates(after, before)], [expected, expected]);
  assert.is(addLeadId(before, '2', turnAt(2)).seen, undefined);
});

test('receipts from before turns were kept stay readable, and give way to later writes', () => {
  const old: LeadState = {
    leadId: '1',
    written: { o2: { Company: '2aaaaaaaaaa' }, '~': { Lead_Status: '2bbbbbbbbbb' } },
  };
  assert.equal(writtenOf(old, 'Company'), { quality: 2, hash: 'aaaaaaaaaa', order: 'o2', turn: '' });
  assert.is(
    writtenOf(addWrote(old, { order: 'o1', fields: { Company: '2cccccccccc' } }), 'Company')?.hash,
    'aaaaaaaaaa',
  );
  const written = addWrote(old, { order: 'o1', turn: turnAt(5), fields: { Company: '2cccccccccc' } });
  assert.is(writtenOf(written, 'Company')?.hash, 'cccccccccc');
  const replaced = addLeadId(old, '2', turnAt(5));
  assert.equal([replaced.leadId, writtenOf(replaced, 'Company')], ['2', undefined]);
});

test('a turn is later than all that is known, though the clock went back', () => {
  const state = addWrote({}, { order: 'o1', turn: turnAt(5_000), fields: { Company: '2aaaaaaaaaa' } });
  assert.is(timeOfTurn(nextTurn(state, 7_000)), 7_000);
  assert.is(timeOfTurn(nextTurn(state, 4_000)), 5_001);
  assert.is(timeOfTurn(nextTurn(addWhole(state, turnAt(9_000)), 4_000)), 9_001);
  assert.is(timeOfTurn(undefined), 0);
});

test.run();
