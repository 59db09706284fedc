/** What the payload itself says of a person. Calendly knows no company, title or website: they stand in the answers. */
import { clipLine } from '../../lib/clip.js';
import { normalizeEmail } from '../../lib/email-address.js';
import type { LeadFacts } from '../../lib/events.js';
import type { CalendlyInviteeWebhook, CalendlyRoutingFormWebhook } from '../../lib/payloads/calendly.js';
import { leadSourceOf } from './lead-source.js';
import { nameOf } from './names.js';
import { type Answer, answerTo, isAddress, isPhone } from './questions.js';

export const FACT_MAX = 200;

export function factsOfInvitee({ payload }: CalendlyInviteeWebhook): LeadFacts {
  const answers = payload.questions_and_answers;
  return boundFacts({
    ...nameOf({ first: payload.first_name, last: payload.last_name, full: payload.name }),
    ...factsOfAnswers(answers),
    phone: answerTo('phone', answers) ?? payload.text_reminder_number ?? phoneOfPlace(payload.scheduled_event),
    leadSource: leadSourceOf(payload.tracking),
    timezone: payload.timezone,
  });
}

/** A routing form has no field of its own for anything: even the email is an answer. */
export function factsOfRoutingForm({ payload }: CalendlyRoutingFormWebhook): LeadFacts {
  const answers = payload.questions_and_answers;
  return boundFacts({
    ...nameOf({
      first: answerTo('firstName', answers),
      last: answerTo('lastName', answers),
      full: answerTo('fullName', answers),
    }),
    ...factsOfAnswers(answers),
    phone: answerTo('phone', answers),
    leadSource: leadSourceOf(payload.tracking),
  });
}

/** The answer to a question for it, else the one answer that is an address; nothing when several are. */
export function findEmail(answers: readonly Answer[]): string | undefined {
  const own = answers.filter(({ question = '' }) => !isAboutSomebodyElse(question));
  const asked = answerTo('email', own);
  if (asked !== undefined) return normalizeEmail(asked);
  const addresses = own.map(({ answer = '' }) => answer.trim()).filter(isAddress);
  const distinct = new Set(addresses.map(normalizeEmail));
  return distinct.size === 1 ? [...distinct][0] : undefined;
}

const ABOUT_SOMEBODY_ELSE = /colleague|referr|recommend|guest|manager|invite|somebody|someone|else/i;
/** These are about the person all the same. */
const OWN_WORDINGS =
  /\bsend (you )?(the|an|your) invite\b|\b(shared?|sold|given) (to |with )?(any|no) ?(one|body) else\b/gi;
const QUESTION_MAX = 500;

function isAboutSomebodyElse(question: string): boolean {
  return ABOUT_SOMEBODY_ELSE.test(question.slice(0, QUESTION_MAX).replace(OWN_WORDINGS, ''));
}

type Facts = { [K in keyof LeadFacts]: LeadFacts[K] | undefined };

/** Drops what is missing and bounds what is there. */
export function boundFacts(facts: Facts): LeadFacts {
  const bounded = Object.entries(facts).flatMap(([name, value]) => {
    const text = clipLine(value ?? '', FACT_MAX);
    return text === '' ? [] : [[name, text]];
  });
  return Object.fromEntries(bounded) as LeadFacts;
}

function factsOfAnswers(answers: readonly Answer[]): Facts {
  return {
    company: answerTo('company', answers),
    jobTitle: answerTo('jobTitle', answers),
    industry: answerTo('industry', answers),
    website: answerTo('website', answers),
  };
}

/** Only of a call that the host makes: the number of any other call is the host's own. */
function phoneOfPlace(event: CalendlyInviteeWebhook['payload']['scheduled_event']): string | undefined {
  const { type, location } = event?.location ?? {};
  return type === 'outbound_call' && location !== undefined && isPhone(location) ? location : undefined;
}
