/** What must hold outside of Redis: in the CRM, in the alerts' channel, in the processes. */
import type { EventData } from '../../../src/lib/events.js';
import type { StoredLead } from '../../standins/zoho.js';
import { markerOf } from './check-effects.js';
import { groupBy, isAccepted, type Sent } from './history.js';
import type { PartEnd } from './parts.js';
import { expectCrm } from './reference.js';
import type { Snapshot } from './snapshot.js';
import type { Delivery } from './stories.js';
import type { Violation } from './violation.js';
import type { World } from './world.js';

/** One lead for each person, one note for each meeting and change, and the content that the events in order would give. */
export function checkCrm(
  world: World,
  snapshot: Snapshot,
  mayForget: (sent: Sent) => boolean,
  inDoubt: ReadonlySet<string>,
): Violation[] {
  const expected = expectCrm(deliveriesTakenIn(world, snapshot, mayForget));
  const leads = groupBy(world.zoho.leads(), ({ Email }) => String(Email).toLowerCase());
  const violations: Violation[] = [];
  const wrong = (text: string, more: Partial<Violation> = {}) => violations.push({ rule: 'crm', text, ...more });

  for (const [email, found] of leads) {
    if (found.length > 1) wrong(`${email} has ${found.length} leads`, { doubled: found.length - 1 });
    if (!expected.leads.has(email) && !inDoubt.has(email)) wrong(`${email} has a lead and should not`, { doubled: 1 });
  }
  for (const [email, { company, status }] of expected.leads) {
    const lead = leads.get(email)?.[0];
    if (lead === undefined) wrong(`${email} has no lead`, { lost: 1 });
    else if (!inDoubt.has(email))
      violations.push(...checkFields(email, lead, { Company: company, Lead_Status: status }));
  }
  violations.push(...checkNotes(world, expected.notes, inDoubt));
  return violations;
}

function checkFields(email: string, lead: StoredLead, expected: Record<string, string | undefined>): Violation[] {
  return Object.entries(expected).flatMap(([field, value]) =>
    value === undefined || lead[field] === value
      ? []
      : [{ rule: 'crm', email, text: `${email}: ${field} is ${lead[field]}, not ${value}` }],
  );
}

/** Exactly the notes that are expected, each once. Of who is in doubt there may be one for anything that was sent. */
function checkNotes(
  { zoho, history }: World,
  expected: ReturnType<typeof expectCrm>['notes'],
  inDoubt: ReadonlySet<string>,
): Violation[] {
  const emailOf = new Map(zoho.leads().map((lead) => [lead.id, String(lead.Email).toLowerCase()]));
  const found = groupBy(zoho.notes(), ({ parentId, content }) => `${emailOf.get(parentId)} ${markerOf(content)}`);
  const wanted = new Set(expected.map(({ email, key }) => `${email} ${key}`));
  const possible = new Set(
    history.sent.flatMap(({ delivery: { email, key } }) => (inDoubt.has(email) ? [`${email} ${key}`] : [])),
  );
  const violations: Violation[] = [];
  for (const [what, same] of found) {
    if (same.length > 1)
      violations.push({ rule: 'crm', doubled: same.length - 1, text: `${same.length} notes: ${what}` });
    if (!wanted.has(what) && !possible.has(what))
      violations.push({ rule: 'crm', doubled: 1, text: `a note that nobody asked for: ${what}, “${same[0]!.title}”` });
  }
  for (const { email, key, title } of expected) {
    const note = found.get(`${email} ${key}`)?.[0];
    if (note === undefined) violations.push({ rule: 'crm', lost: 1, key, text: `${email} has no note for ${key}` });
    else if (title !== undefined && !inDoubt.has(email) && !note.title.includes(title)) {
      violations.push({ rule: 'crm', key, text: `the note for ${key} is “${note.title}”, not “${title}”` });
    }
  }
  return violations;
}

/**
 * What a 2xx promised, and of the rest what the streams hold; without what failed for good. Pushes of a meeting stand in the
 * order of their revisions.
 */
function deliveriesTakenIn(
  { history }: World,
  { webhooks, byKey }: Snapshot,
  mayForget: (sent: Sent) => boolean,
): Delivery[] {
  const placeByBody = new Map(webhooks.map((entry, index) => [entry.fields.data, { entry, index }]));
  const taken = [...groupBy(history.sent, ({ delivery }) => delivery.body)].flatMap(([body, sent]) => {
    const found = placeByBody.get(body);
    const isPromised = sent.some((one) => isAccepted(one) && !mayForget(one));
    if (found === undefined) return isPromised ? [{ delivery: sent[0]!.delivery, index: -1 }] : [];
    const isFailed = !byKey.get(found.entry.key)!.some(({ type }) => type === 'lead.synced');
    return isFailed ? [] : [{ delivery: sent[0]!.delivery, index: found.index }];
  });
  return taken.sort((a, b) => a.index - b.index).map(({ delivery }) => delivery);
}

