/**
 * The points at which a process may die, stage by stage: each boundary between two steps is a message on a wire, and each
 * message has two sides, before it had an effect and after it had one but before the process knew.
 */
import type { GroupName } from '../../../src/lib/events.js';
import type { CrashPoint } from '../harness/crash.js';
import type { Matcher } from '../harness/links.js';
import type { Passage } from '../harness/wire.js';
import type { Provocation } from './provoke.js';

export type StageName = 'ingest' | GroupName | 'health' | 'projector' | 'runtime';

export type Point = CrashPoint & {
  /** What must be done so that it is reached; nothing where usual traffic does. */
  by: readonly Provocation[];
  /** For the long form alone: seldom reached, much the same as another, or nothing was changed by it that does not run out. */
  isRare: boolean;
};

type Needs = { by?: readonly Provocation[]; isRare?: boolean };

const at =
  (when: 'before' | 'after') =>
  (point: string, matcher: Matcher, { by = [], isRare = false }: Needs = {}): Point => ({
    ...{ link: 'redis', ...matcher, when, by, isRare },
    point: `${when} ${point}`,
  });
const before = at('before');
const after = at('after');

/** Before it is mostly as after what comes before it. */
function around(point: string, matcher: Matcher, needs: Needs = {}): Point[] {
  return [before(point, matcher, { ...needs, isRare: true }), after(point, matcher, needs)];
}

function onBothSides(point: string, matcher: Matcher, needs: Needs = {}): Point[] {
  return [before(point, matcher, needs), after(point, matcher, needs)];
}

/** What a settlement does stands in its arguments. */
function settles(group: GroupName, kind: 'done' | 'fail' | 'park' | 'wait'): Matcher {
  return { name: 'settle', group, where: ({ argv }) => argv.includes(kind) };
}

function headOf({ reply }: Passage): string {
  return reply?.toString('latin1', 0, 200) ?? '';
}

const ENTRY_ID = /^\d+-\d+$/;
const GAVE_ENTRIES = /^\*[1-9]/;
const GAVE_DUE_ENTRIES = /^\*\d\r\n:\d+\r\n:-?\d+\r\n\*[1-9]/;
const TOOK_OVER_ENTRIES = /^\*\d\r\n\$\d+\r\n[\d-]+\r\n\*[1-9]/;
const ADOPTED_ENTRIES = /^\*\d\r\n\*[1-9]/;

/** What befalls an entry in every group. In the short form it befalls those of one group. */
function lifecycle(group: GroupName, { isRare }: { isRare: boolean }): Point[] {
  const declined: Needs = { isRare, by: DECLINED_IN[group] };
  const refused: Needs = { isRare, by: REFUSED_IN[group] };
  const failing = group === 'alert' ? (['blocked booking'] as const) : [];
  return [
    after('new entries were handed out', { name: 'take', group, where: (of) => GAVE_ENTRIES.test(headOf(of)) }),
    ...around(
      'what is held is kept alive',
      { name: 'keep', group, where: ({ argv }) => argv.some((arg) => ENTRY_ID.test(arg)) },
      { isRare, by: ['slow', ...failing] },
    ),
    ...around('a failed attempt is parked', settles(group, 'park'), declined),
    ...around('what is parked is looked for', { name: 'take-due', group }, { isRare: true }),
    after(
      'a retry that was due was handed out',
      { name: 'take-due', group, where: (of) => GAVE_DUE_ENTRIES.test(headOf(of)) },
      declined,
    ),
    after(
      "a dead worker's entries were taken over",
      { name: 'reclaim', group, where: (of) => TOOK_OVER_ENTRIES.test(headOf(of)) },
      { isRare, by: ['slow', 'death', ...failing] },
    ),
    ...around(
      'entries are handed back at a shutdown',
      { name: 'hand-back', group },
      { isRare, by: ['slow', 'shutdown', ...failing] },
    ),
    ...(group === 'alert' ? [] : around('a terminal failure is written', settles(group, 'fail'), refused)),
  ];
}

const DECLINED_IN: Record<GroupName, readonly Provocation[]> = {
  enrich: ['declined booking'],
  summarize: ['declined meeting'],
  'crm-sync': ['one lead'],
  alert: ['blocked booking', 'busy channel'],
};
const REFUSED_IN: Record<GroupName, readonly Provocation[]> = {
  enrich: ['blocked booking'],
  summarize: ['blocked meeting'],
  'crm-sync': ['refused'],
  alert: [],
};

