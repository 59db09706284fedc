/**
 * What a group would make of an entry, worked out with the consumers' own code, and with no call to anybody. Where a model
 * would be asked, an answer that it gave before stands in for it: to the same content, by the same prompt.
 */
import { makeFieldMap } from '../../../src/consumers/crm-sync/field-map.js';
import { type Foreseen, foresee } from '../../../src/consumers/crm-sync/foresee.js';
import type { CrmEvent } from '../../../src/consumers/crm-sync/lead-facts.js';
import { makeEnrich } from '../../../src/consumers/enrich.js';
import { readPrompt } from '../../../src/consumers/prompts/prompt.js';
import { estimateTokens } from '../../../src/consumers/summarize/transcript.js';
import { makeSummarize } from '../../../src/consumers/summarize.js';
import { decodeEntry } from '../../../src/lib/codec.js';
import type { Consumer, Context, SingleConsumer } from '../../../src/lib/consumer.js';
import { NotYetError, TerminalError } from '../../../src/lib/errors.js';
import { parseEventId } from '../../../src/lib/event-id.js';
import type { GroupName, LeadEnriched, MeetingSummarized, NewEvent, StoredEvent } from '../../../src/lib/events.js';
import type { LeadState } from '../../../src/lib/lead-state.js';
import type { Gemini } from '../../../src/lib/providers/gemini/gemini.js';
import { toRecord } from '../../../src/lib/runtime/entry.js';
import { leads } from '../../../src/projections/leads.js';
import type { CommandContext } from '../command.js';

export type ModelCall = {
  prompt: string;
  /** Of the question, estimated. */
  tokens: number;
  /** The entry whose answer stands in for the one that the model would give; without it the rest is not known. */
  stored?: string;
};

export type ForeseenEntry = { model?: ModelCall; crm?: Foreseen; error?: { code: string; message: string } };

export type ForeseeEntry = (eventId: string) => Promise<ForeseenEntry>;

/** Not thrown beyond this file: the consumer came to the point where it would ask. */
class WouldAsk extends Error {
  override readonly name = 'WouldAsk';
  readonly tokens: number;

  constructor(tokens: number) {
    super('The model would be asked');
    this.tokens = tokens;
  }
}

