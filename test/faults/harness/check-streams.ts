/** What must hold of the streams and of what follows from them. */
import { groupBy, isAccepted, type Sent } from './history.js';
import { descendants, type Snapshot, type SnapshotEntry } from './snapshot.js';
import type { Delivery } from './stories.js';
import type { Violation } from './violation.js';
import type { World } from './world.js';

/** What a 2xx named is there exactly once, byte for byte; what is unknown at most once; what failed not at all. */
export function checkTakenIn(
  { history }: World,
  { webhooks, byKey }: Snapshot,
  mayForget: (sent: Sent) => boolean,
): Violation[] {
  const violations: Violation[] = [];
  const byFirstKey = groupBy(webhooks, ({ key }) => firstKeyOf(key));
  for (const [key, sent] of history.byKey()) {
    const entries = byFirstKey.get(key) ?? [];
    for (const [body, ones] of groupBy(sent, ({ delivery }) => delivery.body)) {
      violations.push(
        ...checkBody(
          key,
          ones,
          entries.filter(({ fields }) => fields.data === body),
          byKey,
          mayForget,
        ),
      );
    }
    violations.push(
      ...checkNames(
        key,
        sent.filter((one) => !mayForget(one)),
        entries,
      ),
    );
  }
  const known = history.byKey();
  for (const [key, entries] of byFirstKey) {
    if (known.has(key)) continue;
    violations.push({ rule: 'taken-in', doubled: 1, key, text: `${key} was never sent`, eventId: entries[0]!.eventId });
  }
  return violations;
}

function checkBody(
  key: string,
  sent: readonly Sent[],
  entries: SnapshotEntry[],
  byKey: Snapshot['byKey'],
  mayForget: (sent: Sent) => boolean,
): Violation[] {
  const kinds = new Set(sent.map(({ outcome }) => outcome.kind));
  // A redelivery after a terminal failure is a new try.
  const failures = entries.flatMap((entry) => byKey.get(entry.key) ?? []).filter(({ type }) => type === 'event.failed');
  const most = 1 + failures.length;
  const eventId = entries[0]?.eventId;
  const at = { rule: 'taken-in' as const, key, ...(eventId === undefined ? {} : { eventId }) };
  if (sent.some((one) => isAccepted(one) && !mayForget(one)) && entries.length === 0)
    return [{ ...at, lost: 1, text: `${key} was taken in and is not there` }];
  if (kinds.size === 1 && kinds.has('fail') && entries.length > 0) {
    return [{ ...at, doubled: 1, text: `${key} was refused and is there` }];
  }
  if (entries.length > most) {
    const ids = entries.map((entry) => entry.eventId).join(' ');
    return [{ ...at, doubled: entries.length - most, text: `${key} is there ${entries.length} times: ${ids}` }];
  }
  return [];
}

/** What was taken in, and was not sent again since, and is not there. */
export function findForgotten({ history }: Pick<World, 'history'>, { webhooks }: Snapshot): Delivery[] {
  const bodies = new Set(webhooks.map(({ fields }) => fields.data));
  const accepted = new Map(history.sent.filter(isAccepted).map(({ delivery }) => [delivery.body, delivery]));
  return [...accepted.values()].filter(({ body }) => !bodies.has(body));
}

/** An answer names an entry of its event. */
function checkNames(key: string, sent: readonly Sent[], entries: readonly SnapshotEntry[]): Violation[] {
  const ids = new Set(entries.map(({ eventId }) => eventId));
  const named = new Set(sent.flatMap(({ outcome }) => outcome.answer?.eventId ?? []));
  const wrong = [...named].filter((eventId) => !ids.has(eventId));
  return wrong.map((eventId) => ({
    rule: 'taken-in',
    lost: 1,
    key,
    eventId,
    text: `${key}: an answer named ${eventId}`,
  }));
}

