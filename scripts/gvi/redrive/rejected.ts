/** Tries a webhook again that was authentic but unusable: its body goes the way of a delivery, from the JSON on. */
import { parseJson } from '../../../src/ingest/parse-json.js';
import { makeSources } from '../../../src/ingest/sources/index.js';
import { makeAppend, nameDelivery, ONLY_ASKED } from '../../../src/lib/append.js';
import { parseEventId } from '../../../src/lib/event-id.js';
import type { CommandContext } from '../command.js';

/**
 * - `taken_in`: as a new event; `known`: its event is known, by an earlier redrive or another delivery;
 * - `changed`: its event is known, and had other content: as a delivery it counts only where that event has failed;
 * - `unusable`: it still is; `ignored`: of no use to this service; `gone`: not in the stream any more.
 */
export type RejectedAnswer = {
  answer: 'taken_in' | 'known' | 'changed' | 'unusable' | 'ignored' | 'gone';
  /** The event that it became, or is known by. */
  as?: string;
};

const TIMEOUT_MS = 5_000;

export function makeRedriveRejected({ redis, keys, config }: CommandContext) {
  const sources = makeSources(config);
  const append = makeAppend({ ...config, redis, timeoutMs: TIMEOUT_MS });

  return async (eventId: string, { isDryRun }: { isDryRun: boolean }): Promise<RejectedAnswer> => {
    const found = await readBody(eventId);
    const source = sources.find(({ name }) => name === found?.source);
    if (found === undefined || source === undefined) return { answer: 'gone' };
    const json = parseJson(found.body);
    const reading = json === undefined ? undefined : source.read(json, found.body);
    if (reading === undefined || reading.kind === 'invalid') return { answer: 'unusable' };
    if (reading.kind === 'ignored') return { answer: 'ignored' };
    const { status, eventId: as } = await append(reading, isDryRun ? ONLY_ASKED : nameDelivery());
    const known = found.reason === 'changed' ? 'changed' : 'known';
    return { answer: status === 'accepted' ? 'taken_in' : known, ...(as ? { as } : {}) };
  };

  /** The bytes as they came: they need be neither JSON nor UTF-8. */
  async function readBody(eventId: string): Promise<{ source: string; reason: string; body: Buffer } | undefined> {
    const ref = parseEventId(eventId);
    if (ref === undefined) return undefined;
    const [entry] = await redis.xrangeBuffer(keys.stream(ref.stream), ref.id, ref.id);
    const fields = entry?.[1] ?? [];
    const field = (name: string) =>
      fields[fields.findIndex((part, index) => index % 2 === 0 && String(part) === name) + 1];
    const body = field('data');
    return body === undefined ? undefined : { source: String(field('source')), reason: String(field('reason')), body };
  }
}
