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

/** The fields of `SHOWN`, in that order; `undefined` where nothing stands. */
type Lead = (string | undefined)[];

type Sample = {
  /** Paths below `test/fixtures` without their ending, in the order in which they are sent. */
  files: readonly string[];
  /** Outcome and reason of each file's `lead.synced`, as in `nothing_to_write: no_email`. */
  synced: readonly string[];
  leads?: readonly Lead[];
  /** Whose note, and its title. */
  notes?: readonly [email: string, title: string][];
  /** What must stand in every note, and what in none. */
  said?: RegExp;
  unsaid?: RegExp;
  withoutGemini?: boolean;
};

const BOOKED = 'Meeting Booked';
const CANCELED = 'Meeting Canceled';

const KAREN: Lead = ['karen@brightwater.example', 'Karen', 'Liu', 'brightwater.example'];
const DISCOVERY: [string, string] = ['karen@brightwater.example', '2026-11-10 Discovery: Brightwater <> Vendor'];
const TESS: Lead = ['tess@kestrel.example', 'Tess', 'Alder', 'Kestrel & Co'];
const TESS_MOVED: [string, string] = ['tess@kestrel.example', '2026-09-30 Moved: “Product tour”'];
const TESS_CANCELED: [string, string] = ['tess@kestrel.example', '2026-10-01 Canceled: “Product tour”'];
const INES: Lead = ['ines@tinta.example', 'Inês', 'Prado', 'tinta.example', BOOKED];
const INES_NOTES: [string, string][] = [
  ['ines@tinta.example', '2026-09-08 No-show taken back: “Product tour”'],
  ['ines@tinta.example', '2026-09-08 No-show: “Product tour”'],
];
const MARY = 'm.okafor@lumen-press.example';

/** Booked, moved (in two halves), and canceled in the end. */
const STORY = ['0-original-created', '1-new-created', '2-old-canceled', '3-then-canceled'].map(
  (part) => `calendly/reschedule-${part}`,
);
const inOrder = (...order: number[]) => order.map((index) => STORY[index]!);