const MODEL = /^POST .*:generateContent$/;

function asksModel(tag: 'booking' | 'transcript'): Matcher {
  return { link: 'gemini', name: MODEL, where: ({ body = '' }) => body.includes(`<${tag}>`) };
}

function callsCrm(name: string): Matcher {
  return { link: 'zoho', name };
}

function leases(verb: 'take' | 'keep' | 'release'): Matcher {
  return { name: 'lease-leads', where: ({ argv }) => argv[0] === verb };
}

function savesIntents(kind: 'lead' | 'note' | 'receipt'): Matcher {
  return { name: 'save-intents', where: ({ argv }) => kindOfIntent(argv.join(' ')) === kind };
}

/** A note that is about to be written has no id yet. */
function kindOfIntent(text: string): 'lead' | 'note' | 'receipt' {
  if (!text.includes('"notes"')) return 'lead';
  return /\[null,/.test(text) ? 'note' : 'receipt';
}

function marksAlert(name: 'set' | 'unlink'): Matcher {
  return { name, where: ({ keys }) => keys[0]!.includes('ledger:alert:') };
}

function asksSlack(name: RegExp): Matcher {
  return { link: 'slack', name };
}

function notesStart(state: 'begun' | 'alone'): Matcher {
  return { name: 'note-start', where: ({ argv }) => argv[4] === state };
}

const OUTAGE: Needs = { by: ['outage'] };
const FAILURE: Needs = { by: ['blocked booking'] };

export const CRASH_POINTS: Record<StageName, Point[]> = {
  ingest: [
    ...onBothSides('a booking is appended', {
      name: 'append',
      where: ({ keys }) => keys[0]!.endsWith('events:calendly'),
    }),
    ...onBothSides('a meeting is appended', {
      name: 'append',
      where: ({ keys }) => keys[0]!.endsWith('events:readai'),
    }),
  ],
  enrich: [
    after(
      'a wait ended, as there are new entries',
      { name: 'xread', where: (of) => /^[*%][1-9]/.test(headOf(of)) },
      { isRare: true },
    ),
    ...lifecycle('enrich', { isRare: false }),
    ...around('the model is asked about a booking', asksModel('booking'), { isRare: true }),
    ...onBothSides('the follow-on is written and the entry acknowledged', settles('enrich', 'done')),
  ],
  summarize: [
    ...lifecycle('summarize', { isRare: true }),
    ...around('the model is asked about a meeting', asksModel('transcript'), { isRare: true }),
    ...onBothSides('the summary is written and the entry acknowledged', settles('summarize', 'done')),
  ],
  'crm-sync': [
    ...lifecycle('crm-sync', { isRare: true }),
    ...around('the leases of the leads are taken', leases('take')),
    ...around('the leases are kept', leases('keep'), { by: ['slow'] }),
    ...around('an access token is fetched', callsCrm('POST /oauth/v2/token'), { by: ['expired token'] }),
    ...around('the leads are looked up', callsCrm('POST /crm/v8/coql'), { isRare: true }),
    ...around('the intent to write a lead is saved', savesIntents('lead')),
    ...around('the leads are upserted', callsCrm('POST /crm/v8/Leads/upsert')),
    ...around('the intent to write a note is saved', savesIntents('note')),
    ...around('the notes are created', callsCrm('POST /crm/v8/Notes')),
    ...around('notes are updated', callsCrm('PUT /crm/v8/Notes')),
    ...around('the receipts of notes are saved', savesIntents('receipt')),
    ...around('the leases are given up', leases('release'), { isRare: true }),
    ...onBothSides('lead.synced and the mark are written and the entry acknowledged', settles('crm-sync', 'done')),
    ...around('the intents are forgotten', { name: 'drop-intents' }, { isRare: true }),
  ],
  alert: [
    ...lifecycle('alert', { isRare: true }).map((point) => ({
      ...point,
      by: [...point.by, 'blocked booking' as const],
    })),
    ...around('one of the messages of the minute is taken', { name: 'take-single' }, { ...FAILURE, isRare: true }),
    ...around('a failure is noted as one of a storm', { name: 'note-storm' }, FAILURE),
    ...around('it is looked whether a storm is over', { name: 'end-storm' }, { isRare: true }),
    ...around('the mark that a message is on its way is set', marksAlert('set'), FAILURE),
    ...around('Slack is asked whether it is up, as an earlier message may stand there', asksSlack(/auth\.test$/), {
      by: ['blocked booking', 'lost message'],
      isRare: true,
    }),
    ...around('the message is posted', asksSlack(/chat\.postMessage$/), FAILURE),
    ...onBothSides('alert.sent is written and the failure acknowledged', settles('alert', 'done'), FAILURE),
    ...around('the mark is cleared', marksAlert('unlink'), FAILURE),
  ],
  health: [
    ...around('a provider is paused', { name: 'pause' }, OUTAGE),
    ...around('an entry is put to wait for the provider', settles('crm-sync', 'wait'), OUTAGE),
    after(
      'a waiting entry was let through as a probe',
      { name: 'take-due', group: 'crm-sync', where: (of) => GAVE_DUE_ENTRIES.test(headOf(of)) },
      OUTAGE,
    ),
    ...around('the pause is ended', { name: 'resume' }, OUTAGE),
  ],
  projector: [
    after('the lease of the projector was taken', {
      name: 'hold-lease',
      where: (of) => of.keys[0]!.endsWith('lease:projector') && headOf(of) === ':1\r\n',
    }),
    ...around('the lease of the projector is given up', { name: 'release-lease' }, { by: ['shutdown'] }),
    ...around('folded states are saved', { name: 'project' }),
  ],
  runtime: [
    ...around('groups are made where they are missing', { name: 'ensure-groups' }, { by: ['shutdown'] }),
    ...around('it is noted how far a group is', { name: 'save-cursors' }),
    ...around('a share of what a provider allows is asked for', { name: 'share-limit' }, { isRare: true }),
    ...around('it is looked for what was handed out unheard', { name: 'adopt' }, { by: ['reconnect'], isRare: true }),
    after(
      'what was handed out unheard was found',
      { name: 'adopt', where: (of) => ADOPTED_ENTRIES.test(headOf(of)) },
      { by: ['lost reply'] },
    ),
    ...around('claims are restored', { name: 'restore-claims' }, { by: ['slow', 'groups gone'] }),
    ...around('what was in a crash before begins', notesStart('begun'), { by: ['slow', 'death'] }),
    ...around('a suspect begins to run alone', notesStart('alone'), { by: ['slow', 'two deaths'] }),
    ...around('a worker leaves its group', { name: 'remove-consumer' }, { by: ['shutdown'] }),
    ...around('dead consumers are removed', { name: 'remove-dead-consumers' }, { isRare: true }),
  ],
};

const READS = 'it changes nothing';
const OF_CONNECTION = 'it concerns the connection, which dies with the process';
const RUNS_OUT = 'what is not given up or kept runs out by itself';
const OPERATORS = 'an operator sends it: operations.test.ts, and the redrive in crash-points-crm.test.ts';

/** Sent, and no point of its own: why nothing depends on whether a process dies there. */
export const NO_POINTS: Record<string, string> = {
  ...allAre(READS, 'get mget hget hmget hgetall hlen exists pttl xrange xrevrange xlen xinfo xpending zcard zrange'),
  ...allAre(READS, 'info config time skim count-deletions replay-load identify'),
  'GET /crm/v8/settings/fields': READS,
  'GET /crm/v8/Leads': READS,
  'GET /crm/v8/Leads/{id}/Notes': READS,
  ...allAre(OF_CONNECTION, 'client hello ping quit evalsha'),
  ...allAre(RUNS_OUT, 'del pexpire ready release-lease'),
  eval: 'it keeps and locks the token of the CRM, each for a time',
  'find-vanished': 'what it has reported it does not report again: vanished.test.ts',
  ...allAre(
    OPERATORS,
    'redrive replay remember-replay forget-replay record-operation trim restore-chain begin-swap swap-projection change-rebuilt',
  ),
};

function allAre(reason: string, names: string): Record<string, string> {
  return Object.fromEntries(names.split(' ').map((name) => [name, reason]));
}
