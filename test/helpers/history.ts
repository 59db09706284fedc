/** A pipeline whose consumers do as the test says, fed through ingest's own append: a history for commands over streams. */
import { makeAppend, shortHash, type WebhookEvent } from '../../src/lib/append.js';
import { makeChains } from '../../src/lib/chain.js';
import { defineConsumer } from '../../src/lib/consumer.js';
import { RetryableError, TerminalError } from '../../src/lib/errors.js';
import type { Projection } from '../../src/lib/projector.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { projections } from '../../src/projections/index.js';
import { waitFor } from './wait-for.js';
import { booking, startTestWorker } from './worker.js';

const TTL_S = 3_600;

/** What the stand-in stages do with the events of a person: by the beginning of the email. */
export type Behaviour = 'refused' | 'crmrefused' | 'stuck' | 'flaky' | '';

export type History = Awaited<ReturnType<typeof startHistory>>;

export async function startHistory(options: {
  redisUrl: string;
  keyPrefix: string;
  env?: Record<string, string>;
  /** All of them unless told otherwise. */
  projections?: readonly Projection[];
}) {
  /** `isMended`: nothing is refused any more. `outcome`: what crm-sync says of what it did. */
  const stage = { isMended: false, outcome: 'written' as 'written' | 'dry_run' };
  const handled: { group: string; event: string; replay: string | undefined }[] = [];
  const env = { IDEMPOTENCY_TTL_DAYS: String(TTL_S / 86_400), ...options.env };
  const worker = await startTestWorker({ projections, ...options, env, consumers: makeStages(stage, handled) });
  const { redis, keys } = worker;
  const append = makeAppend({ redis, keyPrefix: options.keyPrefix, idempotencyTtlS: TTL_S, timeoutMs: 5_000 });
  const chains = makeChains({ redis, keys });

  return {
    ...worker,
    stage,
    handled,
    append,
    statusOf: async (eventId: string) => (await chains.findChain(eventId))?.status,
    async book(id: string, behaviour: Behaviour = ''): Promise<string> {
      return (await append(bookingEvent(id, behaviour))).eventId!;
    },
    async meet(meeting: string, content: string, requestId: string): Promise<string> {
      return (await append(meetingEvent(meeting, content, requestId))).eventId!;
    },
    async reject(body: string): Promise<string> {
      const answer = await append({
        ...{ kind: 'rejected', source: 'calendly', reason: 'invalid_json', body: Buffer.from(body) },
      });
      return answer.eventId!;
    },
    async ended(eventId: string, status: 'processed' | 'failed' = 'processed'): Promise<void> {
      await waitFor(`${eventId} to be ${status}`, async () => {
        const chain = await chains.findChain(eventId);
        const alerts = chain?.trail.filter(({ type }) => type === 'alert.sent').length;
        const failures = chain?.trail.filter(({ type }) => type === 'event.failed').length;
        return chain?.status === status && alerts === failures;
      });
    },
    /** Waits until the projections are at the ends of the streams. */
    async projected(): Promise<void> {
      await waitFor('the projection', () => isProjected(redis, keys));
    },
  };
}

async function isProjected(redis: RedisClient, keys: History['keys']): Promise<boolean> {
  const positions = await redis.hgetall(keys.projector('lead'));
  for (const stream of ['events:enriched', 'events:summarized', 'events:synced'] as const) {
    const [last] = await redis.xrevrange(keys.stream(stream), '+', '-', 'COUNT', 1);
    if (last !== undefined && positions[stream] !== last[0]) return false;
  }
  return true;
}

export function bookingEvent(id: string, behaviour: Behaviour): WebhookEvent {
  const data = JSON.stringify(booking(id, `${behaviour}${id}@brightwater.example`));
  return {
    ...{ kind: 'event', source: 'calendly', type: 'calendly.invitee.created', otherContent: 'kept' },
    ...{ key: `calendly:invitee.created:${id}`, contentHash: shortHash(data), requestId: undefined },
    data: Buffer.from(data),
  };
}

