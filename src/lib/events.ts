/**
 * The event catalogue. Read this file first.
 *
 * Every event that may stand in a stream is listed here once: what it means, which stream it lives in, who writes it,
 * which consumer group reads it, and the shape of its data in its present version.
 *
 * The words, used the same way everywhere:
 * - an **event** is a fact; an **entry** is the event as it stands in a **stream**; its **event id** names that entry;
 * - a **webhook event** is what a provider sent: its data is the body exactly as received, later stages refer to it;
 * - a **consumer** is what is done with an event; its **group** is the Redis consumer group of the same name; a
 *   **worker** is a process that runs consumers;
 * - a **chain** is a webhook event and all that it caused; all of its entries carry the same idempotency `key`;
 * - a **try** is one run of an event through the pipeline; a redelivery after a terminal failure starts a new one;
 * - a **dead letter** is an `event.failed`; to **redrive** is to hand its entry to the group again;
 * - a **projection** is a fold over the streams that can be rebuilt from them.
 *
 * A shape only grows: add optional fields. A changed shape gets a new `version` here, and an upcaster in `upcasters.ts`
 * that turns the former one into it; entries already written stay readable for ever.
 * `test/unit/catalogue.test.ts` fails when a consumer and this table disagree.
 */
import { z } from 'zod';
import { PROVIDERS } from './errors.js';
import type { StreamName } from './event-id.js';
import { calendlyInviteeWebhook, calendlyRoutingFormWebhook } from './payloads/calendly.js';
import { readaiMeetingWebhook } from './payloads/readai.js';

export const GROUPS = ['enrich', 'summarize', 'crm-sync', 'alert'] as const;
export type GroupName = (typeof GROUPS)[number];

type Writer = GroupName | 'ingest' | 'worker' | 'operator';

type EventDefinition = {
  /** One sentence in the past tense: the fact this event records. */
  summary: string;
  stream: StreamName;
  writtenBy: readonly Writer[];
  readBy: readonly GroupName[];
  version: number;
  data: z.ZodType;
};

/** ISO 8601 in UTC, as `Date.prototype.toISOString` writes it, or as a provider wrote it. */
const instant = z.string().min(1);
const eventId = z.string().regex(/^[a-z]+-\d+-\d+$/);

/** What is known of a person, by our own field names; `ZOHO_FIELD_MAP` maps them to the CRM's. */
export const leadFacts = z.object({
  firstName: z.string().optional(),
  lastName: z.string().optional(),
  company: z.string().optional(),
  jobTitle: z.string().optional(),
  industry: z.string().optional(),
  website: z.string().optional(),
  phone: z.string().optional(),
  leadSource: z.string().optional(),
  timezone: z.string().optional(),
});
export type LeadFacts = z.infer<typeof leadFacts>;

/** Who judged, by which words, at what cost: it stands in every event that a model touched. */
export const modelUse = z.object({
  model: z.string(),
  prompt: z.string(),
  tokens: z.object({ prompt: z.number(), output: z.number(), thoughts: z.number() }),
});
export type ModelUse = z.infer<typeof modelUse>;

export const BOOKING_KINDS = [
  'booked',
  'rescheduled',
  'moved_away',
  'canceled',
  'no_show',
  'no_show_undone',
  'routed',
] as const;

const leadEnriched = z.object({
  /**
   * `rescheduled`: the new half of a moved booking. `moved_away`: its old half, no cancellation.
   * `routed`: a routing form, with or without a booking.
   */
  kind: z.enum(BOOKING_KINDS),
  /** When it happened, by the sender's clock: the order of a lead's events. */
  happenedAt: instant,
  /** Lower-cased; absent when the form gave none. */
  email: z.string().optional(),
  /** True for a colleague, who is never a lead. */
  internal: z.boolean().optional(),
  /** What the payload itself says: it always wins over the model's. */
  facts: leadFacts,
  /** Absent where no model was asked. */
  assessment: z
    .object({
      by: modelUse,
      facts: leadFacts,
      wants: z.string().optional(),
      fit: z.enum(['strong', 'fair', 'weak', 'unknown']),
      fitReason: z.string().optional(),
    })
    .optional(),
  booking: z
    .object({
      /** Last segment of the invitee's URI. */
      id: z.string(),
      /** The booking that was moved here. */
      replaces: z.string().optional(),
      name: z.string().optional(),
      startsAt: instant.optional(),
      timezone: z.string().optional(),
      host: z.string().optional(),
      place: z.string().optional(),
      reason: z.string().optional(),
      canceledBy: z.string().optional(),
      answers: z.array(z.object({ question: z.string(), answer: z.string() })).optional(),
    })
    .optional(),
});
export type LeadEnriched = z.infer<typeof leadEnriched>;