/** Every try ended in exactly one `lead.synced` or one `event.failed`: the first one, and each redrive of what had failed. */
export function checkEnded(_: World, snapshot: Snapshot): Violation[] {
  const redriven = countRedriven(snapshot);
  return snapshot.webhooks.flatMap((entry): Violation[] => {
    const chain = [entry, ...descendants(snapshot, entry)];
    const tries = 1 + chain.reduce((sum, { eventId }) => sum + (redriven.get(eventId) ?? 0), 0);
    const fresh = chain.filter(({ replay }) => replay === undefined);
    const synced = fresh.filter(({ type }) => type === 'lead.synced').length;
    const ends = synced + fresh.filter(({ type }) => type === 'event.failed').length;
    const at = { rule: 'ended' as const, key: entry.key, eventId: entry.eventId };
    if (ends < tries) return [{ ...at, lost: tries - ends, text: `${entry.eventId} ended ${ends} of ${tries} times` }];
    if (ends > tries || synced > 1) {
      const text = `${entry.eventId} ended ${ends} times, ${synced} of them synced, in ${tries} tries`;
      return [{ ...at, doubled: Math.max(ends - tries, synced - 1), text }];
    }
    return [];
  });
}

/** Of one cause and type at most one entry, and for each replay one more; of failures one for each redrive beside. */
export function checkFollowOns(_: World, snapshot: Snapshot): Violation[] {
  const redriven = countRedriven(snapshot);
  const caused = snapshot.entries.filter(({ cause }) => cause !== undefined);
  return [...groupBy(caused, ({ cause, type, replay }) => `${cause} ${type} ${replay ?? ''}`)].flatMap(
    ([what, same]) => {
      const { cause = '', type, key } = same[0]!;
      const most = 1 + (type === 'event.failed' ? (redriven.get(cause) ?? 0) : 0);
      if (same.length <= most) return [];
      const text = `${what} stands there ${same.length} times: ${same.map(({ eventId }) => eventId).join(' ')}`;
      return [{ rule: 'follow-ons', doubled: same.length - most, key, eventId: cause, text }];
    },
  );
}

/** How often an operator has handed an entry to its group again after it had failed. */
function countRedriven({ byStream }: Snapshot): Map<string, number> {
  const operations = byStream('events:operations').map(
    ({ fields }) => JSON.parse(fields.data ?? '{}') as { operation?: string; eventIds?: string[] },
  );
  const redriven = operations.flatMap(({ operation, eventIds }) => (operation === 'redrive' ? (eventIds ?? []) : []));
  return new Map([...groupBy(redriven, (eventId) => eventId)].map(([eventId, same]) => [eventId, same.length]));
}

/** `idem:seen` names the current try; `idem:processed` is there exactly where the event ended processed. */
export async function checkMarks({ client, keys }: World, { byKey, webhooks }: Snapshot): Promise<Violation[]> {
  const violations: Violation[] = [];
  for (const [key, tries] of groupBy(webhooks, (entry) => entry.key)) {
    const isSynced = byKey.get(key)!.some(({ type, replay }) => type === 'lead.synced' && replay === undefined);
    const [seen, processed, state] = await Promise.all([
      client.get(keys.idemSeen(key)),
      client.exists(keys.idemProcessed(key)),
      client.hget(keys.progress(key), 'state'),
    ]);
    const current = tries.at(-1)!.eventId;
    const at = { rule: 'marks' as const, key, eventId: current };
    if (seen !== current) violations.push({ ...at, text: `idem:seen of ${key} is ${seen}, not ${current}` });
    if ((processed === 1) !== isSynced) {
      violations.push({
        ...at,
        text: `idem:processed of ${key} is ${processed}, although it ${isSynced ? 'is' : 'is not'} synced`,
      });
    }
    if ((state === 'processed') !== isSynced) violations.push({ ...at, text: `the progress of ${key} says ${state}` });
  }
  return violations;
}

export function firstKeyOf(key: string): string {
  return key.replace(/^(readai:.*):r\d+$/, '$1');
}
