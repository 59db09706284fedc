/**
 * The points at which a process may die, stage by stage: each boundary between two steps is a message on a wire, and each
 * message has two sides, before it had an effect and after it had one but before the process knew.
 */
import type { CrashPoint } from '../harness/crash.js';
import type { Matcher } from '../harness/links.js';
import type { Passage } from '../harness/wire.js';

export type StageName = 'ingest' | 'enrich' | 'summarize' | 'crm-sync' | 'alert' | 'health' | 'projector';

const before = (point: string, matcher: Matcher): CrashPoint => ({
  point: `before ${point}`,
  ...matcher,
  when: 'before',
});
const after = (point: string, matcher: Matcher): CrashPoint => ({ point: `after ${point}`, ...matcher, when: 'after' });
const around = (point: string, matcher: Matcher): CrashPoint[] => [before(point, matcher), after(point, matcher)];

/** What a settlement does stands in its arguments. */
const settles = (group: string, kind: string): Matcher => ({
  name: 'settle',
  group,
  where: ({ argv }) => argv.includes(kind),
});

const replyOf = ({ reply }: Passage) => reply?.toString('latin1', 0, 200) ?? '';

/** Entries were handed out, and whoever was to have them died. */
const handsOut = (group: string): CrashPoint =>
  after('new entries were handed out', { name: 'take', group, where: (of) => /^\*[1-9]/.test(replyOf(of)) });

const MODEL = /^POST .*:generateContent$/;
const asksModel = (type: string): Matcher => ({ link: 'gemini', name: MODEL, where: () => type !== '' });

const leases = (verb: string): Matcher => ({ name: 'lease-leads', where: ({ argv }) => argv[0] === verb });
const savesIntents = (kind: 'lead' | 'note' | 'receipt'): Matcher => ({
  name: 'save-intents',
  where: ({ argv }) => kindOfIntent(argv.join(' ')) === kind,
});

/** A note that is about to be written has no id yet. */
function kindOfIntent(text: string): 'lead' | 'note' | 'receipt' {
  if (!text.includes('"notes"')) return 'lead';
  return /\[null,/.test(text) ? 'note' : 'receipt';
}

export const CRASH_POINTS: Record<StageName, CrashPoint[]> = {
  ingest: [
    ...around('a booking is appended', { name: 'append', where: ({ keys }) => keys[0]!.endsWith('events:calendly') }),
    ...around('a meeting is appended', { name: 'append', where: ({ keys }) => keys[0]!.endsWith('events:readai') }),
  ],
  enrich: [
    after('a wait ended, as there are new entries', { name: 'xread', where: (of) => /^[*%][1-9]/.test(replyOf(of)) }),
    handsOut('enrich'),
    ...around('the model is asked', asksModel('booking')),
    ...around('the follow-on is written and the entry acknowledged', settles('enrich', 'done')),
    ...around('a failed attempt is parked', settles('enrich', 'park')),
    ...around('what is parked is looked for', { name: 'take-due', group: 'enrich' }),
    after('a retry that was due was handed out', {
      name: 'take-due',
      group: 'enrich',
      where: (of) => /^\*3\r\n:\d+\r\n:-?\d+\r\n\*[1-9]/.test(replyOf(of)),
    }),
    ...around('a terminal failure is written', settles('enrich', 'fail')),
    ...around('what is held is kept alive', { name: 'keep', group: 'enrich' }),
    after("a dead worker's entries were taken over", {
      name: 'reclaim',
      group: 'enrich',
      where: (of) => /^\*3\r\n\$\d+\r\n[\d-]+\r\n\*[1-9]/.test(replyOf(of)),
    }),
    ...around('entries are handed back at a shutdown', { name: 'hand-back', group: 'enrich' }),
  ],
  summarize: [
    handsOut('summarize'),
    ...around('the model is asked about a meeting', asksModel('meeting')),
    ...around('the summary is written and the entry acknowledged', settles('summarize', 'done')),
  ],
  'crm-sync': [
    handsOut('crm-sync'),
    ...around('the leases of the leads are taken', leases('take')),
    ...around('the leases are kept', leases('keep')),
    ...around('an access token is fetched', { link: 'zoho', name: 'POST /oauth/v2/token' }),
    ...around('the leads are looked up', { link: 'zoho', name: 'POST /crm/v8/coql' }),
    ...around('the intent to write a lead is saved', savesIntents('lead')),
    ...around('the leads are upserted', { link: 'zoho', name: 'POST /crm/v8/Leads/upsert' }),
    ...around('the intent to write a note is saved', savesIntents('note')),
    ...around('the notes are created', { link: 'zoho', name: 'POST /crm/v8/Notes' }),
    ...around('notes are updated', { link: 'zoho', name: 'PUT /crm/v8/Notes' }),
    ...around('the receipts of notes are saved', savesIntents('receipt')),
    ...around('the leases are given up', leases('release')),
    ...around('lead.synced and the mark are written and the entry acknowledged', settles('crm-sync', 'done')),
    ...around('the intents are forgotten', { name: 'drop-intents' }),
  ],
  alert: [
    handsOut('alert'),
    ...around('one of the messages of the minute is taken', { name: 'incr' }),
    ...around('the mark that a message is on its way is set', marksAlert('set')),
    ...around('Slack is asked whether it is up, as an earlier message may stand there', {
      link: 'slack',
      name: /auth\.test$/,
    }),
    ...around('the message is posted', { link: 'slack', name: /chat\.postMessage$/ }),
    ...around('alert.sent is written and the failure acknowledged', settles('alert', 'done')),
    ...around('the mark is cleared', marksAlert('unlink')),
  ],
  health: [
    ...around('a provider is paused', { name: 'pause' }),
    ...around('an entry is put to wait for the provider', settles('crm-sync', 'wait')),
    after('a waiting entry was let through as a probe', {
      name: 'take-due',
      group: 'crm-sync',
      where: (of) => /^\*3\r\n:\d+\r\n:-?\d+\r\n\*[1-9]/.test(replyOf(of)),
    }),
    ...around('the pause is ended', { name: 'resume' }),
  ],
  projector: [
    after('the lease of the projector was taken', {
      name: 'hold-lease',
      where: ({ reply }) => reply?.toString('latin1') === ':1\r\n',
    }),
    ...around('folded states are saved', { name: 'project' }),
  ],
};

function marksAlert(name: 'set' | 'unlink'): Matcher {
  return { name, where: ({ keys }) => keys[0]!.includes('ledger:alert:') };
}