export const MEDDIC_ELEMENTS = [
  'metrics',
  'economicBuyer',
  'decisionCriteria',
  'decisionProcess',
  'identifiedPain',
  'champion',
] as const;
export type MeddicElement = (typeof MEDDIC_ELEMENTS)[number];

/** Our names of a lead's fields; `ZOHO_FIELD_MAP` and the default map say where they go. */
export type LeadField = keyof LeadFacts | 'description' | 'status' | `meddic.${MeddicElement}`;
export const LEAD_FIELDS: readonly string[] = [
  ...Object.keys(leadFacts.shape),
  ...['description', 'status'],
  ...MEDDIC_ELEMENTS.map((element) => `meddic.${element}`),
];

/** One finding with its evidence. `confirmed`: a customer's own words; `partial`: the speaker's side is not certain. */
const finding = z.object({
  text: z.string(),
  quote: z.string(),
  speaker: z.string(),
  status: z.enum(['confirmed', 'partial']),
});
export type Finding = z.infer<typeof finding>;

const meetingSummarized = z.object({
  meetingId: z.string(),
  /** 1 for the first report of a meeting; a later push with other content counts up. */
  revision: z.number().int().min(1),
  happenedAt: instant,
  title: z.string(),
  startedAt: instant.optional(),
  reportUrl: z.string().optional(),
  attendees: z.array(
    z.object({ name: z.string(), email: z.string().optional(), side: z.enum(['external', 'internal', 'unknown']) }),
  ),
  /** How many people are not listed, where there were too many. */
  attendeesLeftOut: z.number().int().optional(),
  /** Why nothing is to be written to the CRM; absent when something is. */
  skip: z.enum(['internal_meeting', 'no_external_email']).optional(),
  /** Absent where no model was asked: then `summary` is Read.ai's own. */
  by: modelUse.optional(),
  summary: z.string(),
  meddic: z.partialRecord(z.enum(MEDDIC_ELEMENTS), finding).optional(),
  /** For each element without a confirmed finding: the question to ask next. */
  unknown: z.array(z.object({ element: z.enum(MEDDIC_ELEMENTS), ask: z.string() })).optional(),
  objections: z.array(z.object({ text: z.string(), quote: z.string(), speaker: z.string() })).optional(),
  nextSteps: z
    .array(z.object({ text: z.string(), owner: z.string().optional(), due: z.string().optional() }))
    .optional(),
  /** How many findings were dropped because their quote does not stand in the transcript. */
  unproven: z.number().int().optional(),
});
export type MeetingSummarized = z.infer<typeof meetingSummarized>;

/** A CRM value that this service wrote, as `<quality><hash of the value>`; see `lead-state.ts`. */
const writtenFields = z.record(z.string(), z.string());

