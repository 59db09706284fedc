/** Every sample of a webhook, sent through the whole pipeline: what a salesperson finds in the CRM afterwards. */
import { readdirSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { STREAMS } from '../../src/lib/events.js';
import { fixture, type Pipeline, startPipeline } from '../helpers/pipeline.js';
import { startRedis } from '../helpers/redis-server.js';
import { type GeminiStandin, startGemini } from '../standins/gemini.js';
import { startZoho, type ZohoStandin } from '../standins/zoho.js';

const SHOWN = ['Email', 'First_Name', 'Last_Name', 'Company', 'Lead_Status', 'Phone'] as const;

/** The fields of `SHOWN` that are filled; the email names the lead. */
type Lead = { [K in (typeof SHOWN)[number]]?: string } & { Email: string };

type Sample = {
  /** Paths below `test/fixtures`, in the order in which they are sent. */
  files: readonly string[];
  /** Outcome and reason of each file's `lead.synced`, as in `nothing_to_write: no_email`. */
  synced: readonly string[];
  leads?: readonly Lead[];
  /** Whose note, and its title. */
  notes?: readonly [email: string, title: string][];
  /** Something that must stand in the text of every note. */
  said?: RegExp;
  /** Something that must stand in no note. */
  unsaid?: RegExp;
  withoutGemini?: boolean;
};

const KAREN: Lead = {
  Email: 'karen@brightwater.example',
  First_Name: 'Karen',
  Last_Name: 'Liu',
  Company: 'brightwater.example',
};
const DISCOVERY: [string, string] = ['karen@brightwater.example', '2026-11-10 Discovery: Brightwater <> Vendor'];
const TESS: Lead = { Email: 'tess@kestrel.example', First_Name: 'Tess', Last_Name: 'Alder', Company: 'Kestrel & Co' };
const PAULO: Lead = {
  Email: 'paulo.teixeira@olaria.example',
  First_Name: 'Paulo',
  Last_Name: 'Teixeira',
  Company: 'Olaria',
};
const INES: Lead = { Email: 'ines@tinta.example', First_Name: 'Inês', Last_Name: 'Prado', Company: 'tinta.example' };
const MARY: Lead = {
  Email: 'm.okafor@lumen-press.example',
  First_Name: 'Mary',
  Last_Name: 'Okafor',
  Company: 'Lumen-press',
};
const BOOKED = 'Meeting Booked';

const MOVED = [
  'calendly/reschedule-0-original-created.json',
  'calendly/reschedule-1-new-created.json',
  'calendly/reschedule-2-old-canceled.json',
];
const MOVED_NOTE: [string, string] = ['tess@kestrel.example', '2026-09-30 Moved: “Product tour”'];

const SAMPLES: Record<string, Sample> = {
  'a booking, and then its cancellation': {
    files: ['calendly/invitee-created.json', 'calendly/invitee-canceled.json'],
    synced: ['written', 'written'],
    leads: [{ ...PAULO, Lead_Status: 'Meeting Canceled' }],
    notes: [['paulo.teixeira@olaria.example', '2026-09-02 Canceled: “Product tour”']],
    said: /By: Paulo Teixeira \(invitee\)\nReason: The kiln broke, I will book again/,
  },
  'a booking with everything that a payload may hold': {
    files: ['calendly/invitee-created-full-schema.json'],
    synced: ['written'],
    leads: [
      {
        Email: 'hanne.dahl@fjordkaffe.example',
        First_Name: 'Hanne',
        Last_Name: 'Dahl',
        Company: 'Fjordkaffe',
        Lead_Status: BOOKED,
      },
    ],
  },
  'a place in a group event; a guest is no lead': {
    files: ['calendly/invitee-created-group-event.json'],
    synced: ['written'],
    leads: [
      { Email: 'bea@example.org', First_Name: 'Bea', Last_Name: 'Group', Company: 'Example', Lead_Status: BOOKED },
    ],
  },
  'a booking by somebody without a name': {
    files: ['calendly/invitee-created-missing-names.json'],
    synced: ['written'],
    leads: [{ Email: 'jdoe42@example.net', Last_Name: 'jdoe42', Company: 'Example', Lead_Status: BOOKED }],
  },
  'a booking by a role address that stands for the name, too': {
    files: ['calendly/invitee-created-name-is-email.json'],
    synced: ['written'],
    leads: [{ Email: 'sales@example.net', Last_Name: 'sales', Lead_Status: BOOKED }],
  },
  'a booking with null where a list and an object should be': {
    files: ['calendly/invitee-created-tracking-null.json'],
    synced: ['written'],
    leads: [
      {
        Email: 'alex.moreno@example.com',
        First_Name: 'Alex',
        Last_Name: 'Moreno',
        Company: 'Example',
        Lead_Status: BOOKED,
      },
    ],
  },
  'a call with two hosts, a phone number and a payment that failed': {
    files: ['calendly/invitee-created-multi-host-phone-payment.json'],
    synced: ['written'],
    leads: [
      {
        Email: 'alex.moreno@example.com',
        First_Name: 'Omar',
        Last_Name: 'Haddad',
        Company: 'Example',
        Lead_Status: BOOKED,
        Phone: '+1 404-555-1234',
      },
    ],
  },
  'a booking in many scripts': {
    files: ['calendly/invitee-created-unicode.json'],
    synced: ['written'],
    leads: [
      {
        Email: 'zoe@exämple.example',
        First_Name: 'Zoë',
        Last_Name: 'Æther-Nguyễn 李小龍 🚀',
        Company: 'Łódź & Søn «GmbH»',
        Lead_Status: BOOKED,
      },
    ],
  },
  'two bookings of one person, one canceled by the host, the other missed': {
    files: [
      'calendly/invitee-created-zoom.json',
      'calendly/invitee-canceled-zoom.json',
      'calendly/no-show-created-zoom.json',
    ],
    synced: ['written', 'written', 'written'],
    leads: [{ ...MARY, Lead_Status: 'No Show' }],
    notes: [
      ['m.okafor@lumen-press.example', '2026-09-05 Canceled: “Product tour”'],
      ['m.okafor@lumen-press.example', '2026-09-08 No-show: “Product tour”'],
    ],
    unsaid: /tide-42-lamp|zoom\.us|cancellations|reschedulings/,
  },
  'a no-show that is taken back': {
    files: ['calendly/no-show-created.json', 'calendly/no-show-deleted.json'],
    synced: ['written', 'written'],
    leads: [{ ...INES, Lead_Status: BOOKED }],
    notes: [
      ['ines@tinta.example', '2026-09-08 No-show taken back: “Product tour”'],
      ['ines@tinta.example', '2026-09-08 No-show: “Product tour”'],
    ],
  },
  'a no-show that is taken back before it was told': {
    files: ['calendly/no-show-deleted.json', 'calendly/no-show-created.json'],
    synced: ['written', 'written'],
    leads: [{ ...INES, Lead_Status: BOOKED }],
    notes: [
      ['ines@tinta.example', '2026-09-08 No-show taken back: “Product tour”'],
      ['ines@tinta.example', '2026-09-08 No-show: “Product tour”'],
    ],
  },
  'a booking that is moved is no cancellation': {
    files: MOVED,
    synced: ['written', 'written', 'nothing_to_write: rescheduled'],
    leads: [{ ...TESS, Lead_Status: BOOKED }],
    notes: [MOVED_NOTE],
    said: /Now on: Thursday 8 October 2026, 16:00 \(Europe\/London\)/,
  },
  'a booking that is moved, told backwards': {
    files: MOVED.toReversed(),
    synced: ['nothing_to_write: rescheduled', 'written', 'nothing_to_write: unchanged'],
    leads: [{ ...TESS, Lead_Status: BOOKED }],
    notes: [MOVED_NOTE],
  },
  'a moved booking that is canceled in the end': {
    files: [...MOVED, 'calendly/reschedule-3-then-canceled.json'],
    synced: ['written', 'written', 'nothing_to_write: rescheduled', 'written'],
    leads: [{ ...TESS, Lead_Status: 'Meeting Canceled' }],
    notes: [MOVED_NOTE, ['tess@kestrel.example', '2026-10-01 Canceled: “Product tour”']],
  },
  'a moved booking that is canceled in the end, told backwards': {
    files: ['calendly/reschedule-3-then-canceled.json', ...MOVED.toReversed()],
    synced: ['written', 'nothing_to_write: rescheduled', 'written', 'nothing_to_write: unchanged'],
    leads: [{ ...TESS, Lead_Status: 'Meeting Canceled' }],
    notes: [MOVED_NOTE, ['tess@kestrel.example', '2026-10-01 Canceled: “Product tour”']],
  },
  'a form that asks for the address': {
    files: ['calendly/routing-form-with-email.json'],
    synced: ['written'],
    leads: [{ Email: 'noor@saffron.example', First_Name: 'Noor', Last_Name: 'Haddad', Company: 'Saffron Foods' }],
  },
  'a form that does not': {
    files: ['calendly/routing-form.json'],
    synced: ['nothing_to_write: no_email'],
  },
  'a meeting that is pushed again with other content': {
    files: ['readai/meeting-end-base.json', 'readai/meeting-end-redelivery-same-session.json'],
    synced: ['written', 'written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /SUMMARY\nKaren wants a pilot\. \(report regenerated\)\n/,
    withoutGemini: true,
  },
  'the same the other way round: what was pushed last stands': {
    files: ['readai/meeting-end-redelivery-same-session.json', 'readai/meeting-end-base.json'],
    synced: ['written', 'written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /SUMMARY\nKaren wants a pilot\.\n/,
    withoutGemini: true,
  },
  'a meeting in which nobody spoke': {
    files: ['readai/meeting-end-empty-transcript.json'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /^Read\.ai's own summary, not assessed by a model/,
    unsaid: /MEDDIC/,
  },
  'a long meeting, with a speaker whom nobody knows': {
    files: ['readai/meeting-end-long-transcript.json'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /Customer: Karen Liu .*\nUs: Rita Rep .*\nSide not known: Dana Ortiz/,
  },
  'a meeting with orders to the model in it': {
    files: ['readai/meeting-end-prompt-injection.json'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /Economic buyer \(confirmed\): .*Dana Ortiz/,
    unsaid: /hacker|<!channel>/,
  },
  'a meeting with three of one customer, one of whom recorded it': {
    files: ['readai/meeting-end-meddic-demo.json'],
    synced: ['written'],
    leads: [
      { Email: 'owen.pryce@harbourtea.example', First_Name: 'Owen', Last_Name: 'Pryce' },
      { Email: 'ravi.menon@harbourtea.example', First_Name: 'Ravi', Last_Name: 'Menon' },
      { Email: 'sofia.lind@harbourtea.example', First_Name: 'Sofia', Last_Name: 'Lind' },
    ].map((lead) => ({ ...lead, Company: 'harbourtea.example' })),
    notes: ['owen.pryce', 'ravi.menon', 'sofia.lind'].map((name) => [
      `${name}@harbourtea.example`,
      '2026-09-10 Tour for the artwork team',
    ]),
    said: /NOT KNOWN YET, TO ASK NEXT\nEconomic buyer:/,
  },
  'a meeting in many scripts, whose owner was not there': {
    files: ['readai/meeting-end-unicode.json'],
    synced: ['written'],
    leads: [
      { Email: 'lukasz@zak-druk.example', First_Name: 'Łukasz', Last_Name: 'Żak', Company: 'zak-druk.example' },
      {
        Email: 'zoe@creme-fils.example',
        First_Name: 'Zoë',
        Last_Name: 'Lefèvre-Brûlé',
        Company: 'creme-fils.example',
      },
    ],
    notes: [
      ['lukasz@zak-druk.example', '2026-09-11 Présentation – Crème & Fils ☕'],
      ['zoe@creme-fils.example', '2026-09-11 Présentation – Crème & Fils ☕'],
    ],
    unsaid: /Noyer/,
  },
  'a meeting of which nothing but the owner is known': {
    files: ['readai/meeting-end-null-everything.json'],
    synced: ['nothing_to_write: no_external_email'],
  },
  'a meeting among colleagues': {
    files: ['readai/meeting-end-internal-only.json'],
    synced: ['nothing_to_write: internal_meeting'],
  },
};

/** No use, or no real meeting: they do not even reach a stream. */
const IGNORED = [
  'calendly/unknown-event.json',
  'readai/meeting-start.json',
  'readai/meeting-end-2025.json',
  'readai/meeting-end-2026.json',
];

const test = suite('samples, from webhook to CRM');

let redis: Awaited<ReturnType<typeof startRedis>>;
let gemini: GeminiStandin;
let prefixes = 0;
/** A worker takes its time to stop: the next sample does not wait for that. */
const stopping: Promise<unknown>[] = [];

test.before(async () => {
  redis = await startRedis();
  gemini = await startGemini();
});
test.after(async () => {
  await Promise.all(stopping);
  await gemini.stop();
  await redis.stop();
});

async function inPipeline(withGemini: boolean, run: (pipeline: Pipeline, zoho: ZohoStandin) => Promise<void>) {
  const zoho = await startZoho();
  const pipeline = await startPipeline({
    ...{ redisUrl: redis.url, keyPrefix: `s${(prefixes += 1)}:`, zoho },
    ...(withGemini && { geminiUrl: gemini.url }),
  });
  try {
    await run(pipeline, zoho);
  } finally {
    stopping.push(pipeline.stop().then(() => zoho.stop()));
  }
}

const sourceOf = (file: string) => (file.startsWith('calendly/') ? 'calendly' : 'readai');

function shownLeads(zoho: ZohoStandin): Lead[] {
  const shown = zoho.leads().map((lead) => {
    const filled = SHOWN.filter((field) => lead[field] !== undefined).map((field) => [field, lead[field]]);
    return Object.fromEntries(filled) as Lead;
  });
  return shown.sort((a, b) => (a.Email < b.Email ? -1 : 1));
}

function shownNotes(zoho: ZohoStandin): [string, string][] {
  const emails = new Map(zoho.leads().map(({ id, Email }) => [id, String(Email)]));
  const shown = zoho.notes().map(({ parentId, title }): [string, string] => [emails.get(parentId) ?? '?', title]);
  return shown.sort((a, b) => (a.join() < b.join() ? -1 : 1));
}

for (const [name, { files, synced, leads = [], notes = [], said, unsaid, withoutGemini = false }] of Object.entries(
  SAMPLES,
)) {
  test(name, async () => {
    await inPipeline(!withoutGemini, async (pipeline, zoho) => {
      const told: string[] = [];
      for (const file of files) {
        const { outcome, reason } = await pipeline.synced(await pipeline.send(sourceOf(file), fixture(file)));
        told.push(reason === undefined ? outcome : `${outcome}: ${reason}`);
      }
      assert.equal(told, synced);
      assert.equal(shownLeads(zoho), leads);
      assert.equal(shownNotes(zoho), notes);
      for (const { content } of zoho.notes()) {
        if (said) assert.match(content, said);
        if (unsaid) assert.not.match(content, unsaid);
      }
    });
  });
}

test('what is no use to anybody is not taken in, and nothing is appended', async () => {
  await inPipeline(true, async (pipeline, zoho) => {
    for (const file of IGNORED) {
      const answer = await pipeline.send(sourceOf(file), fixture(file)).catch((error: Error) => error.message);
      assert.is(answer, 'not taken in', file);
    }
    const lengths = await Promise.all(STREAMS.map((stream) => pipeline.redis.xlen(pipeline.keys.stream(stream))));
    assert.ok(lengths.every((length) => length === 0));
    assert.equal([zoho.leads(), zoho.notes()], [[], []]);
  });
});

test('every sample stands in the table', () => {
  const named = new Set([...Object.values(SAMPLES).flatMap(({ files }) => files), ...IGNORED]);
  const present = ['calendly', 'readai'].flatMap((folder) =>
    readdirSync(new URL(`../fixtures/${folder}`, import.meta.url)).map((file) => `${folder}/${file}`),
  );
  assert.equal(
    present.filter((file) => !named.has(file)),
    [],
  );
});

test.run();