const SAMPLES: Record<string, Sample> = {
  'a booking, and then its cancellation': {
    files: ['calendly/invitee-created', 'calendly/invitee-canceled'],
    synced: ['written', 'written'],
    leads: [['paulo.teixeira@olaria.example', 'Paulo', 'Teixeira', 'Olaria', CANCELED]],
    notes: [['paulo.teixeira@olaria.example', '2026-09-02 Canceled: “Product tour”']],
    said: /By: Paulo Teixeira \(invitee\)\nReason: The kiln broke, I will book again/,
  },
  'a cancellation that comes before its booking': {
    files: ['calendly/invitee-canceled', 'calendly/invitee-created'],
    synced: ['written', 'written'],
    leads: [['paulo.teixeira@olaria.example', 'Paulo', 'Teixeira', 'Olaria', CANCELED]],
    notes: [['paulo.teixeira@olaria.example', '2026-09-02 Canceled: “Product tour”']],
  },
  'a booking with everything that a payload may hold': {
    files: ['calendly/invitee-created-full-schema'],
    synced: ['written'],
    leads: [['hanne.dahl@fjordkaffe.example', 'Hanne', 'Dahl', 'Fjordkaffe', BOOKED]],
  },
  'a place in a group event; a guest is no lead': {
    files: ['calendly/invitee-created-group-event'],
    synced: ['written'],
    leads: [['bea@example.org', 'Bea', 'Group', 'Example', BOOKED]],
  },
  'a booking by somebody without a name': {
    files: ['calendly/invitee-created-missing-names'],
    synced: ['written'],
    leads: [['jdoe42@example.net', undefined, 'jdoe42', 'Example', BOOKED]],
  },
  'a booking by a role address that stands for the name, too': {
    files: ['calendly/invitee-created-name-is-email'],
    synced: ['written'],
    leads: [['sales@example.net', undefined, 'sales', undefined, BOOKED]],
  },
  'a booking with null where a list and an object should be': {
    files: ['calendly/invitee-created-tracking-null'],
    synced: ['written'],
    leads: [['alex.moreno@example.com', 'Alex', 'Moreno', 'Example', BOOKED]],
  },
  'a call with two hosts, a phone number and a payment that failed': {
    files: ['calendly/invitee-created-multi-host-phone-payment'],
    synced: ['written'],
    leads: [['alex.moreno@example.com', 'Omar', 'Haddad', 'Example', BOOKED, '+1 404-555-1234']],
  },
  'a booking in many scripts': {
    files: ['calendly/invitee-created-unicode'],
    synced: ['written'],
    leads: [['zoe@exämple.example', 'Zoë', 'Æther-Nguyễn 李小龍 🚀', 'Łódź & Søn «GmbH»', BOOKED]],
  },
  'two bookings of one person, one canceled by the host, the other missed': {
    files: ['calendly/invitee-created-zoom', 'calendly/invitee-canceled-zoom', 'calendly/no-show-created-zoom'],
    synced: ['written', 'written', 'written'],
    leads: [[MARY, 'Mary', 'Okafor', 'Lumen-press', 'No Show']],
    notes: [
      [MARY, '2026-09-05 Canceled: “Product tour”'],
      [MARY, '2026-09-08 No-show: “Product tour”'],
    ],
    unsaid: /tide-42-lamp|zoom\.us|cancellations|reschedulings/,
  },
  'a no-show that is taken back': {
    files: ['calendly/no-show-created', 'calendly/no-show-deleted'],
    synced: ['written', 'written'],
    leads: [INES],
    notes: INES_NOTES,
  },
  'a no-show that is taken back before it was told': {
    files: ['calendly/no-show-deleted', 'calendly/no-show-created'],
    synced: ['written', 'written'],
    leads: [INES],
    notes: INES_NOTES,
  },
  'a booking that is moved is no cancellation': {
    files: inOrder(0, 1, 2),
    synced: ['written', 'written', 'nothing_to_write: rescheduled'],
    leads: [[...TESS, BOOKED]],
    notes: [TESS_MOVED],
    said: /Now on: Thursday 8 October 2026, 16:00 \(Europe\/London\)/,
  },
  'a booking that is moved, told backwards': {
    files: inOrder(2, 1, 0),
    synced: ['nothing_to_write: rescheduled', 'written', 'nothing_to_write: unchanged'],
    leads: [[...TESS, BOOKED]],
    notes: [TESS_MOVED],
  },
  'a moved booking that is canceled in the end': {
    files: inOrder(0, 1, 2, 3),
    synced: ['written', 'written', 'nothing_to_write: rescheduled', 'written'],
    leads: [[...TESS, CANCELED]],
    notes: [TESS_MOVED, TESS_CANCELED],
  },
  'a moved booking that is canceled in the end, told backwards': {
    files: inOrder(3, 2, 1, 0),
    synced: ['written', 'nothing_to_write: rescheduled', 'written', 'nothing_to_write: unchanged'],
    leads: [[...TESS, CANCELED]],
    notes: [TESS_MOVED, TESS_CANCELED],
  },
  'a moved booking whose cancellation is told before the move': {
    files: inOrder(0, 3, 1, 2),
    synced: ['written', 'written', 'written', 'nothing_to_write: rescheduled'],
    leads: [[...TESS, CANCELED]],
    notes: [TESS_MOVED, TESS_CANCELED],
  },
  'a form that asks for the address': {
    files: ['calendly/routing-form-with-email'],
    synced: ['written'],
    leads: [['noor@saffron.example', 'Noor', 'Haddad', 'Saffron Foods']],
  },
  'a form that does not': {
    files: ['calendly/routing-form'],
    synced: ['nothing_to_write: no_email'],
  },
  'a meeting that is pushed again with other content': {
    files: ['readai/meeting-end-base', 'readai/meeting-end-redelivery-same-session'],
    synced: ['written', 'written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /SUMMARY\nKaren wants a pilot\. \(report regenerated\)\n/,
    withoutGemini: true,
  },
  'the same the other way round: what was pushed last stands': {
    files: ['readai/meeting-end-redelivery-same-session', 'readai/meeting-end-base'],
    synced: ['written', 'written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /SUMMARY\nKaren wants a pilot\.\n/,
    withoutGemini: true,
  },
  'a meeting in which nobody spoke': {
    files: ['readai/meeting-end-empty-transcript'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /^Read\.ai's own summary, not assessed by a model/,
    unsaid: /MEDDIC/,
  },
  'a long meeting, with a speaker whom nobody knows': {
    files: ['readai/meeting-end-long-transcript'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /Customer: Karen Liu .*\nUs: Rita Rep .*\nSide not known: Dana Ortiz/,
  },
  'a meeting with orders to the model in it': {
    files: ['readai/meeting-end-prompt-injection'],
    synced: ['written'],
    leads: [KAREN],
    notes: [DISCOVERY],
    said: /Economic buyer \(confirmed\): .*Dana Ortiz/,
    unsaid: /hacker|<!channel>/,
  },
  'a meeting with three of one customer, one of whom recorded it': {
    files: ['readai/meeting-end-meddic-demo'],
    synced: ['written'],
    leads: [
      ['owen.pryce@harbourtea.example', 'Owen', 'Pryce', 'harbourtea.example'],
      ['ravi.menon@harbourtea.example', 'Ravi', 'Menon', 'harbourtea.example'],
      ['sofia.lind@harbourtea.example', 'Sofia', 'Lind', 'harbourtea.example'],
    ],
    notes: ['owen.pryce', 'ravi.menon', 'sofia.lind'].map((name) => [
      `${name}@harbourtea.example`,
      '2026-09-10 Tour for the artwork team',
    ]),
    said: /NOT KNOWN YET, TO ASK NEXT\nEconomic buyer:/,
  },
  'a meeting in many scripts, whose owner was not there': {
    files: ['readai/meeting-end-unicode'],
    synced: ['written'],
    leads: [
      ['lukasz@zak-druk.example', 'Łukasz', 'Żak', 'zak-druk.example'],
      ['zoe@creme-fils.example', 'Zoë', 'Lefèvre-Brûlé', 'creme-fils.example'],
    ],
    notes: [
      ['lukasz@zak-druk.example', '2026-09-11 Présentation – Crème & Fils ☕'],
      ['zoe@creme-fils.example', '2026-09-11 Présentation – Crème & Fils ☕'],
    ],
    unsaid: /Noyer/,
  },
  'a meeting of which nothing but the owner is known': {
    files: ['readai/meeting-end-null-everything'],
    synced: ['nothing_to_write: no_external_email'],
  },
  'a meeting among colleagues': {
    files: ['readai/meeting-end-internal-only'],
    synced: ['nothing_to_write: internal_meeting'],
  },
};

/** No use, or no real meeting: they do not even reach a stream. */
const IGNORED = [
  'calendly/unknown-event',
  'readai/meeting-start',
  'readai/meeting-end-2025',
  'readai/meeting-end-2026',
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
  prefixes += 1;
  const pipeline = await startPipeline({
    ...{ redisUrl: redis.url, keyPrefix: `s${prefixes}:`, zoho },
    ...(withGemini && { geminiUrl: gemini.url }),
  });
  try {
    await run(pipeline, zoho);
  } finally {
    stopping.push(pipeline.stop().then(() => zoho.stop()));
  }
}

const send = (pipeline: Pipeline, file: string) =>
  pipeline.send(file.startsWith('calendly/') ? 'calendly' : 'readai', fixture(`${file}.json`));

function shownLeads(zoho: ZohoStandin): Lead[] {
  const shown = zoho.leads().map((lead) => SHOWN.map((field) => lead[field] as string | undefined));
  return shown.sort((a, b) => (a[0]! < b[0]! ? -1 : 1));
}

function shownNotes(zoho: ZohoStandin): [string, string][] {
  const emails = new Map(zoho.leads().map(({ id, Email }) => [id, String(Email)]));
  const shown = zoho.notes().map(({ parentId, title }): [string, string] => [emails.get(parentId) ?? '?', title]);
  return shown.sort((a, b) => (a.join() < b.join() ? -1 : 1));
}

const filled = (lead: Lead) => SHOWN.map((_, index) => lead[index]);

for (const [name, sample] of Object.entries(SAMPLES)) {
  test(name, async () => {
    await inPipeline(sample.withoutGemini !== true, async (pipeline, zoho) => {
      const told: string[] = [];
      for (const file of sample.files) {
        const { outcome, reason } = await pipeline.synced(await send(pipeline, file));
        told.push(reason === undefined ? outcome : `${outcome}: ${reason}`);
      }
      assert.equal(told, sample.synced);
      assert.equal(shownLeads(zoho), (sample.leads ?? []).map(filled));
      assert.equal(shownNotes(zoho), sample.notes ?? []);
      for (const { content } of zoho.notes()) {
        if (sample.said) assert.match(content, sample.said);
        if (sample.unsaid) assert.not.match(content, sample.unsaid);
      }
    });
  });
}

test('what is no use to anybody is not taken in, and nothing is appended', async () => {
  await inPipeline(true, async (pipeline, zoho) => {
    for (const file of IGNORED) {
      assert.is(await send(pipeline, file).catch((error: Error) => error.message), 'not taken in', file);
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
    present.filter((file) => !named.has(file.replace('.json', ''))),
    [],
  );
});

test.run();
