/**
 * How the CRM must look in the end, worked out from the webhooks alone, in the order in which they happened: a second opinion
 * that shares no code with the service.
 */
import { groupBy } from './history.js';
import type { Delivery } from './stories.js';

export type ExpectedLead = { company?: string; status?: string };
export type ExpectedNote = { email: string; key: string; title?: string };
export type ExpectedCrm = { leads: Map<string, ExpectedLead>; notes: ExpectedNote[] };

type Payload = {
  uri: string;
  old_invitee?: string | null;
  questions_and_answers?: { answer: string }[];
  scheduled_event?: { start_time: string };
};

const STATUS: Record<string, string> = { booked: 'Meeting Booked', canceled: 'Meeting Canceled', no_show: 'No Show' };

/** Of a meeting's pushes the last one counts: they must stand in the order in which they were taken in. */
export function expectCrm(deliveries: readonly Delivery[]): ExpectedCrm {
  const leads = new Map<string, ExpectedLead>();
  const notes = new Map<string, ExpectedNote>();
  for (const [email, own] of groupBy(deliveries, (delivery) => delivery.email)) {
    const calls = own
      .filter(({ source, kind }) => source === 'calendly' && kind !== 'moved_away')
      .sort((a, b) => (a.happenedAt < b.happenedAt ? -1 : 1));
    const meetings = own.filter(({ source }) => source === 'readai');
    if (calls.length + meetings.length > 0) leads.set(email, { ...companyOf(calls), ...statusOf(calls) });
    for (const { kind, key } of calls) if (kind !== 'booked') notes.set(`${email} ${key}`, { email, key });
    for (const { key, body } of meetings) {
      notes.set(`${email} ${key}`, { email, key, title: (JSON.parse(body) as { title: string }).title });
    }
  }
  return { leads, notes: [...notes.values()] };
}

/** What became of a booking comes with what was said when it was made, and corrects nothing. */
function companyOf(calls: readonly Delivery[]): ExpectedLead {
  const said = calls.filter(({ kind }) => kind === 'booked' || kind === 'moved');
  const last = said.at(-1) ?? calls.at(-1);
  const company = last && payloadOf(last).questions_and_answers?.[0]?.answer;
  return company === undefined ? {} : { company };
}

/** The latest event decides; neither a cancellation nor a call that was missed hides another one that is still to come. */
function statusOf(calls: readonly Delivery[]): ExpectedLead {
  const bookings = new Map<string, { state: string; startsAt: number }>();
  for (const call of calls) {
    const { uri, old_invitee: old, scheduled_event: event } = payloadOf(call);
    if (old != null) bookings.delete(idOf(old));
    const state = call.kind === 'moved' ? 'booked' : call.kind;
    bookings.set(idOf(uri), { state, startsAt: Date.parse(event?.start_time ?? '') });
  }
  const last = calls.at(-1);
  if (last === undefined) return {};
  const state = last.kind === 'moved' ? 'booked' : last.kind;
  const others = [...bookings.values()].some(
    (one) => one.state === 'booked' && one.startsAt > Date.parse(last.happenedAt),
  );
  return { status: STATUS[others ? 'booked' : state]! };
}

function payloadOf({ body }: Delivery): Payload {
  return (JSON.parse(body) as { payload: Payload }).payload;
}

function idOf(uri: string): string {
  return uri.slice(uri.lastIndexOf('/') + 1);
}
