/**
 * Carries leads and meeting summaries into Zoho CRM: the lead upserted by email, the summary as a note on the lead of each
 * external participant. It takes what is waiting as one batch; a single event waits for nobody.
 */
import type { Logger } from 'pino';
import { type Context, defineBatchConsumer, type Outcome } from '../lib/consumer.js';
import { OutageError } from '../lib/errors.js';
import type { LeadSynced } from '../lib/events.js';
import { rehearse } from './crm-sync/dry-run.js';
import type { CrmEvent } from './crm-sync/lead-facts.js';
import { type SyncDeps, type SyncItem, syncBatch, syncLeased, toItem } from './crm-sync/sync-batch.js';

export type CrmSyncOptions = Omit<SyncDeps, 'zoho' | 'onLeftOut'> & {
  log: Pick<Logger, 'warn'>;
  /** Absent where no credentials are set. */
  zoho: SyncDeps['zoho'] | undefined;
  dryRun: boolean;
};

const BATCH_MAX = 100;

export function makeCrmSync(given: CrmSyncOptions) {
  const options = { ...given, onLeftOut: makeReport(given.log) };
  const { zoho, ledger, dryRun } = options;
  const needs = zoho === undefined ? [] : (['zoho'] as const);

  const items = new WeakMap<CrmEvent, SyncItem>();

  return defineBatchConsumer({
    name: 'crm-sync',
    on: ['lead.enriched', 'meeting.summarized'],
    emits: ['lead.synced'],
    // What writes nothing neither waits for Zoho nor proves that it is there.
    needs: (event) => (itemOf(event).leads.length > 0 ? needs : []),
    batchMax: BATCH_MAX,
    retriesApart: true,

    async handleBatch(deliveries, context) {
      const batch = deliveries.map(({ event }) => itemOf(event));
      const concerned = batch.filter(({ leads }) => leads.length > 0);
      const outcomes = await syncConcerned(concerned, context);
      return batch.map((item) => outcomes.get(item.event) ?? done(nothingToWrite(item.event)));
    },

    async settled(events) {
      if (dryRun) return;
      const leads = events.flatMap((event) => itemOf(event).leads);
      await ledger.dropIntents(
        leads.flatMap(({ event, email, former = [] }) =>
          [email, ...former.map((lead) => lead.email)].map((address) => [address, event.id] as const),
        ),
      );
    },
  });

  /** Worked out once for each event that is handed over. */
  function itemOf(event: CrmEvent): SyncItem {
    const item = items.get(event) ?? toItem(event);
    items.set(event, item);
    return item;
  }

  async function syncConcerned(
    items: readonly SyncItem[],
    context: Context,
  ): Promise<Map<CrmEvent, Outcome<'lead.synced'>>> {
    if (items.length === 0) return new Map();
    if (dryRun) return rehearse(items, { ...options, zoho }, context);
    if (zoho === undefined) return new Map(items.map(({ event }) => [event, { error: notConfigured() }]));
    return syncUnderLease(items, { ...options, zoho }, context);
  }

  /** A lead's lease covers the CRM write only. */
  async function syncUnderLease(items: readonly SyncItem[], deps: SyncDeps, { signal, log, read }: Context) {
    const lease = await ledger.lease([...new Set(items.flatMap(({ leads }) => leads.map(({ email }) => email)))]);
    try {
      const work = { deps, lease, log, read, signal: AbortSignal.any([signal, lease.signal]) };
      return await syncLeased(items, work, syncBatch);
    } finally {
      await lease.release({ isCutOff: signal.aborted || lease.signal.aborted });
    }
  }
}

/** A field that the CRM has no place for is told once, not with every lead; `gvi doctor` shows them all. */
function makeReport(log: Pick<Logger, 'warn'>): SyncDeps['onLeftOut'] {
  const told = new Set<string>();
  return (field, why) => {
    if (why === 'empty' || told.has(`${field} ${why}`)) return;
    told.add(`${field} ${why}`);
    log.warn({ field, why }, 'Zoho has no place for a value; leads are written without it');
  };
}

function done(data: LeadSynced): Outcome<'lead.synced'> {
  return { events: [{ type: 'lead.synced', data }] };
}

function nothingToWrite(event: CrmEvent): LeadSynced {
  return { outcome: 'nothing_to_write', reason: reasonOf(event), leads: [], notes: [] };
}

function reasonOf(event: CrmEvent): string {
  if (event.type === 'meeting.summarized') return event.data.skip ?? 'no_external_email';
  if (event.data.internal) return 'colleague';
  if (event.data.email === undefined) return 'no_email';
  return 'rescheduled';
}

function notConfigured(): OutageError {
  return new OutageError(
    'Zoho is not configured: set ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET and ZOHO_REFRESH_TOKEN, or DRY_RUN=true',
    {
      code: 'zoho_not_configured',
      provider: 'zoho',
      kind: 'configuration',
    },
  );
}