const leadSynced = z.object({
  outcome: z.enum(['written', 'dry_run', 'nothing_to_write']),
  /** Why nothing was written, or what is out of the ordinary. */
  reason: z.string().optional(),
  /** The leads that were written. */
  leads: z.array(z.object({ email: z.string(), leadId: z.string().nullable(), action: z.enum(['insert', 'update']) })),
  notes: z.array(
    z.object({
      leadId: z.string().nullable(),
      noteId: z.string().nullable(),
      action: z.enum(['insert', 'update']),
      /** Where the note went when the lead had become a contact or deal. */
      module: z.enum(['Leads', 'Contacts', 'Deals']).optional(),
      email: z.string().optional(),
      /** What the note is about, the same for every revision, and which revision it holds. */
      noteKey: z.string().optional(),
      revision: z.number().int().optional(),
    }),
  ),
  /** Leads that were found and needed no change, or had been converted. */
  matched: z.array(z.object({ email: z.string(), leadId: z.string(), converted: z.boolean().optional() })).optional(),
  requests: z
    .array(z.object({ method: z.string(), url: z.string(), body: z.unknown(), assumes: z.string().optional() }))
    .optional(),
  /** What became known of each lead, by email. */
  wrote: z
    .record(
      z.string(),
      z.object({
        /** The place of the event in the order of the lead's events. */
        order: z.string(),
        /** Tells the writes to the lead apart, the later ones being the higher; see `lead-state.ts`. */
        turn: z.string().optional(),
        fields: writtenFields.optional(),
        /** What follows from all events of the lead together, as its status does. */
        derived: writtenFields.optional(),
        /** By booking: its state and start. */
        bookings: z.record(z.string(), z.tuple([z.string(), z.string()])).optional(),
        /** What earlier tries of the event wrote, of which no receipt came. */
        earlier: z
          .array(
            z.object({
              turn: z.string(),
              /** Where it stands: another lead may be found under the address by now. */
              leadId: z.string().optional(),
              fields: writtenFields.optional(),
              derived: writtenFields.optional(),
            }),
          )
          .optional(),
        /**
         * What the look-up saw that this service has not written: by CRM field the hash of the value, '' where a person has
         * cleared what this service wrote. Only of fields that were not written after it; absent where there are none.
         */
        seen: z.record(z.string(), z.string()).optional(),
        /** By note key: the notes of ours that stood on the lead; there when all of its notes were looked at. */
        stood: z.record(z.string(), z.string()).optional(),
      }),
    )
    .optional(),
});
export type LeadSynced = z.infer<typeof leadSynced>;

const providerHealth = z.object({
  provider: z.enum(PROVIDERS),
  kind: z.enum(['outage', 'configuration']),
  reason: z.string(),
  since: instant,
});
export type ProviderHealth = z.infer<typeof providerHealth>;

const eventFailed = z.object({
  /** The entry that failed, not the chain's first. */
  eventId,
  stream: z.string(),
  group: z.enum(GROUPS),
  key: z.string(),
  attempts: z.number().int(),
  error: z.object({ code: z.string(), message: z.string() }),
});
export type EventFailed = z.infer<typeof eventFailed>;

