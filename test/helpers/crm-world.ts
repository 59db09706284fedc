/**
 * `crm-sync` with the runtime played by the test: who takes which events, which worker dies when, and in which order receipts
 * are appended, is the test's choice. Redis, the ledger, the projection and the CRM's stand-in are real.
 */
import { pino } from 'pino';
import { makeFieldMap } from '../../src/consumers/crm-sync/field-map.js';
import type { CrmEvent } from '../../src/consumers/crm-sync/lead-facts.js';
import { makeCrmSync } from '../../src/consumers/crm-sync.js';
import { decodeEntry, encodeFollowOn } from '../../src/lib/codec.js';
import type { Outcome } from '../../src/lib/consumer.js';
import { parseEventId } from '../../src/lib/event-id.js';
import type { LeadSynced, StoredEvent } from '../../src/lib/events.js';
import { makeKeys } from '../../src/lib/keys.js';
import { makeLeadLedger } from '../../src/lib/lead-ledger.js';
import { makeProject, type Projection } from '../../src/lib/projector.js';
import { makeZoho, type Zoho } from '../../src/lib/providers/zoho/crm.js';
import type { RedisClient } from '../../src/lib/redis.js';
import { toRecord } from '../../src/lib/runtime/entry.js';
import { leads, makeReadLeads } from '../../src/projections/leads.js';
import type { ZohoStandin } from '../standins/zoho.js';
import type { TestRedis } from './redis-server.js';

export type CrmWorld = ReturnType<typeof makeCrmWorld>;
export type CrmWorker = ReturnType<CrmWorld['startWorker']>;

type Write = 'upsertLeads' | 'createNotes' | 'updateNotes';

/** Where the process may die: before a write is sent, and after it was answered. */
export type MayDie = (write: Write, when: 'before' | 'after') => boolean;

const FIELD_MAP = {
  industry: { field: 'Industry', owner: 'service' as const },
  'meddic.identifiedPain': { field: 'Pain', owner: 'person' as const },
};

const log = pino({ level: process.env.TEST_LOG ?? 'silent' });
let worlds = 0;

export function makeCrmWorld({
  server,
  zoho,
  leaseMs,
  freshMs,
}: {
  server: TestRedis;
  zoho: ZohoStandin;
  leaseMs: number;
  freshMs?: number;
}) {
  worlds += 1;
  const keys = makeKeys(`w${worlds}:`);
  const redis = server.connect() as unknown as RedisClient;
  const project = makeProject({ redis, keys });
  let made = 0;

  async function readEvent(eventId: string): Promise<StoredEvent | undefined> {
    const { stream, id } = parseEventId(eventId)!;
    const [found] = await redis.xrange(keys.stream(stream), id, id);
    return found && decodeEntry(stream, id, toRecord(found[1]));
  }

  function startWorker(mayDie: MayDie = () => false) {
    made += 1;
    const client = server.connect() as unknown as RedisClient;
    let tellDeath: (word: 'died') => void = () => {};
    const death = new Promise<'died'>((resolve) => {
      tellDeath = resolve;
    });
    const urls = { accountsUrl: zoho.url, apiUrl: zoho.url, apiUrlIsFixed: true };
    const crm = makeZoho({ ...urls, ...zoho.credentials, redis: client, keyPrefix: keys.prefix, timeoutMs: 5_000 });
    const consumer = makeCrmSync({
      log,
      zoho: mortal(crm),
      dryRun: false,
      ledger: makeLeadLedger({ redis: client, keys, owner: `w${made}`, leaseMs }),
      readLeads: makeReadLeads({ redis: client, keys }),
      readFields: async () => undefined,
      fieldMap: makeFieldMap(FIELD_MAP),
      ...(freshMs !== undefined && { freshMs }),
    });

    /** From then on nothing of this worker happens any more, as after SIGKILL. */
    function die(): void {
      client.disconnect();
      tellDeath('died');
    }

    function mortal(real: Zoho): Zoho {
      const wrap = <Args extends unknown[], Answer>(write: Write, call: (...args: Args) => Promise<Answer>) => {
        return async (...args: Args): Promise<Answer> => {
          if (mayDie(write, 'before')) await killed();
          const answer = await call(...args);
          if (mayDie(write, 'after')) await killed();
          return answer;
        };
      };
      return {
        ...real,
        upsertLeads: wrap('upsertLeads', real.upsertLeads),
        createNotes: wrap('createNotes', real.createNotes),
        updateNotes: wrap('updateNotes', real.updateNotes),
      };
    }

    function killed(): Promise<never> {
      die();
      return new Promise(() => {});
    }

    return {
      die,
      stop: () => client.disconnect(),
      /** What a batch came to, or `died`. */
      handle(
        events: readonly CrmEvent[],
        signal = new AbortController().signal,
      ): Promise<Outcome<'lead.synced'>[] | 'died'> {
        const context = {
          signal,
          log,
          now: () => new Date(),
          read: readEvent,
        };
        const deliveries = events.map((event) => ({ event, attempt: 1 }));
        const work = consumer.handleBatch(deliveries, context);
        work.catch(() => {});
        return Promise.race([work, death]);
      },
      /** Appends a receipt, as the settle step does, and forgets the intents unless the worker dies in between. */
      async settle(event: CrmEvent, data: LeadSynced, forgets = true): Promise<void> {
        const provenance = { key: event.key, cause: event.id, attempts: 1, ms: 0, waitedMs: 0, replay: undefined };
        await redis.xadd(
          keys.stream('events:synced'),
          '*',
          ...encodeFollowOn({ type: 'lead.synced', data }, provenance),
        );
        if (forgets) await consumer.settled!([event]).catch(() => {});
      },
    };
  }

  return {
    redis,
    keys,
    startWorker,
    project: () => project(leads as Projection),
    /** Fields and notes as they stand, without what differs from run to run. */
    contents() {
      const byId = new Map(zoho.leads().map(({ id, Email }) => [id, String(Email)]));
      const records = zoho
        .leads()
        .map(({ id: _id, Created_Time: _created, Modified_Time: _modified, ...fields }) => fields);
      const notes = zoho.notes().map(({ parentId, title, content }) => ({ of: byId.get(parentId), title, content }));
      return { leads: sorted(records), notes: sorted(notes) };
    },
    stop: () => redis.disconnect(),
  };
}

function sorted<T>(items: readonly T[]): T[] {
  return [...items]
    .map((item) => [JSON.stringify(item, sortKeys), item] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, item]) => item);
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