/** `replayId`: that of the entries that are to run again although they are processed. */
export function makeForeseeEntry(
  { config, redis, keys }: CommandContext,
  { group, replayId }: { group: GroupName; replayId: string | undefined },
): ForeseeEntry {
  const { internalDomains } = config;
  const gemini = config.gemini && neverAsking(config.gemini.model);
  const stages: Partial<Record<GroupName, Stage>> = {
    enrich: {
      asking: makeEnrich({ gemini, internalDomains }),
      alone: makeEnrich({ gemini: undefined, internalDomains }),
      prompt: readPrompt('enrich').version,
      answerIn: (event) => (event.type === 'lead.enriched' ? answerOfBooking(event.data) : undefined),
    },
    summarize: {
      asking: makeSummarize({ gemini, internalDomains }),
      alone: makeSummarize({ gemini: undefined, internalDomains }),
      prompt: readPrompt('summarize').version,
      answerIn: (event) => (event.type === 'meeting.summarized' ? answerOfMeeting(event.data) : undefined),
    },
  };
  const crm = { readLeads, fieldMap: makeFieldMap(config.zoho.fieldMap) };

  return async (eventId) => {
    try {
      const event = await readEvent(eventId);
      if (event === undefined) return {};
      const stage = stages[group];
      if (stage !== undefined) return await foreseeStage(event, stage);
      return isForCrm(event) ? { crm: await foresee(event, crm) } : {};
    } catch (error) {
      if (error instanceof TerminalError) return { error: { code: error.code, message: error.message } };
      if (error instanceof NotYetError) return { error: { code: 'not_yet', message: error.message } };
      throw error;
    }
  };

  async function foreseeStage(event: StoredEvent, stage: Stage): Promise<ForeseenEntry> {
    try {
      return { crm: await foreseeNext(event, await handle(stage.asking, event)) };
    } catch (error) {
      if (!(error instanceof WouldAsk)) throw error;
      const stored = await findStored(event, stage);
      const model = { prompt: stage.prompt, tokens: error.tokens };
      if (stored === undefined) return { model };
      const [followOn] = await handle(stage.alone, event);
      const data = { ...(followOn!.data as object), ...stored.answer };
      const crmForeseen = await foreseeNext(event, [{ ...followOn!, data } as NewEvent]);
      return { model: { ...model, stored: stored.eventId }, crm: crmForeseen };
    }
  }

  /** What crm-sync would make of the follow-on, which stands in no stream. */
  function foreseeNext(event: StoredEvent, [followOn]: readonly NewEvent[]): Promise<Foreseen> {
    const { id, key, at, fields } = event;
    return foresee({ ...followOn, id, key, at, cause: id, fields } as CrmEvent, crm);
  }

  async function readEvent(eventId: string): Promise<StoredEvent | undefined> {
    const ref = parseEventId(eventId);
    if (ref === undefined) return undefined;
    const [found] = await redis.xrange(keys.stream(ref.stream), ref.id, ref.id);
    if (found === undefined) return undefined;
    const fields = toRecord(found[1]);
    return decodeEntry(ref.stream, ref.id, replayId === undefined ? fields : { ...fields, replay: replayId });
  }

  /** Another delivery of the same content will do as well. */
  async function findStored(event: StoredEvent, { prompt, answerIn }: Stage) {
    const ids = Object.keys(await redis.hgetall(keys.progress(event.key)));
    for (const eventId of ids.filter((id) => /^(enriched|summarized)-/.test(id)).reverse()) {
      const earlier = await readEvent(eventId).catch(() => undefined);
      const found = earlier === undefined ? undefined : answerIn(earlier);
      if (found?.prompt === prompt && (await isSameContent(event, earlier!.cause))) {
        return { eventId, answer: found.answer };
      }
    }
    return undefined;
  }

  async function isSameContent(event: StoredEvent, cause: string | undefined): Promise<boolean> {
    if (cause === event.id) return true;
    const other = cause === undefined ? undefined : await readEvent(cause).catch(() => undefined);
    return other?.fields.hash !== undefined && other.fields.hash === event.fields.hash;
  }

  async function readLeads(emails: readonly string[]): Promise<Map<string, LeadState>> {
    if (emails.length === 0) return new Map();
    const saved = await redis.mget(emails.map((email) => keys.projection(leads.name, email)));
    return new Map(emails.map((email, index) => [email, JSON.parse(saved[index] ?? '{}') as LeadState]));
  }
}

type Stage = {
  asking: Consumer;
  alone: Consumer;
  prompt: string;
  /** What of an event came from a model, and from which prompt. */
  answerIn: (event: StoredEvent) => { prompt: string; answer: object } | undefined;
};

function neverAsking(model: string): Gemini {
  return {
    model,
    ask: async ({ system, user }) => {
      throw new WouldAsk(estimateTokens(`${system}\n${user}`));
    },
    check: async () => {},
  };
}

async function handle(consumer: Consumer, event: StoredEvent): Promise<NewEvent[]> {
  const context = { signal: new AbortController().signal, now: () => new Date() } as Context;
  return (consumer as SingleConsumer).handle(event, context);
}

function answerOfBooking({ assessment }: LeadEnriched) {
  return assessment && { prompt: assessment.by.prompt, answer: { assessment } };
}

function answerOfMeeting({ by, summary, meddic, unknown, objections, nextSteps, unproven }: MeetingSummarized) {
  return by && { prompt: by.prompt, answer: { by, summary, meddic, unknown, objections, nextSteps, unproven } };
}

function isForCrm(event: StoredEvent): event is CrmEvent {
  return event.type === 'lead.enriched' || event.type === 'meeting.summarized';
}