export function meetingEvent(meeting: string, content: string, requestId: string): WebhookEvent {
  const participants = [{ name: 'Karen Liu', email: `${meeting}@brightwater.example` }];
  const data = JSON.stringify({ session_id: meeting, title: 'A call', summary: content, participants });
  return {
    ...{ kind: 'event', source: 'readai', type: 'readai.meeting_completed', otherContent: 'revision' },
    ...{ key: `readai:meeting_completed:${meeting}`, contentHash: shortHash(data), requestId },
    data: Buffer.from(data),
  };
}

function makeStages(
  stage: { isMended: boolean; outcome: 'written' | 'dry_run' },
  handled: { group: string; event: string; replay: string | undefined }[],
) {
  const flaked = new Set<string>();
  const note = (group: string, { id, fields }: { id: string; fields: Readonly<Record<string, string>> }) => {
    handled.push({ group, event: id, replay: fields.replay });
  };
  return [
    defineConsumer({
      name: 'enrich',
      on: ['calendly.invitee.created'],
      emits: ['lead.enriched'],
      async handle(event) {
        note('enrich', event);
        const email = event.data.payload.email ?? '';
        if (email.startsWith('refused') && !stage.isMended) throw new TerminalError('refused', { code: 'refused' });
        if (email.startsWith('stuck') && !stage.isMended) {
          throw new RetryableError('not now', { code: 'busy', retryAfterMs: 60_000 });
        }
        if (email.startsWith('flaky') && !flaked.has(event.id)) {
          flaked.add(event.id);
          throw new RetryableError('not now', { code: 'busy' });
        }
        const data = { kind: 'booked' as const, happenedAt: event.data.created_at, email, facts: { company: email } };
        return [{ type: 'lead.enriched' as const, data }];
      },
    }),
    defineConsumer({
      name: 'summarize',
      on: ['readai.meeting_completed'],
      emits: ['meeting.summarized'],
      async handle(event) {
        note('summarize', event);
        const meetingId = event.data.session_id!;
        const revision = Number(/:r(\d+)$/.exec(event.key)?.[1] ?? 1);
        const attendees = event.data.participants.map(({ email }) => ({
          name: 'K',
          email: email!,
          side: 'external' as const,
        }));
        const data = { meetingId, revision, happenedAt: event.at, title: 'A call', attendees, summary: 's' };
        return [{ type: 'meeting.summarized' as const, data }];
      },
    }),
    defineConsumer({
      name: 'crm-sync',
      on: ['lead.enriched', 'meeting.summarized'],
      emits: ['lead.synced'],
      async handle(event) {
        note('crm-sync', event);
        const isLead = event.type === 'lead.enriched';
        const email = (isLead ? event.data.email : event.data.attendees[0]?.email) ?? '';
        if (email.startsWith('crmrefused') && !stage.isMended) throw new TerminalError('refused', { code: 'refused' });
        const wrote = { [email]: { order: event.id, fields: { Company: `2${event.id.slice(-10)}` } } };
        const notes = isLead
          ? []
          : [
              {
                leadId: '1',
                noteId: `n${event.id}`,
                action: 'insert' as const,
                email,
                noteKey: event.data.meetingId,
                revision: event.data.revision,
              },
            ];
        const data = {
          outcome: stage.outcome,
          leads: [{ email, leadId: '1', action: 'update' as const }],
          notes,
          wrote,
        };
        return [{ type: 'lead.synced' as const, data }];
      },
    }),
    defineConsumer({
      name: 'alert',
      on: ['event.failed', 'provider.paused', 'provider.resumed'],
      emits: ['alert.sent'],
      async handle(event) {
        note('alert', event);
        const data = { failureId: event.id, eventId: event.id, delivery: 'log' as const };
        return [{ type: 'alert.sent' as const, data }];
      },
    }),
  ];
}
