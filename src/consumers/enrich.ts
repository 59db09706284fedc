/** Who is the lead of a Calendly event, what does it mean for them, and what does a model make of it. */
import { isColleagueBooking, isInternalDomain } from '../lib/colleagues.js';
import { type Context, defineConsumer } from '../lib/consumer.js';
import { normalizeEmail } from '../lib/email-address.js';
import type { LeadEnriched } from '../lib/events.js';
import type { CalendlyInviteeWebhook, CalendlyRoutingFormWebhook } from '../lib/payloads/calendly.js';
import type { Gemini } from '../lib/providers/gemini/gemini.js';
import { assess } from './enrich/assess.js';
import { bookingOfInvitee, bookingOfRoutingForm } from './enrich/booking.js';
import { bookingKind, bringsSomethingNew, isWorthAssessing } from './enrich/booking-kind.js';
import { factsOfInvitee, factsOfRoutingForm, findEmail } from './enrich/lead-facts.js';
import { type Prompt, readPrompt } from './prompts/prompt.js';

export type EnrichOptions = {
  /** Without it leads carry the facts of the payload and no assessment. */
  gemini: Pick<Gemini, 'ask'> | undefined;
  internalDomains: readonly string[];
  promptsDir?: string;
};

export function makeEnrich({ gemini, internalDomains, promptsDir }: EnrichOptions) {
  const prompt = readPrompt('enrich', promptsDir);
  return defineConsumer({
    name: 'enrich',
    on: [
      'calendly.invitee.created',
      'calendly.invitee.canceled',
      'calendly.invitee_no_show.created',
      'calendly.invitee_no_show.deleted',
      'calendly.routing_form_submission.created',
    ],
    emits: ['lead.enriched'],
    needs: ({ data }) => (gemini !== undefined && isWorthAssessing(leadOf(data, internalDomains)) ? ['gemini'] : []),
    async handle({ data }, { signal, isProbe }) {
      const lead = leadOf(data, internalDomains);
      const assessed = await withAssessment(lead, { gemini, prompt, signal, isProbe });
      return [{ type: 'lead.enriched', data: withoutToldAnswers(assessed) }];
    },
  });
}

/** The lead as the payload tells it, with no call to anybody. */
export function leadOf(
  webhook: CalendlyInviteeWebhook | CalendlyRoutingFormWebhook,
  internalDomains: readonly string[],
): LeadEnriched {
  const common = { kind: bookingKind(webhook), happenedAt: webhook.created_at };
  if (webhook.event === 'routing_form_submission.created') {
    const email = findEmail(webhook.payload.questions_and_answers);
    return {
      ...common,
      ...(email !== undefined && { email }),
      ...(email !== undefined && isInternalDomain(email, internalDomains) && { internal: true }),
      facts: factsOfRoutingForm(webhook),
      booking: bookingOfRoutingForm(webhook),
    };
  }
  return {
    ...common,
    email: normalizeEmail(webhook.payload.email),
    ...(isColleagueBooking(webhook, internalDomains) && { internal: true }),
    facts: factsOfInvitee(webhook),
    booking: bookingOfInvitee(webhook),
  };
}

async function withAssessment(
  lead: LeadEnriched,
  {
    gemini,
    prompt,
    ...call
  }: { gemini: EnrichOptions['gemini']; prompt: Prompt } & Pick<Context, 'signal' | 'isProbe'>,
): Promise<LeadEnriched> {
  const { email } = lead;
  if (!gemini || email === undefined || !isWorthAssessing(lead)) return lead;
  return { ...lead, assessment: await assess({ ...lead, email }, { gemini, prompt, ...call }) };
}

/**
 * No stage carries the payload on: an answer that has become a fact is told by it, and only a booking or a form is
 * described by its answers.
 */
function withoutToldAnswers(lead: LeadEnriched): LeadEnriched {
  const { answers, ...booking } = lead.booking ?? {};
  if (lead.booking === undefined || answers === undefined) return lead;
  const told = new Set([...Object.values(lead.facts), lead.email].map((text) => text?.toLowerCase()));
  const left = bringsSomethingNew(lead.kind) ? answers.filter(({ answer }) => !told.has(answer.toLowerCase())) : [];
  return { ...lead, booking: { ...booking, id: lead.booking.id, ...(left.length > 0 && { answers: left }) } };
}