/** Of whom something may or may not have been taken in, or has failed half-way: whatever the CRM says of them is right. */
export function findInDoubt(
  { history }: World,
  { webhooks, byKey }: Snapshot,
  mayForget: (sent: Sent) => boolean,
): Set<string> {
  const entryByBody = new Map(webhooks.map((entry) => [entry.fields.data, entry]));
  const doubtful = history.sent.filter((sent) => {
    const { delivery, outcome } = sent;
    const entry = entryByBody.get(delivery.body);
    // What the service wrote and has forgotten it takes for a person's.
    if (mayForget(sent)) return true;
    if (entry === undefined) return outcome.kind === 'unknown';
    return byKey.get(entry.key)!.some(({ type }) => type === 'event.failed');
  });
  return new Set(doubtful.map(({ delivery }) => delivery.email));
}

/** One `alert.sent` for each failure, and one message that is not marked as a possible repeat; none for anything else. */
export function checkAlerts({ slack }: World, { byStream, failures }: Snapshot): Violation[] {
  const sent = byStream('events:alerted').map(
    ({ eventId, fields }) =>
      ({ ...JSON.parse(fields.data ?? '{}'), alertId: eventId }) as EventData<'alert.sent'> & Alert,
  );
  const alerted = groupBy(sent, ({ failureId }) => failureId);
  const violations: Violation[] = failures.flatMap(({ failureId, eventId, key }) => {
    const count = alerted.get(failureId)?.length ?? 0;
    if (count === 1) return [];
    const more = count === 0 ? { lost: 1 } : { doubled: count - 1 };
    return [{ rule: 'alerts', key, eventId, text: `${failureId} was alerted ${count} times`, ...more }];
  });
  violations.push(...checkSubjects(alerted, { byStream, failures }), ...checkPosted(slack.messages(), sent));
  for (const [eventId, own] of groupBy(failures, (failure) => failure.eventId)) {
    const texts = slack.messages().map((message) => `${message.text} ${JSON.stringify(message.blocks)}`);
    // One id may be how another one begins.
    const isNamed = new RegExp(`${eventId}(?!\\d)`);
    const plain = texts.filter((text) => isNamed.test(text) && !text.includes('possible repeat'));
    if (plain.length <= own.length) continue;
    const text = `Slack was told ${plain.length} times of ${eventId}, and not that it may be a repeat`;
    violations.push({ rule: 'alerts', eventId, doubled: plain.length - own.length, text });
  }
  return violations;
}

type Alert = { alertId: string };

/** Each is of a failure, or once of a provider's state. */
function checkSubjects(
  alerted: ReadonlyMap<string, readonly Alert[]>,
  { byStream, failures }: Pick<Snapshot, 'byStream' | 'failures'>,
): Violation[] {
  const failureIds = new Set(failures.map(({ failureId }) => failureId));
  const healthIds = new Set(byStream('events:health').map(({ eventId }) => eventId));
  return [...alerted].flatMap(([subject, own]): Violation[] => {
    if (failureIds.has(subject)) return [];
    if (!healthIds.has(subject))
      return [{ rule: 'alerts', text: `${own[0]!.alertId} is of ${subject}, which is not there` }];
    return own.length === 1 ? [] : [{ rule: 'alerts', text: `${subject} was alerted ${own.length} times`, doubled: 1 }];
  });
}

/** What is said to stand in the channel stands there. */
function checkPosted(
  messages: readonly { ts: string }[],
  sent: readonly (EventData<'alert.sent'> & Alert)[],
): Violation[] {
  const posted = new Set(messages.map(({ ts }) => ts));
  return sent.flatMap(({ alertId, failureId, delivery, ts }): Violation[] =>
    delivery === 'log' || (ts !== undefined && posted.has(ts))
      ? []
      : [{ rule: 'alerts', lost: 1, text: `${alertId} says that ${failureId} was told at ${ts}, and it was not` }],
  );
}

/** Nobody ended by himself, no rejection was left unhandled, no log line came in a flood. */
export function checkProcesses(world: World, mayEnd: (end: PartEnd) => boolean): Violation[] {
  return world.everyPart().flatMap((part) => {
    const ended = part.ends().filter((end) => !end.isByUs && !mayEnd(end));
    const texts = [
      ...part.complaints(),
      ...ended.map(({ pid, how }) => `${part.name} (${pid}) ended by itself: ${how}`),
    ];
    return texts.map((text) => ({ rule: 'processes' as const, text }));
  });
}
