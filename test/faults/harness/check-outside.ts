/** What must hold outside of Redis: in the CRM, in the alerts' channel, in the processes. */
import type { StoredLead } from '../../standins/zoho.js';
import { groupBy, isAccepted, type Sent } from './history.js';
import { expectCrm } from './reference.js';
import type { Snapshot } from './snapshot.js';
import type { Delivery } from './stories.js';
import type { Violation } from './violation.js';
import type { World } from './world.js';

/** One lead for each person, one note for each meeting and change, and the content that the events in order would give. */
export function checkCrm(world: World, snapshot: Snapshot, mayForget: (sent: Sent) => boolean): Violation[] {
  const expected = expectCrm(deliveriesTakenIn(world, snapshot, mayForget));
  const inDoubt = findInDoubt(world, snapshot, mayForget);
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
      : [{ rule: 'crm', text: `${email}: ${field} is ${lead[field]}, not ${value}` }],
  );
}

function checkNotes(
  { zoho }: World,
  expected: ReturnType<typeof expectCrm>['notes'],
  inDoubt: ReadonlySet<string>,
): Violation[] {
  const emailOf = new Map(zoho.leads().map((lead) => [lead.id, String(lead.Email).toLowerCase()]));
  const found = groupBy(zoho.notes(), ({ parentId, content }) => `${emailOf.get(parentId)} ${markerOf(content)}`);
  const violations: Violation[] = [];
  for (const [what, same] of found) {
    if (same.length > 1)
      violations.push({ rule: 'crm', doubled: same.length - 1, text: `${same.length} notes: ${what}` });
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
function findInDoubt(
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

function markerOf(content: string): string {
  return /\[gvi:(.*)\]\s*$/.exec(content)?.[1] ?? 'without a marker';
}

/** One `alert.sent` for each failure, and one message that is not marked as a possible repeat. */
export function checkAlerts({ slack }: World, { byStream, failures }: Snapshot): Violation[] {
  const alerted = groupBy(
    byStream('events:alerted'),
    ({ fields }) => JSON.parse(fields.data ?? '{}').failureId as string,
  );
  const violations: Violation[] = failures.flatMap(({ failureId, eventId, key }) => {
    const count = alerted.get(failureId)?.length ?? 0;
    if (count === 1) return [];
    const more = count === 0 ? { lost: 1 } : { doubled: count - 1 };
    return [{ rule: 'alerts', key, eventId, text: `${failureId} was alerted ${count} times`, ...more }];
  });
  for (const [eventId, own] of groupBy(failures, (failure) => failure.eventId)) {
    const texts = slack.messages().map((message) => `${message.text} ${JSON.stringify(message.blocks)}`);
    const plain = texts.filter((text) => text.includes(eventId) && !text.includes('possible repeat'));
    if (plain.length <= own.length) continue;
    const text = `Slack was told ${plain.length} times of ${eventId}, and not that it may be a repeat`;
    violations.push({ rule: 'alerts', eventId, doubled: plain.length - own.length, text });
  }
  return violations;
}

/** No rejection left unhandled, no flood of log lines. */
export function checkProcesses(world: World): Violation[] {
  return world.everyPart().flatMap((part) => part.complaints().map((text) => ({ rule: 'processes' as const, text })));
}