export const catalogue = {
  'calendly.invitee.created': {
    summary: 'A prospect booked a call, or the new half of a moved booking came.',
    stream: 'events:calendly',
    writtenBy: ['ingest'],
    readBy: ['enrich'],
    version: 1,
    data: calendlyInviteeWebhook,
  },
  'calendly.invitee.canceled': {
    summary: 'A booking was canceled, or is the old half of a moved one.',
    stream: 'events:calendly',
    writtenBy: ['ingest'],
    readBy: ['enrich'],
    version: 1,
    data: calendlyInviteeWebhook,
  },
  'calendly.invitee_no_show.created': {
    summary: 'The host marked an invitee as a no-show.',
    stream: 'events:calendly',
    writtenBy: ['ingest'],
    readBy: ['enrich'],
    version: 1,
    data: calendlyInviteeWebhook,
  },
  'calendly.invitee_no_show.deleted': {
    summary: 'The host took the no-show mark back.',
    stream: 'events:calendly',
    writtenBy: ['ingest'],
    readBy: ['enrich'],
    version: 1,
    data: calendlyInviteeWebhook,
  },
  'calendly.routing_form_submission.created': {
    summary: 'Somebody filled in a routing form, with or without booking afterwards.',
    stream: 'events:calendly',
    writtenBy: ['ingest'],
    readBy: ['enrich'],
    version: 1,
    data: calendlyRoutingFormWebhook,
  },
  'readai.meeting_completed': {
    summary: 'Read.ai delivered the report of a meeting, for the first time or again with other content.',
    stream: 'events:readai',
    writtenBy: ['ingest'],
    readBy: ['summarize'],
    version: 1,
    data: readaiMeetingWebhook,
  },
  'lead.enriched': {
    summary: 'It was worked out who the lead of a Calendly event is.',
    stream: 'events:enriched',
    writtenBy: ['enrich'],
    readBy: ['crm-sync'],
    version: 1,
    data: leadEnriched,
  },
  'meeting.summarized': {
    summary: 'A meeting was summarized.',
    stream: 'events:summarized',
    writtenBy: ['summarize'],
    readBy: ['crm-sync'],
    version: 1,
    data: meetingSummarized,
  },
  'lead.synced': {
    summary: 'The CRM holds what the event asks for, or nothing was to be written; the pipeline is done with it.',
    stream: 'events:synced',
    writtenBy: ['crm-sync'],
    readBy: [],
    version: 1,
    data: leadSynced,
  },
  'event.failed': {
    summary: 'A group gave up on an event for good.',
    stream: 'events:failed',
    writtenBy: ['enrich', 'summarize', 'crm-sync'],
    readBy: ['alert'],
    version: 1,
    data: eventFailed,
  },
  'provider.paused': {
    summary: 'Work that needs a provider was paused because the provider is down or misconfigured.',
    stream: 'events:health',
    writtenBy: ['worker'],
    readBy: ['alert'],
    version: 1,
    data: providerHealth,
  },
  'provider.resumed': {
    summary: 'A paused provider answered again.',
    stream: 'events:health',
    writtenBy: ['worker'],
    readBy: ['alert'],
    version: 1,
    data: providerHealth,
  },
  'alert.sent': {
    summary: 'People were told of a failure, or it went to the log.',
    stream: 'events:alerted',
    writtenBy: ['alert'],
    readBy: [],
    version: 1,
    data: z.object({
      failureId: eventId,
      eventId,
      delivery: z.enum(['slack', 'log']),
      ts: z.string().optional(),
      digest: z.boolean().optional(),
    }),
  },
  'webhook.rejected': {
    summary: 'An authentic webhook came that could not be used as it is; its body is kept.',
    stream: 'events:rejected',
    writtenBy: ['ingest'],
    readBy: [],
    version: 1,
    data: z.unknown(),
  },
  'operation.done': {
    summary: 'An operator redrove, replayed, rebuilt, trimmed or dropped something, or the retention did.',
    stream: 'events:operations',
    writtenBy: ['operator', 'worker'],
    readBy: [],
    version: 1,
    data: z.object({
      operation: z.string(),
      /** The operator's name; `retention` where entries were trimmed because of their age alone. */
      by: z.string(),
      count: z.number().int(),
      eventIds: z.array(z.string()).optional(),
      /** What it was done to: a group, a range, the filter of a redrive. */
      details: z.record(z.string(), z.string()).optional(),
    }),
  },
} as const satisfies Record<string, EventDefinition>;

export type EventType = keyof typeof catalogue;
export type EventData<T extends EventType> = z.infer<(typeof catalogue)[T]['data']>;

/** An event as a consumer returns it; the runtime adds the rest. */
export type NewEvent<T extends EventType = EventType> = { [K in T]: { type: K; data: EventData<K> } }[T];

/** An event as it is read back from its entry. */
export type StoredEvent<T extends EventType = EventType> = {
  [K in T]: {
    /** The event id, as in `calendly-1763900000000-0`. */
    id: string;
    type: K;
    /** The idempotency key of the chain. */
    key: string;
    /** When the entry was appended, ISO 8601. */
    at: string;
    /** The event that caused this one; absent on webhook events. */
    cause: string | undefined;
    data: EventData<K>;
    /** All flat fields of the entry but `data`, as they stand in Redis. */
    fields: Readonly<Record<string, string>>;
  };
}[T];

export function isEventType(type: string): type is EventType {
  return Object.hasOwn(catalogue, type);
}

/** The streams of the pipeline, each once, in the order of the flow. */
export const STREAMS = [...new Set(Object.values(catalogue).map((definition): StreamName => definition.stream))];

/** The streams a group reads, in the order of the catalogue. */
export function streamsOf(group: GroupName): StreamName[] {
  const readByGroup = Object.values(catalogue).filter((definition) =>
    (definition.readBy as readonly GroupName[]).includes(group),
  );
  return [...new Set(readByGroup.map((definition): StreamName => definition.stream))];
}

/** The groups that read each stream; streams that none reads are not in it. */
export function readersByStream(): Record<StreamName, GroupName[]> {
  const readers: Record<StreamName, GroupName[]> = {};
  for (const group of GROUPS) {
    for (const stream of streamsOf(group)) readers[stream] = [...(readers[stream] ?? []), group];
  }
  return readers;
}
